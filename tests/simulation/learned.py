"""The same days, of which no source tells anything: what runs regularly is learned, and only what has really stopped
may be warned of. Beside the beats there are clients that run at working hours, pause, or are used by people.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, cast

from ha_monitor.events.catalogue import State
from ha_monitor.incidents.habits import TURN_EVERY, HabitFollower
from ha_monitor.schedules.judge import judge
from ha_monitor.schedules.model import Definition, Evidence, History, Judgement, Run, Runs, ScheduleState
from ha_monitor.store.queries import KeptTask, Queries
from ha_monitor.store.record import TaskRecord
from ha_monitor.store.schedules import ScheduleChanges
from tests.simulation.schedules import BEGIN, DAY, HOUR, MINUTE, SHOWN, World, back_after, next_due, told

TURN = 2 * HOUR
"""Between two looks at all that may be learned; more seldom than in the program, since there are a thousand days."""
WEEKEND = 5
CHANGED = {
    "t.removed": "was taken away, or its beat did not send",
    "c.ends": "ended on purpose",
    "c.moves": "was moved to a later hour",
}
"""Tasks that stop, or come later, on purpose: each time they are warned of once."""


def clients(random: Random, end: float) -> dict[str, list[float]]:
    """When clients send their tasks, by name."""
    made: dict[str, list[float]] = {
        name: [] for name in ("c.office", "c.nights", "c.poller", "c.people", "c.jitter", "c.ends", "c.moves")
    }
    for minute in range(int((end - BEGIN) / MINUTE)):
        at = BEGIN + minute * MINUTE + random.uniform(0, 2)
        day, hour = int((at - BEGIN) // DAY), (at % DAY) / HOUR
        is_tenth = minute % 10 == 0
        if is_tenth and (day + 4) % 7 < WEEKEND and 8 <= hour < 18:
            made["c.office"].append(at)
        if is_tenth and 6 <= hour < 23:
            made["c.nights"].append(at)
        if day < 40 and day % 30 != 20:
            made["c.poller"].append(at)  # each minute, but for a day now and then
        if is_tenth and at < BEGIN + (end - BEGIN) / 3:
            made["c.ends"].append(at)
        if random.random() < 1 / 90:
            made["c.people"].append(at)
    noon = BEGIN
    while noon < end:
        made["c.jitter"].append(noon + random.uniform(0, HOUR))
        moved = 5 * HOUR if (noon - BEGIN) // (100 * DAY) % 2 else 0.0
        made["c.moves"].append(noon + moved + random.uniform(0, MINUTE))
        noon += DAY
    return made


class FakeQueries:
    """The newest tasks of each name as the store has them, after what is merged."""

    def __init__(self, heard: dict[str, list[Run]]) -> None:
        self._heard = heard
        self._times = {name: [run.at or 0.0 for run in runs] for name, runs in heard.items()}
        self._by_id = {run.task_id: run for runs in heard.values() for run in runs}
        self.until = BEGIN

    def newest_runs(self, name: str, count: int) -> list[Run]:
        place = bisect_right(self._times[name], self.until)
        return self._heard[name][max(0, place - count) : place]

    def names(self) -> list[str]:
        return sorted(name for name in self._heard if self.newest_runs(name, 1))

    def newest_of(self, names: Sequence[str], count: int, _offset: int = 0) -> list[list[str]]:
        return [[run.task_id for run in reversed(self.newest_runs(name, count))] for name in names]

    def tasks(self, ids: Sequence[str]) -> list[KeptTask]:
        runs = [self._by_id[one] for one in ids]
        return [
            KeptTask(TaskRecord(task_id=run.task_id, state=State.SUCCESS, sent=run.sent, started=run.started))
            for run in runs
        ]


class Learner:
    """A leader that nobody tells a schedule."""

    def __init__(self, world: World, heard: dict[str, list[Run]]) -> None:
        self.world = world
        others = clients(world.random, world.end)
        for name, times in others.items():
            seen = [at for at in times if not _is_in((*world.lost, *world.gaps), at)]
            heard = heard | {name: [Run(task_id=f"{name}-{n}", sent=at, state="SUCCESS") for n, at in enumerate(seen)]}
        self.sent = {name: [at for at, _, _ in times] for name, times in world.sent.items()} | others
        self.queries = FakeQueries(heard)
        self.habits = HabitFollower()
        self.histories: dict[str, History] = {}
        self.open: set[str] = set()
        self.learned: set[str] = set()
        self.warned: Counter[str] = Counter()
        self.false: list[str] = []
        self.longest: dict[str, float] = {}
        """How long each was warned of, at most, in seconds."""
        self._since: dict[str, float] = {}

    def run(self) -> None:
        at, turn = BEGIN, BEGIN
        while at < self.world.end:
            at = back_after(self.world, at)
            if at >= turn:
                turn = at + TURN
            at = max(at + TURN_EVERY, min(turn, self._look(at, turns=turn == at + TURN)))

    def _look(self, at: float, *, turns: bool) -> float:
        """:return: when something may be missing next."""
        world = self.world
        certain = next((since for since, until in world.behind if since <= at < until), at)
        self.queries.until = certain
        gaps = [gap for gap in (*world.lost, *world.gaps) if gap[0] < at]
        recent = [gap for gap in gaps if gap[1] > at - 3 * DAY]
        definitions = self.habits.schedules([])
        self.learned |= {one.task for one in definitions}
        runs = {one.task: Runs(self.queries.newest_runs(one.task, SHOWN)) for one in definitions}
        judged = judge(definitions, self.histories, runs, Evidence(at, certain, BEGIN, recent))
        self.histories = {one.definition.name: one.history for one in judged.judgements}
        assert not judged.beats
        missed = {one.definition.name for one in judged.judgements if one.state is ScheduleState.MISSED}
        for name in missed - self.open:
            self._note(name, at)
            self._since[name] = at
        for name in self.open | missed:
            self.longest[name] = max(self.longest.get(name, 0.0), at - self._since[name])
        self.open = missed
        changed: list[Any] = []
        if turns:
            # As many turns as the program has meanwhile.
            changed, _ = self.habits.follow(
                cast("Queries", self.queries), at, defined=(), certain_until=certain, gaps=recent
            )
        self.habits.written(ScheduleChanges(habits=[*changed, *self.habits.abandoned(judged.judgements, at)]))
        return min((_again(one.definition, one, at) for one in judged.judgements), default=at + DAY)

    def _note(self, task: str, at: float) -> None:
        """It is a false alarm unless it should have been sent since it was sent last, whatever was heard of it."""
        self.warned[task] += 1
        times = self.sent[task]
        latest = times[bisect_right(times, at) - 1]
        entries = [entry for entry in self.world.entries if entry.task == task and entry.since <= latest]
        if task not in CHANGED and not any(next_due(entry, latest) + MINUTE < at for entry in entries):
            self.false.append(f"{task}: warned at {told(at)}, ran last at {told(latest)}")

    def rows(self) -> list[tuple[str, int]]:
        """For a table."""
        beats = sum(number for task, number in self.warned.items() if task not in CHANGED)
        return [
            ("tasks learned", len(self.learned)),
            ("warned of, since a beat did not send", beats),
            *((f"warned of, since it {what}", self.warned[task]) for task, what in CHANGED.items()),
            ("hours of the longest warning", round(max(self.longest.values(), default=0.0) / HOUR)),
            ("false warnings", len(self.false)),
        ]


def _again(definition: Definition, one: Judgement, at: float) -> float:
    latest = one.history.occurrences[-1] if one.history.occurrences else None
    waits = latest is not None and latest.run is None and latest.state is ScheduleState.WAITING
    due = latest.due if waits and latest is not None else one.next_due
    return at + DAY if due is None else due + (definition.grace or 0.0) + 1


def _is_in(times: Sequence[tuple[float, float]], at: float) -> bool:
    return any(since <= at < until for since, until in times)
