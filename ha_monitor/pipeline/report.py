"""Reports the instance's state to the supervisor as a text."""

from __future__ import annotations

from datetime import datetime

from ha_monitor.clock import Clock
from ha_monitor.pipeline.stats import CONSUMING, Stats
from ha_monitor.supervision import Supervisor


class Report:
    """Keeps the status line and `stats.state` up to date."""

    def __init__(self, supervisor: Supervisor, stats: Stats, clock: Clock) -> None:
        self._supervisor = supervisor
        self._stats = stats
        self._clock = clock
        self._at = clock.monotonic()
        self._events = 0

    def consuming(self) -> None:
        """The instance consumes; the rate is measured over at least a second."""
        self._stats.state = CONSUMING
        now = self._clock.monotonic()
        elapsed = now - self._at
        if elapsed < 1:
            return
        rate = (self._stats.events - self._events) / elapsed
        self._at, self._events = now, self._stats.events
        depth = "" if self._stats.depth is None else f", {self._stats.depth} messages in the queue"
        self._supervisor.status(f"consuming from {self._stats.broker}: {rate:.0f} events/s{depth}")

    def waiting(self, what: str, since: float, reason: str) -> None:
        """The instance waits for an unavailable service.

        :param since: when the outage was detected, by the monotonic clock.
        """
        self._stats.state = f"waiting for {what}"
        began = datetime.fromtimestamp(self._clock.time() - (self._clock.monotonic() - since)).astimezone()
        self._supervisor.status(f"waiting for {what} since {began:%Y-%m-%d %H:%M:%S}: {reason}"[:200])

    def stopping(self) -> None:
        """The instance was asked to stop."""
        self._stats.state = "stopping"
        self._supervisor.stopping()
        self._supervisor.status("stopping")
