"""The leader's duty for the shared queue: find out whether anything but the instances of its store consumes it.

Two stores on one queue, by mistake, share the events: each has one part of a task, and names and ends are missing in
both. A broker tells an ordinary user how many consumers a queue has, and not who they are. So they are counted, and
compared with the instances that the store knows.
"""

from __future__ import annotations

from collections import deque

from ha_monitor.clock import Clock
from ha_monitor.incidents.shared_queue import SharedQueue, shared_text
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.stats import CONSUMING, Stats
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
    """Says once, while it lasts, that the queue has more consumers than there are instances; `found` says it always."""

    def __init__(
        self, store: Store, stats: Stats, logger: Logger, clock: Clock, *, queue: str, requeue_delay: float
    ) -> None:
        """
        :param queue: its name.
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
        self._shared_since: float | None = None
        self._is_known = False
        """Whether consumers that are too many, if there are any, are those of others."""
        self._counted: deque[tuple[float, int, int]] = deque()
        """When there were how many consumers and instances, as long as a consumer of nobody may be counted."""

    @property
    def found(self) -> SharedQueue | None:
        """None while consumers of others cannot be told from those that were left behind."""
        if not self._is_known:
            return None
        if self._shared_since is None or not self._counted:
            return SharedQueue(self._queue)
        # An instance that asks a quiet queue whether it still delivers is one more for that moment.
        _, consumers, instances = min(self._counted, key=lambda one: one[1] - one[2])
        return SharedQueue(self._queue, consumers, instances, self._clock.monotonic() - self._shared_since)

    def consumers_seen(self, consumers: int | None) -> None:
        """The consumers of the shared queue were counted; None where they are not. Does not block."""
        self._consumers = consumers
        if consumers is None:
            self._alone()

    def start_anew(self) -> None:
        self._consumers = None
        self._connections = {}
        self._settled = {}
        self._shared_since = None
        self._is_known = False
        self._counted.clear()

    def run(self) -> list[OutboxItem]:
        consumers, self._consumers = self._consumers, None
        if consumers is not None:
            self._compare(consumers)
        return []

    def _alone(self) -> None:
        self._shared_since, self._is_known = None, True
        self._counted.clear()

    def _compare(self, consumers: int) -> None:
        peers = self._store.peers()
        # Each connection that was given up may have left a consumer behind for a while.
        connections = {peer.token: _connects_of(peer) for peer in peers}
        connections[self._store.token] = self._stats.broker_connects
        instances, now = len(connections), self._clock.monotonic()
        # Where an instance does not consume, a consumer of another may be in its place.
        if consumers <= 1 + sum(peer.stats.get("state") == CONSUMING for peer in peers):
            self._alone()
        if consumers <= instances:
            self._settled = connections
        else:
            self._count(now, consumers, instances)
            self._is_known = self._shared_since is not None
        if consumers <= instances or connections != self._connections:
            self._connections, self._since = connections, now
            return
        given_up = sum(count - self._settled.get(token, 1) for token, count in connections.items())
        settled_after = LEFT_BEHIND if consumers - instances <= given_up else self._settled_after
        if now - self._since >= settled_after and self._shared_since is None:
            self._shared_since, self._is_known = self._since, True
            self._logger.error(
                "queue-shared",
                queue=self._queue,
                consumers=consumers,
                instances=instances,
                reason=shared_text(self._queue, consumers, instances),
            )

    def _count(self, now: float, consumers: int, instances: int) -> None:
        self._counted.append((now, consumers, instances))
        while now - self._counted[0][0] > self._settled_after:
            self._counted.popleft()


def _connects_of(peer: Peer) -> int:
    """How often an instance has connected, by what the store has of it, which may be anything."""
    connects = peer.stats.get("broker_connects")
    return connects if isinstance(connects, int) else 1
