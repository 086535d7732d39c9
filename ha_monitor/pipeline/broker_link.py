"""The connection to the broker: made with growing pauses, kept alive, and given up when it broke."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.broker.source import Source
from ha_monitor.clock import Clock
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.pipeline.outage import Outage
from ha_monitor.pipeline.progress import Progress
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats

HEARTBEAT_EVERY = 1.0
"""Seconds between two looks whether the connection needs a sign of life."""
DEPTH_EVERY = 5.0
"""Seconds between two looks at the length of the queue."""


class BrokerLink:
    """Whether this instance consumes, and what is to be done for it."""

    def __init__(
        self,
        source: Source,
        *,
        queue: str,
        stats: Stats,
        health: Health,
        report: Report,
        progress: Progress,
        logger: Logger,
        clock: Clock,
        greet: Callable[[str], object],
        depth_seen: Callable[[int | None, float], None],
    ) -> None:
        """
        :param queue: its name, for the log.
        :param greet: asks the workers for a heartbeat, given the broker's URL, and does not wait for it.
        :param depth_seen: is told how many messages wait in the queue (None if there is none), and when the broker was
            asked, by the monotonic clock.
        """
        self._source = source
        self._queue = queue
        self._stats = stats
        self._health = health
        self._report = report
        self._progress = progress
        self._logger = logger
        self._clock = clock
        self._greet = greet
        self._depth_seen = depth_seen
        self._backoff = Backoff(clock, first=0.5, cap=10.0)
        self._outage = Outage("broker-unavailable", logger, clock)
        self._heartbeat_at = 0.0
        self._depth_at = 0.0
        self.consuming = False

    def remaining(self) -> float:
        """Seconds until the next attempt to connect; 0 if it is due."""
        return self._backoff.remaining()

    def connect(self) -> bool:
        """Connect and consume, if the time for it has come; whether it did.

        :raises BrokerUnavailable: if the broker is away.
        """
        if self._backoff.remaining():
            return False
        address = self._source.connect()
        self._backoff.succeeded()
        self.consuming = True
        self._stats.broker_connects += 1
        self._stats.broker = address
        self._health.broker(None)
        self._progress.connected()
        self._heartbeat_at = 0.0
        if (away := self._outage.over()) is not None:
            self._logger.info("broker-connected", broker=address, queue=self._queue, **away)
        self._report.consuming()
        self._greet(self._source.url)
        return True

    def keep_alive(self) -> None:
        """Send and check heartbeats, and look at the queue, as often as is needed.

        :raises BrokerUnavailable: if the connection broke.
        """
        now = self._clock.monotonic()
        if self.consuming and now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_EVERY
            self._source.heartbeat()
            if now >= self._depth_at:
                self._depth_at = now + DEPTH_EVERY
                self._stats.depth = self._source.depth()
                self._depth_seen(self._stats.depth, now)

    def lost(self, error: BrokerUnavailable) -> None:
        """Give the connection up; what was not acknowledged goes back to the queue."""
        self._outage.failed(str(error), self._backoff.failed())
        self._health.broker(str(error))
        self._report.waiting("the broker", self._backoff.failing_since, str(error))
        self._close()

    def hand_back(self) -> None:
        """Close the connection so that other instances get what is in hand here."""
        self._health.broker("messages were handed back while the store is away")
        if self.consuming:
            self._outage.given_up()
        self._close()

    def _close(self) -> None:
        self._source.close()
        self.consuming = False
        self._progress.disconnected()
