"""Logs an outage: at once, then at growing intervals, and its duration at the end."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.line import iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.schedule import Schedule

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between two lines; each pause is twice as long as the one before."""
MOST_REASONS = 10
"""New reasons that are logged at once."""


class Outage:
    """Counts consecutive failures, and writes a line for some of them."""

    def __init__(self, event: str, logger: Logger, clock: Clock) -> None:
        """:param event: name of the log event."""
        self._event = event
        self._logger = logger
        self._clock = clock
        self._line = Schedule(clock, FIRST_PAUSE)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._since: float | None = None
        self._began = ""
        self._attempts = 0
        self._reasons: set[str] = set()
        self._pause = FIRST_PAUSE
        self._line.hasten()

    def failed(self, reason: str, retry_in: float) -> None:
        """An attempt failed.

        :param retry_in: seconds until the next attempt.
        """
        if self._since is None:
            self._since, self._began = self._clock.monotonic(), iso_time(self._clock.time())
        self._attempts += 1
        is_due = self._line.is_due()
        is_news = reason not in self._reasons and len(self._reasons) < MOST_REASONS
        if not is_due and not is_news:
            return
        self._reasons.add(reason)
        if is_due:
            self._line.restart(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._logger.warning(
            self._event, reason=reason, retry_in=round(retry_in, 3), attempts=self._attempts, since=self._began
        )

    def over(self) -> dict[str, float]:
        """The outage is over: the next failure starts a new one.

        :returns: fields for the line: the duration in seconds and the number of attempts; empty if there was no
        outage.
        """
        if self._since is None:
            return {}
        told = {"away_for": round(self._clock.monotonic() - self._since, 3), "attempts": self._attempts}
        self._begin_anew()
        return told
