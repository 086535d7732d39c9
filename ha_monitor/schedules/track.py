"""One schedule during one look: its due times as they pass, and the runs that take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from msgspec.structs import replace

from ha_monitor.schedules.model import (
    GRACE_SHARE,
    MAX_GRACE,
    MAX_OCCURRENCES,
    MIN_GRACE,
    SETTLING_TIME,
    Definition,
    History,
    Occurrence,
    Run,
    ScheduleState,
)
from ha_monitor.schedules.timetable import Timetable

_MAX_AGAIN = 3
_MAX_CATCH_UP = 1000
"""Due times that one look processes; if more have passed, only the latest ones."""
_CLOCKS_DIFFER = 5.0
_EARLY_SHARE = 0.1
_NEAR = 10.0
"""Maximum seconds between the runs of two beats for one due time."""
_OFTEN = 0.2
"""Share of due times with runs in between; from this on, the task is considered called by hand as well."""
_USUAL = 5.0
"""Seconds that a run of beat may always be late, for a task that is called by hand as well."""
_REGULAR = 0.01
"""Share of a period by which runs of beat may deviate from it."""


class Track:
    """Follows one schedule. Times are in seconds since the epoch."""

    def __init__(self, definition: Definition, timetable: Timetable, history: History, at: float) -> None:
        """:param at: the time until which everything is known; a new history begins there."""
        self.definition = definition
        self._timetable = timetable
        same = history.since > 0 and (history.timetable, history.zone) == (definition.timetable, definition.zone)
        if not same:
            history = replace(
                history,
                timetable=definition.timetable,
                zone=definition.zone,
                since=at,
                until=at,
                next_due=None,
                missed=0,
            )
        self.history = history
        self.occurrences = list(history.occurrences)
        self.since = history.since
        self.next_due = history.next_due
        self.passed_by = 0
        """Due times without a run that are no longer kept, and were never judged."""
        if not same:
            begin = at if timetable.is_absolute else at + SETTLING_TIME
            self.next_due = timetable.next_after(begin)
        self._is_by_hand: bool | None = None
        self._periods: dict[float, float | None] = {}

    @property
    def is_absolute(self) -> bool:
        return self._timetable.is_absolute

    @property
    def latest(self) -> Occurrence | None:
        """The latest due time since it is watched."""
        return self.occurrences[-1] if self.occurrences and self.occurrences[-1].due >= self.since else None

    def period(self, due: float) -> float | None:
        """Seconds to the next due time; None if there is none."""
        if due not in self._periods:
            following = self._timetable.next_after(due)
            self._periods[due] = None if following is None else following - due
        return self._periods[due]

    def grace(self, due: float) -> float:
        """Seconds that the run of a due time may be late, without the uncertainty of a clock change."""
        if self.definition.grace is not None:
            return self.definition.grace
        periods = [self.period(due)]
        if self.is_absolute:
            before = next((one.due for one in reversed(self.occurrences) if one.due < due), None)
            periods.append(None if before is None else due - before)
        shortest = min((period for period in periods if period is not None), default=86400.0)
        return min(MAX_GRACE, max(MIN_GRACE, GRACE_SHARE * shortest))

    def unsure(self, due: float) -> float:
        """Seconds by which a clock change makes a due time uncertain; usually 0."""
        return self._timetable.unsure(due)

    def deadline(self, due: float) -> float:
        """When a due time without a run is missed."""
        return due + self.grace(due) + self.unsure(due)

    def early(self, due: float) -> float:
        """Seconds by which a run may precede its due time, because clocks differ and periods drift."""
        period = self.period(due) or 86400.0
        most = _CLOCKS_DIFFER if self.is_absolute else self.grace(due)
        return min(most, _EARLY_SHARE * period)

    def advance(self, to: float) -> None:
        """Advance the time: each due time that has passed by then becomes an occurrence without a run."""
        self._skip(to)
        while True:
            self._adopt(to)
            latest = self.latest
            if self.next_due is None or self.next_due - self.early(self.next_due) > to:
                return
            if not self.is_absolute and latest is not None and latest.run is None and to < self.deadline(latest.due):
                # The next run belongs to that due time, and the following one is due a period after it.
                return
            self._append(self.next_due)
            self.next_due = self._timetable.next_after(self.next_due)

    def offer(self, run: Run, at: float) -> float | None:
        """The due time that a run takes, if any: the latest one, if that has no run yet."""
        if self._is_first():
            return at
        latest = self.latest
        if latest is None or latest.run is not None or not self._may_take(latest, run, at):
            return None
        return latest.due

    def offer_earlier(self, run: Run, at: float) -> float | None:
        """The same, for a run that had waited before its first event, or whose events came late."""
        waited = run.sent is None and self.is_absolute and not self.is_called_by_hand
        for one in reversed(self.occurrences):
            if one.due < self.since or at < one.due - self.early(one.due):
                continue
            if one.run is None and self._may_take(one, run, at):
                return one.due
            if not waited:
                break
        return None

    def take(self, run: Run, at: float, due: float) -> None:
        """Give a due time its run."""
        place = next((number for number, one in enumerate(self.occurrences) if one.due == due), None)
        if place is None:
            self._append(due)
            place = len(self.occurrences) - 1
        self.occurrences[place] = replace(self.occurrences[place], run=run, state=ScheduleState.WAITING)
        self.history = replace(self.history, runs_total=self.history.runs_total + 1)
        if not self.is_absolute and place == len(self.occurrences) - 1:
            self.next_due = self._timetable.next_after(at)

    def add_again(self, run: Run) -> bool:
        """Keep a run that takes no due time with the latest due time before it."""
        latest = self.latest
        if latest is None:
            return False
        self.occurrences[-1] = replace(latest, again=(*latest.again, run)[-_MAX_AGAIN:])
        self._is_by_hand = None
        return True

    @property
    def is_called_by_hand(self) -> bool:
        """Whether runs in between are common, so that a run that is not in time may not be beat's."""
        if self._is_by_hand is None:
            ran = [one for one in self.occurrences if one.run is not None]
            between = sum(1 for one in ran if one.again and any(True for _ in self._by_hand(one)))
            self._is_by_hand = between >= 2 and between >= _OFTEN * len(ran)
        return self._is_by_hand

    def _by_hand(self, one: Occurrence) -> Iterator[Run]:
        """Runs in between, except those of a second beat, which come as regularly as those of the first."""
        period = None if self.is_absolute else self.period(one.due)
        for run in self.between(one):
            others = [
                abs(run.at - other.at)
                for near in self.occurrences
                if period and abs(near.due - one.due) < 3 * period
                for other in near.again
                if run.at is not None and other.at is not None
            ]
            if period is None or not any(self._is_regular(distance, period) for distance in others):
                yield run

    def near(self, due: float) -> float:
        """Seconds within which the runs of two beats for one due time come."""
        return min(_NEAR, (self.period(due) or 86400.0) / 4)

    def between(self, one: Occurrence) -> Iterator[Run]:
        """The further runs that do not belong to the due time itself."""
        at = one.run.at if one.run is not None else None
        for run in one.again:
            if at is None or run.at is None or abs(run.at - at) > self.near(one.due):
                yield run

    def kept(self, until: float) -> History:
        """The history to store, except what concerns missed due times."""
        return replace(
            self.history,
            until=max(until, self.history.until),
            occurrences=tuple(self.occurrences),
            next_due=self.next_due,
            producers=self._producers(),
        )

    def _append(self, due: float) -> None:
        self.occurrences.append(Occurrence(due))
        gone = self.occurrences[:-MAX_OCCURRENCES]
        self.passed_by += sum(one.run is None and one.state is ScheduleState.WAITING for one in gone)
        del self.occurrences[: len(gone)]

    def _is_first(self) -> bool:
        """Whether a run is the first one of an interval schedule, whose period counts from it."""
        return self.latest is None and not self.is_absolute

    def _may_take(self, one: Occurrence, run: Run, at: float) -> bool:
        """Whether a run may belong to a due time, and was not called by hand."""
        if not self.is_called_by_hand or run.producer in self.history.producers:
            return True
        if run.producer is not None:
            return all(run.producer != other.producer for known in self.occurrences for other in self._by_hand(known))
        delays = sorted(max(0.0, known.delay or 0.0) for known in self.occurrences if known.run is not None)
        usual = delays[len(delays) // 2] if delays else 0.0
        return at - one.due <= min(self.grace(one.due), max(_USUAL, 4 * usual)) + self.unsure(one.due)

    def _adopt(self, to: float) -> None:
        """Give the latest due time a run that seemed to be one in between, if no other run came.

        A period starts afresh when beat is started without its schedule file, and after a run that waited the next one
        seems early; around a clock change, versions of Celery differ.
        """
        latest = self.latest
        if latest is None or latest.run is not None or to < self.deadline(latest.due):
            return
        before = [run for one in self.occurrences[-4:-1] if one.due >= self.since for run in one.again]
        for run in reversed(before):
            if run.at is None or not self._is_for(run, run.at, latest):
                continue
            for number, one in enumerate(self.occurrences):
                if run in one.again:
                    rest = tuple(other for other in one.again if other != run)
                    self.occurrences[number] = replace(one, again=rest)
            self.take(run, run.at, latest.due)
            return

    def _is_for(self, run: Run, at: float, latest: Occurrence) -> bool:
        if self.is_absolute:
            return latest.due - self.unsure(latest.due) - self.early(latest.due) <= at < latest.due
        period = self.period(latest.due) or 0.0
        last = next((one.run.at for one in reversed(self.occurrences) if one.run is not None), None)
        if period <= 0 or (last is not None and at <= last):
            return False
        if run.producer is not None and run.producer in self.history.producers:
            return True
        ran = [one.run.at for one in self.occurrences[-6:] if one.run is not None and one.run.at is not None]
        if not any(abs(later - earlier - period) <= self.early(latest.due) for earlier, later in pairwise(ran)):
            return True  # it is not known yet which of the runs are beat's
        others = [other.at for one in self.occurrences[-6:] for other in one.again if other.at is not None]
        return any(self._is_regular(at - other, period) for other in (*ran, *others))

    @staticmethod
    def _is_regular(distance: float, period: float) -> bool:
        """Whether two runs are a whole number of periods apart, so that both are beat's."""
        count = round(distance / period)
        return count >= 1 and abs(distance - count * period) <= max(1.0, _REGULAR * period)

    def _skip(self, to: float) -> None:
        """Skip most due times of a long period in which nobody looked."""
        if self.next_due is None:
            return
        period = self.period(self.next_due)
        if period is not None and to - self.next_due > _MAX_CATCH_UP * period:
            self.next_due = self._timetable.next_after(to - MAX_OCCURRENCES * period)

    def _producers(self) -> tuple[str, ...]:
        """Who sends its runs: only producers seen in time at least twice, so that one accident does not count."""
        found: Counter[str] = Counter()
        for one in reversed(self.occurrences[-10:]):
            for run in (one.run, *one.again):
                if run is None or run.producer is None or run.at is None:
                    continue
                if run is one.run or not any(run is other for other in self.between(one)):
                    found[run.producer] += run is not one.run or one.state is not ScheduleState.LATE
        known = tuple(name for name, count in found.items() if count >= 2)
        return known[:2] or self.history.producers
