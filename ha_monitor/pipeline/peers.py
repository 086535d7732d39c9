"""Checks that all instances of one `node_id` consume from the same broker.

Otherwise, two applications would share one record: the leader asks only the workers of its own broker, and would call
the tasks of the other application orphaned.

A RabbitMQ broker has a name. Redis has none that survives a restart and a fail-over and needs no further right to read.
But what an instance publishes there reaches all other subscribers (`Source.greetings`): of two instances at the same
Redis, the one that connected first has received the other's greeting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ha_monitor.clock import Clock
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.incidents.listeners import Listener, different_brokers_text
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.duplicate_names import DuplicateNames
from ha_monitor.pipeline.stats import CONSUMING, Stats
from ha_monitor.store.api import Store

REPORT_AFTER = 30.0
"""Seconds for which two instances must be found at different brokers before that is reported: each is known only as of
its latest tick, and the ticks are not simultaneous."""


class Peers:
    """Compares the broker of this instance with the brokers of the others."""

    def __init__(
        self, store: Store, stats: Stats, node_id: str, logger: Logger, clock: Clock, *, duplicate_names: DuplicateNames
    ) -> None:
        """:param duplicate_names: receives the instances that registered earlier."""
        self._duplicate_names = duplicate_names
        self._store = store
        self._stats = stats
        self._node_id = node_id
        self._logger = logger
        self._clock = clock
        self._apart: dict[tuple[str, str], float] = {}
        """Pair of greetings of two instances at different brokers → since when that is known."""
        self._reported: set[tuple[str, str]] = set()

    def check(self, place: str, *, older_only: bool = False) -> None:
        """Compare this instance with the other instances that consume.

        :param place: `Source.place` of the broker to consume from. Without a place, only names are compared.
        :param older_only: compare only with instances that registered earlier: if two began at the same time, the later
            one yields.
        :raises BrokerUnavailable: if another instance consumes from another broker. Waiting helps: it may be about to
            stop.
        :raises StoreUnavailable: as `store/api.py` says.
        """
        if not (place or older_only):
            return
        if not self._store.connected:
            return  # with Redis as the broker, an instance consumes while the store is unavailable; check later
        older: list[Mapping[str, Any]] = []
        peers = self._store.peers()
        if older_only:
            self._duplicate_names.look(peer for peer in peers if peer.token < self._store.token)
        if not place:
            return
        for peer in peers:
            theirs = peer.stats.get("place")
            if peer.stats.get("state") != CONSUMING or not theirs:
                continue
            if theirs != place and (not older_only or peer.token < self._store.token):
                raise BrokerUnavailable(
                    f"another instance of node_id {self._node_id} consumes from {theirs}, but this one is connected to "
                    f"{place}: use a separate node_id for each broker"
                )
            if peer.token < self._store.token:
                older.append(peer.stats)
        self._stats.place = place
        if older_only:
            self._compare_greetings(older)

    def _compare_greetings(self, older: list[Mapping[str, Any]]) -> None:
        """Report, once while it lasts, that an instance that registered earlier subscribes at another broker."""
        own, now = Listener(self._stats.greeting, self._stats.greetings, self._stats.behind), self._clock.monotonic()
        listeners = [(Listener.of(stats), stats) for stats in older]
        apart = {(own.greeting, one.greeting): stats for one, stats in listeners if own.is_at_other_broker(one)}
        self._apart = {pair: self._apart.get(pair, now) for pair in apart}
        self._reported &= apart.keys()
        for pair, stats in apart.items():
            if now - self._apart[pair] >= REPORT_AFTER and pair not in self._reported:
                self._reported.add(pair)
                reason = different_brokers_text(self._stats.broker, str(stats.get("broker")), self._node_id)
                self._logger.error("brokers-differ", reason=reason)
