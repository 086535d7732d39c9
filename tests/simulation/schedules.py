"""A thousand days of beats and of the monitor that watches them, with a turned clock: `python -m
tests.simulation.schedules`.

The beats are models, but when they send is said by Celery's own `crontab`. From one seed they are killed, frozen, moved
to hosts that do not know what ran last, and started beside each other; entries come and go with deployments; the
monitor is down, behind, or loses events. Because it is known what was sent, it is known what was missed: each such due
time must be found as soon as its grace is over, and nothing else may alarm.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from celery.schedules import crontab

from ha_monitor.schedules.judge import judge
from ha_monitor.schedules.model import (
    SETTLING_TIME,
    Definition,
    Evidence,
    History,
    Judgement,
    Run,
    Runs,
    ScheduleState,
    Source,
)

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BEGIN = datetime(2027, 10, 1, tzinfo=UTC).timestamp()
"""Before a leap day, so that some months have one, too."""
SECOND = "-2"
"""The end of the name of a second beat."""
LONGEST_WAIT = 2.0
"""Seconds until a worker takes what is sent."""
SHOWN = 40
"""Tasks of a name that the monitor is shown: its newest."""


@dataclass(frozen=True)
class Entry:
    """What an application says of one schedule, from a deployment to another one. Times are of the simulation."""

    name: str
    timetable: str
    zone: str
    task: str
    grace: float
    """What the monitor allows, worked out by hand."""
    tells_producers: bool = True
    """Whether its producers send task-sent; else the monitor hears of a run when a worker takes it."""
    calls_by_hand: float = 0.0
    """A day."""
    since: float = 0.0
    until: float = float("inf")

    @property
    def period(self) -> float | None:
        return float(self.timetable.split()[1][:-1]) if self.timetable.startswith("every") else None

    def is_known(self, at: float) -> bool:
        return self.since <= at < self.until


def entries(end: float) -> list[Entry]:
    """Eleven of them: over changes of the clock, ends of months and a leap day; two of one task; one that is called by
    hand; two with a period; one that is removed, and one that is added.
    """
    half = BEGIN + (end - BEGIN) / 2
    return [
        Entry("every two hours", "0 */2 * * *", "America/New_York", "t.often", 720.0),
        Entry("nightly", "30 2 * * *", "Europe/Berlin", "t.nightly", 900.0, tells_producers=False),
        Entry("month end", "0 0 1,31 * *", "Australia/Lord_Howe", "t.month", 900.0),
        Entry("leap day", "0 12 29 2 *", "UTC", "t.leap", 900.0),
        Entry("clean a", "0 6 * * *", "America/Santiago", "t.clean", 900.0),
        Entry("clean b", "0 6,18 * * *", "America/Santiago", "t.clean", 900.0),
        Entry("period", "every 7200s", "UTC", "t.period", 720.0),
        Entry("quiet period", "every 10800s", "UTC", "t.quiet", 900.0, tells_producers=False),
        Entry("by hand", "30 9 * * mon-fri", "Asia/Kathmandu", "t.hand", 900.0, calls_by_hand=3.0),
        Entry("removed", "15 */3 * * *", "Europe/Berlin", "t.removed", 900.0, until=half),
        Entry("added", "15 1-23/3 * * *", "Europe/Berlin", "t.added", 900.0, since=half),
    ]


def next_due(entry: Entry, last: float) -> float:
    """When beat sends it after its last run, as Celery itself says."""
    if entry.period is not None:
        return last + entry.period
    # Celery goes by whole minutes, and takes its time.
    return celerys_next(entry, last // 60 * 60)


@cache
def celerys_next(entry: Entry, last: float) -> float:
    schedule = celerys_schedule(entry.timetable, entry.zone)
    now = datetime.fromtimestamp(last, ZoneInfo(entry.zone))
    schedule.nowfun = lambda: now
    return last + float(schedule.remaining_estimate(now).total_seconds())


@cache
def celerys_schedule(timetable: str, zone: str) -> crontab:
    """Celery's own object; who asks it says what the time is."""
    minute, hour, day, month, weekday = timetable.split()
    application = SimpleNamespace(timezone=ZoneInfo(zone), conf=SimpleNamespace(enable_utc=True))
    return crontab(minute, hour, weekday, day, month, app=application)


@dataclass(frozen=True)
class Life:
    """One process of beat."""

    begin: float
    end: float
    producer: str
    file: dict[str, float]
    """What it knows of what ran last, by entry."""
    frozen: tuple[float, float] = (0.0, 0.0)


@dataclass
class World:
    """What happened, from one seed."""

    random: Random
    end: float
    entries: list[Entry]
    lives: list[Life] = field(default_factory=list)
    lost: list[tuple[float, float]] = field(default_factory=list)
    """When the monitor was down, and what was sent then never came."""
    down: list[tuple[float, float]] = field(default_factory=list)
    """When it was down, and what was sent came later."""
    behind: list[tuple[float, float]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    sent: dict[str, list[tuple[float, str, str]]] = field(default_factory=dict)
    """By task: when, of which entry (empty if by hand), by whom."""

    def make(self) -> None:
        self._live()
        self._trouble_of_the_monitor()
        for life in self.lives:
            for entry in self.entries:
                self._send(life, entry)
        for entry in self.entries:
            calls = int(entry.calls_by_hand * (self.end - BEGIN) / DAY)
            for _ in range(calls):
                self._sent(entry.task, self.random.uniform(BEGIN, self.end), "", f"gen{self.random.randrange(4)}@web")
        for times in self.sent.values():
            times.sort()

    def _live(self) -> None:
        """The lives of the beats, one after another or beside each other, with what ends each."""
        file: dict[str, float] = {}
        begin, number = BEGIN, 0
        deployed = next(entry.since for entry in self.entries if entry.name == "added")
        while begin < self.end:
            number += 1
            producer = f"gen{number}@beat"
            end = min(begin + self.random.expovariate(1 / (9 * DAY)), self.end)
            kind = self.random.choice(
                (
                    *("beat restarted", "beat killed", "beat frozen"),
                    *("beat moved to a host without its file", "beat started twice"),
                )
            )
            if begin < deployed <= end:
                # A deployment restarts beat some minutes after the workers.
                end, kind = deployed + self.random.uniform(5, SETTLING_TIME - 60), "beat restarted by a deployment"
            self.happened[kind] += end < self.end
            frozen = (end, end)
            gap = self.random.uniform(2, 20)
            if kind == "beat killed":
                gap = self.random.expovariate(1 / (7 * HOUR))
            elif kind == "beat frozen":
                frozen = (end, end + self.random.expovariate(1 / (5 * HOUR)))
                end = frozen[1] + self.random.uniform(HOUR, DAY)
            self.lives.append(Life(begin, end, producer, file, frozen))
            if kind == "beat started twice":
                self.lives.append(Life(end - self.random.uniform(3 * HOUR, 3 * DAY), end, f"{producer}{SECOND}", {}))
            begin = end + gap
            if kind == "beat moved to a host without its file":
                file = {}

    def _trouble_of_the_monitor(self) -> None:
        for name, times, seldom, long in (
            *(("monitor down, events lost", self.lost, 40 * DAY, 3 * HOUR),),
            *(("monitor down, events kept", self.down, 40 * DAY, 3 * HOUR),),
            *(("backlog of events", self.behind, 30 * DAY, 2 * HOUR), ("events lost", self.gaps, 30 * DAY, 600.0)),
        ):
            at = BEGIN + self.random.expovariate(1 / seldom)
            while at < self.end:
                until = at + self.random.expovariate(1 / long)
                times.append((at, until))
                self.happened[name] += 1
                at = until + DAY + self.random.expovariate(1 / seldom)

    def _send(self, life: Life, entry: Entry) -> None:
        if not entry.is_known(life.begin):
            return
        last = max(life.file.get(entry.name, life.begin), entry.since)
        while True:
            at = max(next_due(entry, last), life.begin) + self.random.uniform(0.001, 0.05)
            if life.frozen[0] <= at < life.frozen[1]:
                at = life.frozen[1] + self.random.uniform(0.001, 0.05)
            if at >= min(life.end, self.end):
                return
            self._sent(entry.task, at, entry.name, life.producer)
            last = life.file[entry.name] = at

    def _sent(self, task: str, at: float, name: str, producer: str) -> None:
        self.sent.setdefault(task, []).append((at, name, producer))


def back_after(world: World, at: float) -> float:
    """When the monitor is there, from a time on: one time that it is away may begin in another one."""
    away = (*world.lost, *world.down)
    while (until := next((until for since, until in away if since <= at < until), None)) is not None:
        at = until
    return at


def is_in(times: list[tuple[float, float]], begin: float, end: float) -> bool:
    """Whether any of the spans has something in common with another one."""
    return any(since < end and begin < until for since, until in times)


@dataclass
class Result:
    """What was found, and what was not."""

    due: int = 0
    missed: int = 0
    found: int = 0
    late_found: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    not_known: int = 0
    excused: int = 0
    doubled: int = 0
    doubled_found: int = 0
    silent: int = 0
    silent_found: int = 0
    looks: int = 0


class Monitor:
    """Looks at what was sent, as a leader would, and compares what is said with what happened."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self.result = Result()
        self.histories: dict[str, History] = {}
        self.missed: dict[str, dict[float, float]] = {entry.name: {} for entry in world.entries}
        """By entry: the due times that were said to be missed, and when that was said."""
        self.not_known: set[tuple[str, float]] = set()
        self.heard = {task: self._heard(task, times) for task, times in world.sent.items()}
        self.times = {task: [run.at or 0.0 for run in runs] for task, runs in self.heard.items()}
        self.late: set[tuple[str, float]] = set()
        self.silent_since: set[float] = set()
        self.doubled: set[tuple[str, float]] = set()

    def run(self) -> Result:
        tasks = sorted({entry.task for entry in self.world.entries})
        due = dict.fromkeys(tasks, BEGIN)
        everything = BEGIN + DAY
        while (at := min(everything, *due.values())) < self.world.end:
            at = back_after(self.world, at)
            if at >= everything:
                self._look(at, tasks, every=True)
                everything = at + self.random.uniform(0.5, 12) * HOUR
                continue
            task = min(due, key=lambda name: due[name])
            due[task] = self._look(at, [task])
        self._compare()
        return self.result

    def _heard(self, task: str, times: list[tuple[float, str, str]]) -> list[Run]:
        tells = next(entry.tells_producers for entry in self.world.entries if entry.task == task)
        found = []
        for number, (at, _, producer) in enumerate(times):
            if is_in(self.world.lost, at, at + 1e-6) or is_in(self.world.gaps, at, at + 1e-6):
                continue
            waited = at if tells else at + self.random.uniform(0.01, LONGEST_WAIT)
            found.append(
                Run(
                    task_id=f"{task}-{number}",
                    sent=at if tells else None,
                    started=waited,
                    ended=waited + 1,
                    state="SUCCESS",
                    producer=producer if tells else None,
                )
            )
        return found

    def _look(self, at: float, tasks: list[str], *, every: bool = False) -> float:
        """Look, and say when to look again: when the next run will be missing, or a while before that."""
        self.result.looks += 1
        certain = next((since for since, until in self.world.behind if since <= at < until), at)
        known_since = max((until for _, until in self.world.lost if until <= at), default=0.0)
        gaps = [gap for gap in self.world.gaps if gap[1] > at - 3 * DAY and gap[0] < at]
        known = [entry for entry in self.world.entries if entry.task in tasks and entry.is_known(at)]
        runs = {}
        for task in tasks:
            place = bisect_right(self.times.get(task, []), certain)
            runs[task] = Runs(self.heard.get(task, [])[max(0, place - SHOWN) : place])
        judged = judge(
            [definition(entry) for entry in known], self.histories, runs, Evidence(at, certain, known_since, gaps)
        )
        again = at + DAY
        for entry, one in zip(known, judged.judgements, strict=True):
            self.histories[entry.name] = one.history
            again = min(again, self._note(entry, one, at))
        if every:
            self._note_silence(judged.judgements, {beat.since for beat in judged.beats}, known)
        behind = next((until for since, until in self.world.behind if since <= at < until), None)
        if behind is not None:
            return max(again, behind)
        return max(again, at + 1) if self.random.random() < 0.8 else self.random.uniform(at + 1, max(again, at + 2))

    def _note(self, entry: Entry, one: Judgement, at: float) -> float:
        missed = self.missed[entry.name]
        for occurrence in one.history.occurrences[-6:]:
            if occurrence.state is ScheduleState.MISSED:
                missed.setdefault(occurrence.due, at)
            elif occurrence.state is ScheduleState.LATE:
                self.late.add((entry.name, occurrence.due))
            elif occurrence.state is ScheduleState.NOT_KNOWN:
                self.not_known.add((entry.name, occurrence.due))
        if one.is_doubled:
            if one.last is not None and self._are_two(entry, [each.due for each in one.history.occurrences[-4:]]):
                self.doubled.add((entry.name, one.last.due))
            else:
                self.result.false.append(f"{entry.name}: doubled at {told(at)}")
        latest = one.history.occurrences[-1] if one.history.occurrences else None
        waits = latest is not None and latest.run is None and latest.state is ScheduleState.WAITING
        due = latest.due if waits and latest is not None else one.next_due
        return at + DAY if due is None else due + entry.grace + changes(entry, due) + 1

    def _are_two(self, entry: Entry, dues: list[float]) -> bool:
        """Whether two beats sent an entry, at any of these times or between them."""
        times = self.world.sent.get(entry.task, [])
        places = [at for at, _, _ in times]
        for due, following in pairwise([*dues, self.world.end]):
            # A beat that was frozen sends late what another one has sent in its place.
            span = (entry.period or 0.0) * 2
            found = times[bisect_left(places, due - span) : bisect_left(places, following + span)]
            if len({producer for _, name, producer in found if name}) > 1:
                return True
        return False

    def _note_silence(self, judgements: Sequence[Judgement], silent: set[float], known: list[Entry]) -> None:
        heard = max((one.last.run.at or 0.0 for one in judgements if one.last and one.last.run), default=0.0)
        missed = [one for one in judgements if one.state is ScheduleState.MISSED]
        newly = [at for one in missed if (at := one.history.missed_since or 0.0) > heard]
        since = min(newly, default=0.0)
        if len(newly) >= 2:
            self.result.silent += since not in self.silent_since
            self.result.silent_found += since in silent and since not in self.silent_since
            self.silent_since.add(since)
        elif silent:
            self.result.false.append(f"a silent beat since {told(min(silent))}, of {len(known)} schedules")

    def _compare(self) -> None:
        for entry in self.world.entries:
            sent = [at for at, name, _ in self.world.sent.get(entry.task, []) if name == entry.name]
            every = [at for at, _, _ in self.world.sent.get(entry.task, [])]
            for due in self.missed[entry.name]:
                early = min(entry.grace, 0.1 * entry.period) if entry.period else 5.0
                if any_in(sent, due - early, due + entry.grace):
                    self.result.false.append(f"{entry.name}: {told(due)} was not missed")
            for due, deadline in self._dues(entry, sent):
                self.result.due += 1
                # What is called by hand just then may hide that beat is dead.
                if any_in(every, due - 5, deadline):
                    continue  # or it ran
                self.result.missed += 1
                self._expect(entry, due, deadline)
        self._expect_doubled()
        self.result.not_known = len(self.not_known)

    def _dues(self, entry: Entry, sent: list[float]) -> Iterator[tuple[float, float]]:
        """When it was due, and until when it could run."""
        if entry.period is not None:
            for last, following in pairwise(sent):
                due = last + entry.period
                # A second beat may have sent it meanwhile.
                yield due, due + entry.grace if following > due + entry.grace else float("inf")
            return
        due = next_due(entry, max(BEGIN, entry.since))
        while due < min(self.world.end, entry.until) - DAY:
            yield due, due + entry.grace + changes(entry, due)
            due = next_due(entry, due)

    def _expect(self, entry: Entry, due: float, deadline: float) -> None:
        """A due time was missed: it must have been found, but for times of which the monitor cannot know."""
        if entry.period is not None:
            deadline = due + entry.grace
        begin = due - (entry.period or 5.0)
        unseen = is_in(self.world.lost, begin, deadline) or is_in(self.world.gaps, begin, deadline)
        if unseen or due < max(BEGIN, entry.since) + SETTLING_TIME or deadline + 1 > self.world.end:
            self.result.excused += 1
            return
        found = self.missed[entry.name].get(due)
        if entry.period is not None and found is None:
            # A second beat has another phase: what is missed first counts. And what was heard of late is due later.
            waited = 0.0 if entry.tells_producers else LONGEST_WAIT
            span = due - entry.period, due + waited
            found = next((at for one, at in self.missed[entry.name].items() if span[0] < one <= span[1]), None)
            deadline += waited
        allowed = deadline
        for _ in range(3):
            blind = (*self.world.down, *self.world.behind)
            allowed = max([allowed, *(until for since, until in blind if since <= allowed + 2 and until > allowed)])
        # It may have run after all, before the monitor could look again.
        wait = 0.0 if entry.tells_producers else LONGEST_WAIT
        late = any(name == entry.name and due <= one <= due + wait for name, one in self.late)
        ran_late = allowed > deadline and late
        if ran_late or (found is not None and found <= allowed + 2):
            self.result.found += 1
        else:
            self.result.late_found.append(
                f"{entry.name}: {told(due)} found {'never' if found is None else told(found)}, not by {told(allowed)}"
            )

    def _expect_doubled(self) -> None:
        """Each time that two beats send, somebody is told."""
        for life in self.world.lives:
            if life.producer.endswith(SECOND) and life.end < self.world.end:
                self.result.doubled += 1
                found = any(life.begin <= due <= life.end for _, due in self.doubled)
                self.result.doubled_found += found
                if not found:
                    self.result.late_found.append(f"two beats from {told(life.begin)} to {told(life.end)}")


@cache
def definition(entry: Entry) -> Definition:
    return Definition(name=entry.name, task=entry.task, timetable=entry.timetable, zone=entry.zone, source=Source.CONF)


def any_in(times: list[float], begin: float, end: float) -> bool:
    return bisect_right(times, end) > bisect_left(times, begin)


def changes(entry: Entry, due: float) -> float:
    """By how much the clock of its zone changes about then: so much later a run of a crontab may come."""
    if entry.period is not None:
        return 0.0
    zone = ZoneInfo(entry.zone)
    before, after = (datetime.fromtimestamp(due + hours * HOUR, zone).utcoffset() for hours in (-3, 3))
    assert before is not None
    assert after is not None
    return abs((after - before).total_seconds())


def told(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")


def simulate(seed: int, days: int = 1000) -> tuple[World, Result]:
    """One world, and what the monitor said of it."""
    end = BEGIN + days * DAY
    world = World(Random(seed), end, entries(end))
    world.make()
    return world, Monitor(world).run()


def table(world: World, result: Result, days: int) -> str:
    rows = [
        ("days", days),
        *sorted(world.happened.items()),
        ("due times", result.due),
        ("runs", sum(map(len, world.sent.values()))),
        ("looks of the monitor", result.looks),
        ("missed", result.missed),
        ("  found when the grace was over", result.found),
        ("  not seen: the monitor was down, or events lost", result.excused),
        ("silences of a whole beat", result.silent),
        ("  told as one finding", result.silent_found),
        ("times with two beats", result.doubled),
        ("  found", result.doubled_found),
        ("found later, or never", len(result.late_found)),
        ("false alarms", len(result.false)),
        ("due times told as not known", result.not_known),
    ]
    return "\n".join(f"{name:<50} {number:>8,}" for name, number in rows)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    days = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    began = time.process_time()
    world, result = simulate(seed, days)
    from tests.simulation.learned import Learner  # which stands on this module

    learner = Learner(world, Monitor(world).heard)
    learner.run()
    shown = "\n".join(f"{name:<50} {number:>8,}" for name, number in learner.rows())
    sys.stdout.write(f"{table(world, result, days)}\nThe same, told by nobody:\n{shown}\n")
    for line in (*result.false[:20], *result.late_found[:20], *learner.false[:20]):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"seed {seed}; {time.process_time() - began:.1f} s of one core\n")
    return int(bool(result.false or result.late_found or learner.false))


if __name__ == "__main__":
    sys.exit(main())
