"""Whether all instances of one `node_id` consume from the same broker.

Those that do not would share one record of two applications: the leader asks the workers of its own broker only, and
would call the tasks of the others' orphaned.

A RabbitMQ has a name. A Redis has none that outlives a restart and a fail-over, and needs no further rights to be read.
But what an instance publishes there reaches all others that listen there (`Source.greetings`): of two instances at one
Redis, the one that connected first has received the other's greeting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.namesakes import Namesakes
from ha_monitor.pipeline.stats import CONSUMING, Stats
from ha_monitor.store.api import Store

APART_FOR = 30.0
"""Seconds for which two instances must have been found apart: as of their latest ticks, which are not of one moment."""
MOST_BEHIND = 10.0
"""Seconds since when an instance may have handled what it was sent: a greeting may lie behind much else."""


class Listener(NamedTuple):
    """What an instance has received of the others at its broker."""

    greeting: str
    greetings: Collection[str]
    behind: float | None
    """As `Stats`."""

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Listener:
        """As an instance has published it; one of a version that greets nobody has received nothing."""
        greeting, greetings, behind = stats.get("greeting"), stats.get("greetings"), stats.get("behind")
        return cls(
            greeting if isinstance(greeting, str) else "",
            greetings if isinstance(greetings, list) else (),
            behind if isinstance(behind, (int, float)) else None,
        )

    def is_apart_from(self, other: Listener) -> bool:
        """Whether the two listen at different brokers: each has its own greeting, neither the other's, and neither may
        still have it before it.
        """
        if not (self.greeting and other.greeting):
            return False
        if self.greeting in other.greetings or other.greeting in self.greetings:
            return False
        return all(one.behind is not None and one.behind <= MOST_BEHIND for one in (self, other))


class Peers:
    """Compares the broker of this instance with those of the others."""

    def __init__(
        self, store: Store, stats: Stats, node_id: str, logger: Logger, clock: Clock, *, namesakes: Namesakes
    ) -> None:
        """:param namesakes: are told of those that registered earlier."""
        self._namesakes = namesakes
        self._store = store
        self._stats = stats
        self._node_id = node_id
        self._logger = logger
        self._clock = clock
        self._apart: dict[tuple[str, str], float] = {}
        """Pairs of greetings of instances that are apart, and since when."""
        self._told: set[tuple[str, str]] = set()

    def check(self, place: str, *, older_only: bool = False) -> None:
        """Compare with the instances that consume.

        :param place: of the broker to consume from; `Source.place`.
        :param older_only: compare with those that registered earlier: of two that began at once, the later one yields.
        :raises BrokerUnavailable: if another one consumes elsewhere. Waiting helps: that one may be about to stop.
        :raises StoreUnavailable: as `store/api.py` says.
        """
        if not place:
            return
        if not self._store.connected:
            return  # as with Redis as the broker while the store is unavailable; the next check comes
        older: list[Mapping[str, Any]] = []
        peers = self._store.peers()
        if older_only:
            self._namesakes.look(peer for peer in peers if peer.token < self._store.token)
        for peer in peers:
            theirs = peer.stats.get("place")
            if peer.stats.get("state") != CONSUMING or not theirs:
                continue
            if theirs != place and (not older_only or peer.token < self._store.token):
                raise BrokerUnavailable(
                    f"another instance of node_id {self._node_id} consumes from {theirs}, this one would from {place}: "
                    "give the instances of each broker a node_id of their own"
                )
            if peer.token < self._store.token:
                older.append(peer.stats)
        self._stats.place = place
        if older_only:
            self._compare_greetings(older)

    def _compare_greetings(self, older: list[Mapping[str, Any]]) -> None:
        """Say of an instance that registered earlier, once while it lasts, that it listens at another broker."""
        own, now = Listener(self._stats.greeting, self._stats.greetings, self._stats.behind), self._clock.monotonic()
        listeners = [(Listener.of(stats), stats) for stats in older]
        apart = {(own.greeting, one.greeting): stats for one, stats in listeners if own.is_apart_from(one)}
        self._apart = {pair: self._apart.get(pair, now) for pair in apart}
        self._told &= apart.keys()
        for pair, stats in apart.items():
            if now - self._apart[pair] >= APART_FOR and pair not in self._told:
                self._told.add(pair)
                reason = apart_text(self._node_id, self._stats.broker, str(stats.get("broker")))
                self._logger.error("brokers-differ", reason=reason)


def apart_text(node_id: str, one: str, other: str) -> str:
    """What is wrong, and what to do.

    :param one: address of a broker; the other is that of another instance.
    """
    return (
        f"instances of node_id {node_id} consume from two Redis, at {one} and at {other}: what is sent to all that "
        "listen at one does not reach the other, so that one record mixes two applications; give the instances of each "
        "broker a node_id of their own"
    )
