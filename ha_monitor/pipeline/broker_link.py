"""The connection to the broker: whether this instance consumes, and what keeps the connection alive."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.source import Source
from ha_monitor.clock import Clock
from ha_monitor.dialing import Dialed
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.link import Link
from ha_monitor.pipeline.peers import Peers
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.watch import Publishers
from ha_monitor.pipeline.watermark import FleetWatermark, Watermark
from ha_monitor.schedule import Schedule
from ha_monitor.threads import Threads

HEARTBEAT_EVERY = 1.0
"""Seconds between two checks of the heartbeats."""
DEPTH_EVERY = 5.0
"""Seconds between two queries of the queue's length."""
QUIET_AFTER = 1.0
"""Seconds an answer of the broker may be outstanding before silence proves nothing about the workers."""
SILENT_AFTER = 3.0
"""Seconds an answer of the broker may be outstanding before the instance reports that it does not receive."""
PEERS_EVERY = 5.0
"""Seconds between two comparisons with the brokers of the other instances."""


class Broadcast(Publishers, Protocol):
    """Requests a heartbeat from the workers."""

    def send(self, url: str) -> object:
        """Send the request to the workers of a broker. Does not block, never raises."""


class QueueWatcher(Protocol):
    """Receives what is learned about the shared queue."""

    def delivered(self, at: float) -> None:
        """The broker delivered messages, or proved that it can. Does not block.

        :param at: time by the monotonic clock.
        """

    def queue_seen(self, depth: int | None, asked_at: float, consumers: int | None) -> None:
        """The shared queue was queried. Does not block.

        :param depth: its length; None if there is no queue.
        :param asked_at: time of the query by the monotonic clock.
        :param consumers: number of its consumers; None if they are not counted.
        """


class BrokerLink(Link[str]):
    """The state of the connection: whether this instance consumes."""

    def __init__(
        self,
        source: Source,
        *,
        queue: str,
        stats: Stats,
        health: Health,
        report: Report,
        watermark: Watermark,
        logger: Logger,
        clock: Clock,
        broadcast: Broadcast,
        watcher: QueueWatcher,
        peers: Peers,
        threads: Threads,
    ) -> None:
        """:param queue: name of the shared queue, for the log."""
        super().__init__(
            "the broker",
            "broker",
            "broker-unavailable",
            first_backoff=0.5,
            max_backoff=10.0,
            report=report,
            logger=logger,
            clock=clock,
            thread=threads.calls("broker"),
        )
        self._source = source
        self._queue = queue
        self._stats = stats
        self._health = health
        self._watermark = watermark
        self._broadcast = broadcast
        self._watcher = watcher
        self._peers = peers
        self._heartbeat_due = Schedule(clock, HEARTBEAT_EVERY)
        self._depth_due = Schedule(clock, DEPTH_EVERY)
        self._peers_due = Schedule(clock, PEERS_EVERY)
        self._delivered_at = float("-inf")
        self._messages = 0
        """The value of `Stats.messages` when the broker had last delivered."""
        self._emptied = FleetWatermark(clock)
        """The time before which everything sent is merged, except for what other instances have."""
        self.consuming = False

    def _dial(self) -> Dialed[str]:
        return self._source.dial()

    def _open(self, connected: str) -> None:
        """Check that the other instances consume from this broker, too, and then log the connection.

        :param connected: the broker's address.
        :raises BrokerUnavailable: if another instance consumes from another broker.
        """
        self._peers.check(self._source.place)
        away = self._returned()
        self.consuming = True
        self._stats.broker_connects += 1
        self._stats.broker = connected
        self._health.broker(None)
        self._watermark.connected()
        self._note_delivery(self._clock.monotonic())
        self._heartbeat_due.hasten()
        gap = round(self._source.gap, 3)
        self._stats.gaps += gap
        if away is not None:
            if gap:
                away["gap"] = gap
            self._logger.info("broker-connected", broker=connected, queue=self._queue, **away)
        self._report.consuming()
        self._broadcast.send(self._source.url)

    @property
    def is_answering(self) -> bool:
        """Whether the broker answers in time. If it does not, the silence of workers proves nothing about them."""
        return self._source.silence < QUIET_AFTER

    def keep_alive(self) -> None:
        """Send and check heartbeats, and query the queue's length, when due. Also reconnects to a broker that does not
        redeliver what is missed, since the loop may be waiting for a handler.

        :raises BrokerUnavailable: if the connection broke, or could not be made. :raises StoreUnavailable: as
        `store/api.py` says.
        """
        if not self.consuming:
            if not self._source.redelivers:
                self.connect()
            return
        # Without redelivery, messages are missed while a connection is broken, so check it at each call.
        if self._heartbeat_due.is_due() or not self._source.redelivers:
            asked_at = self._clock.monotonic()
            self._heartbeat_due.restart()
            self._source.heartbeat()
            silence = self._source.silence
            self._health.broker(f"has not answered for {silence:.0f} s" if silence >= SILENT_AFTER else None)
            if self._messages != self._stats.messages:
                self._note_delivery(asked_at)
            # Much may have arrived that is not taken yet, and a question would require reading all of it.
            if self._depth_due.is_due() and not self._source.is_behind:
                self._depth_due.restart()
                self._ask_queue(asked_at)

    def _ask_queue(self, asked_at: float) -> None:
        """Query the queue's length. If nothing was delivered for long, check that the queue can deliver."""
        self._note_empty(asked_at)
        depth = self._source.depth()
        if self._source.is_behind:
            return  # too much comes before the answer
        self._stats.depth = depth
        self._watermark.answered(asked_at)
        if not depth:  # nor does anything wait where there is no queue
            self._emptied.queue_was_empty(asked_at)
        self._watcher.queue_seen(depth, asked_at, self._source.consumers)
        if asked_at - self._delivered_at >= DEPTH_EVERY:
            # Either there are no messages, or the queue cannot deliver although it reports its length.
            self._source.prove_delivery()
            self._note_delivery(asked_at)

    @property
    def should_check_peers(self) -> bool:
        """Whether `check_peers` is due."""
        return self.consuming and self._peers_due.is_due()

    def check_peers(self) -> None:
        """Check that all instances consume from the same broker. Asks the store, which answers batches in flight first.

        :raises BrokerUnavailable: if an older instance consumes elsewhere.
        :raises StoreUnavailable: as `store/api.py` says.
        """
        self._peers_due.restart()
        self._peers.check(self._source.place, older_only=True)

    def _note_delivery(self, at: float) -> None:
        self._delivered_at, self._messages = at, self._stats.messages
        self._watcher.delivered(at)

    def _note_empty(self, now: float) -> None:
        """Record when the queue was last found empty, once everything delivered by then is merged: events that are
        merged later were then sent later.
        """
        age = self._watermark.age()
        self._emptied.merged_by_all(None if age is None else now - age)
        if (ages := self._emptied.ages()) is not None:
            self._stats.empty_at = self._clock.time() - ages[0]

    def requeue(self) -> None:
        """Close the connection, so that unacknowledged messages are requeued for other instances."""
        self._health.broker("messages were requeued while the store is unavailable")
        if self.consuming:
            self._outage.closed()
        self.close()

    def _unhealthy(self, problem: str) -> None:
        self._health.broker(problem)

    def _close(self) -> None:
        # The broker requeues what was not acknowledged.
        self._source.close()
        self.consuming = False
        self._watermark.disconnected()
