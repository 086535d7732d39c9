"""The leader's duty for the shared queue: find out whether anything but the instances of its store consumes it.

Two stores on one queue, by mistake, share the events: each has one part of a task, and names and ends are missing in
both. A broker tells an ordinary user how many consumers a queue has, and not who they are. So they are counted, and
compared with the instances that the store knows.
"""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Peer

LONGER = 10.0
"""Seconds for which there must be too many, in addition to those for which a broker keeps the consumer of a client that
disappeared."""

LEFT_BEHIND = 3600.0
"""Seconds, where the consumers too many may be those of connections that were given up: a quorum queue counts the
consumers of a node that went down for as long as that is away."""


class StrangersDuty:
    """Says once, while it lasts, that the queue has more consumers than there are instances."""

    def __init__(
        self, store: Store, stats: Stats, logger: Logger, clock: Clock, *, queue: str, requeue_delay: float
    ) -> None:
        """
        :param queue: its name, for the log.
        :param requeue_delay: seconds for which the broker may keep the consumer of a client that disappeared.
        """
        self._store = store
        self._stats = stats
        self._logger = logger
        self._clock = clock
        self._queue = queue
        self._settled_after = requeue_delay + LONGER
        self._consumers: int | None = None
        self._connections: dict[int, int] = {}
        """How often each instance has connected, by its token."""
        self._settled: dict[int, int] = {}
        """The same when there were last no consumers too many."""
        self._since = 0.0
        self._is_said = False

    def consumers_seen(self, consumers: int | None) -> None:
        """The consumers of the shared queue were counted; None where they are not. Does not block."""
        self._consumers = consumers

    def start_anew(self) -> None:
        self._consumers = None
        self._connections = {}
        self._settled = {}
        self._is_said = False

    def run(self) -> list[OutboxItem]:
        consumers, self._consumers = self._consumers, None
        if consumers is not None:
            self._compare(consumers)
        return []

    def _compare(self, consumers: int) -> None:
        # Each connection that was given up may have left a consumer behind for a while.
        connections = {peer.token: _connects_of(peer) for peer in self._store.peers()}
        connections[self._store.token] = self._stats.broker_connects
        instances, now = len(connections), self._clock.monotonic()
        if consumers <= instances:
            self._is_said = False
            self._settled = connections
        if consumers <= instances or connections != self._connections:
            self._connections, self._since = connections, now
            return
        given_up = sum(count - self._settled.get(token, 1) for token, count in connections.items())
        settled_after = LEFT_BEHIND if consumers - instances <= given_up else self._settled_after
        if now - self._since >= settled_after and not self._is_said:
            self._is_said = True
            self._logger.error(
                "queue-shared",
                queue=self._queue,
                consumers=consumers,
                instances=instances,
                reason=shared_text(self._queue, consumers, instances),
            )


def shared_text(queue: str, consumers: int, instances: int) -> str:
    """What is wrong, and what to do."""
    return (
        f"{queue} has {consumers} consumers, and this store knows {instances} "
        f"instance{'' if instances == 1 else 's'}: something else takes events away, probably instances with another "
        "store; give those a node_id of their own, or the same store.url"
    )


def _connects_of(peer: Peer) -> int:
    """How often an instance has connected, by what the store has of it, which may be anything."""
    connects = peer.stats.get("broker_connects")
    return connects if isinstance(connects, int) else 1
