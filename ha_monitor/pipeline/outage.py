"""Logs an outage: at once, then at growing intervals, and at the end with its duration."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.line import iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import FailureStreak
from ha_monitor.schedule import Schedule

FIRST_PAUSE = 5.0
MAX_PAUSE = 300.0
"""Seconds between two lines; each pause is twice as long as the one before."""
MAX_REASONS = 10
"""Maximum new reasons that are logged at once."""


class Outage:
    """Counts failures, and writes a line for some of them. Decides whether the end of an outage gets a line.

    An unstable connection does not end an outage: a service that fails, comes back and fails again is also logged at
    growing intervals.
    """

    def __init__(self, event: str, logger: Logger, clock: Clock) -> None:
        """:param event: name of the log event."""
        self._event = event
        self._logger = logger
        self._clock = clock
        self._streak = FailureStreak(clock)
        self._line = Schedule(clock, FIRST_PAUSE)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._began = iso_time(self._clock.time())
        self._attempts = 0
        self._reasons: set[str] = set()
        self._pause = FIRST_PAUSE
        self._line.hasten()
        self._end_is_due = False

    def failed(self, reason: str, retry_in: float) -> None:
        """An attempt failed, or the connection broke.

        :param retry_in: seconds until the next attempt.
        """
        is_due = self._count()
        is_news = reason not in self._reasons and len(self._reasons) < MAX_REASONS
        if not is_due and not is_news:
            return
        self._reasons.add(reason)
        self._end_is_due = True
        self._logger.warning(
            self._event, reason=reason, retry_in=round(retry_in, 3), attempts=self._attempts, since=self._began
        )

    def lasts(self, reason: str) -> None:
        """An attempt under way takes long. It does not count as a failure until it has failed."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._logger.warning(self._event, reason=reason)

    def closed(self) -> None:
        """Count a connection that was closed for another reason, which is logged elsewhere."""
        if self._count():
            self._end_is_due = True

    def _count(self) -> bool:
        """Count a failure. Returns whether a line is due."""
        if self._streak.failed():
            self._begin_anew()
        self._attempts += 1
        is_due = self._line.is_due()
        if is_due:
            self._line.restart(self._pause)
            self._pause = min(2 * self._pause, MAX_PAUSE)
        return is_due

    def over(self) -> dict[str, float] | None:
        """The service is available again.

        :returns: fields for the line: the seconds since the first failure and the number of attempts; empty if there
            was no outage. None if no line is due, because the failure had none either.
        """
        if not self._streak.is_failing:
            return {}
        self._streak.succeeded()
        if not self._end_is_due:
            return None
        self._end_is_due = False
        began = self._streak.since or 0.0
        return {"away_for": round(self._clock.monotonic() - began, 3), "attempts": self._attempts}
