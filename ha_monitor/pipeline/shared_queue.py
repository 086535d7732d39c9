"""The leader's duty for the shared queue: find out whether it has consumers other than the instances of this store.

If two stores use one queue by mistake, they share the events: each has only some events of a task, and names and ends
are missing in both. A broker tells an ordinary user how many consumers a queue has, but not who they are. So the
consumers are counted, and compared with the instances that the store knows.
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

GRACE = 10.0
"""Seconds for which there must be too many consumers, in addition to the time for which a broker keeps the consumer of
a client that disappeared."""

ABANDONED_GRACE = 3600.0
"""The same, if the extra consumers may belong to abandoned connections: a quorum queue counts the consumers of a node
that went down for as long as the node is down."""


class SharedQueueDuty:
    """Reports, once while it lasts, that the queue has more consumers than instances. `found` says it at any time."""

    def __init__(
        self, store: Store, stats: Stats, logger: Logger, clock: Clock, *, queue: str, requeue_delay: float
    ) -> None:
        """
        :param queue: name of the shared queue.
        :param requeue_delay: seconds for which the broker may keep the consumer of a client that disappeared.
        """
        self._store = store
        self._stats = stats
        self._logger = logger
        self._clock = clock
        self._queue = queue
        self._settled_after = requeue_delay + GRACE
        self._consumers: int | None = None
        self._connections: dict[int, int] = {}
        """Token of an instance → how often it has connected."""
        self._settled: dict[int, int] = {}
        """The same when there were last no extra consumers."""
        self._since = 0.0
        self._shared_since: float | None = None
        self._is_known = False
        """Whether extra consumers, if there are any, certainly belong to others."""
        self._counted: deque[tuple[float, int, int]] = deque()
        """(time, consumers, instances), for the latest time in which consumers of lost connections may be counted."""

    @property
    def found(self) -> SharedQueue | None:
        """None while consumers of others cannot be distinguished from those of lost connections."""
        if not self._is_known:
            return None
        if self._shared_since is None or not self._counted:
            return SharedQueue(self._queue)
        # An instance that checks whether a quiet queue still delivers is an additional consumer for that moment.
        _, consumers, instances = min(self._counted, key=lambda one: one[1] - one[2])
        return SharedQueue(self._queue, consumers, instances, self._clock.monotonic() - self._shared_since)

    def consumers_seen(self, consumers: int | None) -> None:
        """The consumers of the shared queue were counted; None if the broker does not count them. Does not block."""
        self._consumers = consumers
        if consumers is None:
            self._not_shared()

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

    def _not_shared(self) -> None:
        self._shared_since, self._is_known = None, True
        self._counted.clear()

    def _compare(self, consumers: int) -> None:
        peers = self._store.peers()
        # Each abandoned connection may have left a consumer for a while.
        connections = {peer.token: _connects_of(peer) for peer in peers}
        connections[self._store.token] = self._stats.broker_connects
        instances, now = len(connections), self._clock.monotonic()
        # If an instance does not consume, one of the counted consumers may belong to somebody else.
        if consumers <= 1 + sum(peer.stats.get("state") == CONSUMING for peer in peers):
            self._not_shared()
        if consumers <= instances:
            self._settled = connections
        else:
            self._count(now, consumers, instances)
            self._is_known = self._shared_since is not None
        if consumers <= instances or connections != self._connections:
            self._connections, self._since = connections, now
            return
        given_up = sum(count - self._settled.get(token, 1) for token, count in connections.items())
        settled_after = ABANDONED_GRACE if consumers - instances <= given_up else self._settled_after
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
    """How often an instance has connected, as far as its statistics in the store are usable; else 1."""
    connects = peer.stats.get("broker_connects")
    return connects if isinstance(connects, int) else 1
