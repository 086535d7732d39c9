"""What a channel refused, so that a notice that it never takes does not keep others from being sent.

The notices of a refused message are tried again after all others, in ever smaller messages, until the one that is
refused is known. That one waits. As long as nothing is taken, the attempts become rare: everything may be refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ha_monitor.clock import Clock
from ha_monitor.notify.plan import Retry
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.schedule import Schedule
from ha_monitor.store.deliveries import Part
from ha_monitor.store.incidents import Phase

FIRST_PAUSE = 1.0
"""Seconds until the next attempt after the first refusal, at most."""

Subject = tuple[str, Phase]
"""Id of an incident, and the phase that the message was about."""


class Refusals:
    """What one channel refused."""

    def __init__(self, clock: Clock, pause: float) -> None:
        """:param pause: seconds for which what is refused by itself is not tried again; no other pause is longer."""
        self._clock = clock
        self._pause = pause
        self._refused: dict[Subject, tuple[int, Schedule]] = {}
        """Number of the notices in the refused message, and when this one may be tried again."""
        self._restart()

    def __bool__(self) -> bool:
        return bool(self._refused)

    def remaining(self) -> float:
        """Seconds for which no message is tried."""
        return self._any.remaining()

    def retries(self) -> dict[Subject, Retry]:
        """What was refused, in this order, and how it is tried again."""
        known = self._known.remaining()
        return {
            what: Retry(max(schedule.remaining(), known if among == 1 else 0.0), among)
            for what, (among, schedule) in self._refused.items()
        }

    def keep(self, due: Collection[Subject]) -> None:
        """Forget what is no longer due."""
        self._refused = {what: known for what, known in self._refused.items() if what in due}

    def refused(self, parts: Sequence[Part]) -> None:
        """Note that a message was refused."""
        told = [(part.incident, part.phase) for part in parts]
        among = len(told)
        # What is refused by itself once more says nothing about others.
        is_known = among == 1 and self._refused.get(told[0], (0, None))[0] == 1
        (self._known if is_known else self._any).failed()
        for what in told:
            schedule = Schedule(self._clock, self._pause if among == 1 else 0.0)
            schedule.restart()
            self._refused.pop(what, None)
            self._refused[what] = among, schedule

    def taken(self, parts: Sequence[Part]) -> None:
        """Note that a message was taken."""
        told = {(part.incident, part.phase) for part in parts}
        if any(among == 1 for what, (among, _) in self._refused.items() if what in told):
            # It was not refused for what is in it, so neither were the others, perhaps.
            self._refused.clear()
        self.keep(self._refused.keys() - told)
        self._restart()

    def _restart(self) -> None:
        self._any = Backoff(self._clock, FIRST_PAUSE, self._pause)
        """For all messages."""
        self._known = Backoff(self._clock, FIRST_PAUSE, self._pause)
        """For what was refused by itself."""
