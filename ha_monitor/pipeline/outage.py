"""Says that something is away: at once, then ever more seldom, and when it is back, how long that took."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.line import iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import Spell

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between two lines; each pause is twice as long as the one before."""
MOST_REASONS = 10
"""Reasons that are said at once when they are new."""


class Outage:
    """Counts the failures, and writes a line for some of them; says for which ones their end is worth a line.

    A return that does not last ends nothing: what fails, is back and fails again is said ever more seldom, too.
    """

    def __init__(self, event: str, logger: Logger, clock: Clock) -> None:
        """:param event: what the line is called."""
        self._event = event
        self._logger = logger
        self._clock = clock
        self._spell = Spell(clock)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._began = iso_time(self._clock.time())
        self._attempts = 0
        self._reasons: set[str] = set()
        self._pause = FIRST_PAUSE
        self._next_at = float("-inf")
        self._is_return_awaited = False

    def failed(self, reason: str, retry_in: float) -> None:
        """It is away, or still so.

        :param retry_in: seconds until the next attempt.
        """
        is_due = self._is_due()
        is_news = reason not in self._reasons and len(self._reasons) < MOST_REASONS
        if not is_due and not is_news:
            return
        self._reasons.add(reason)
        self._is_return_awaited = True
        self._logger.warning(
            self._event, reason=reason, retry_in=round(retry_in, 3), attempts=self._attempts, since=self._began
        )

    def given_up(self) -> None:
        """It was left for a reason that is not its own, which somebody else says."""
        if self._is_due():
            self._is_return_awaited = True

    def _is_due(self) -> bool:
        """Count a failure; whether it is time for a line."""
        if self._spell.failed():
            self._begin_anew()
        self._attempts += 1
        now = self._clock.monotonic()
        is_due = now >= self._next_at
        if is_due:
            self._next_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return is_due

    def over(self) -> dict[str, float] | None:
        """It is back.

        :returns: what the line about it says: since the first failure, how many seconds it took and how many attempts
            there were; nothing if it was not away. None if there is to be no line, as there was none about the failure.
        """
        if not self._spell.is_failing:
            return {}
        self._spell.succeeded()
        if not self._is_return_awaited:
            return None
        self._is_return_awaited = False
        began = self._spell.since or 0.0
        return {"away_for": round(self._clock.monotonic() - began, 3), "attempts": self._attempts}
