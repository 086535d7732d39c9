"""What is asked of the store for the rules, and how little."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from ha_monitor.events.catalogue import State
from ha_monitor.incidents.facts import InstanceFacts
from ha_monitor.incidents.gather import MEMORY_EVERY, NAMES_AT_ONCE, NAMES_EVERY, FactGatherer, LeaderView, memory_share
from ha_monitor.incidents.lifecycle import advance
from ha_monitor.incidents.rules import apply_rules
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.store.memory.incidents import MemoryReader
from ha_monitor.store.memory.server import MemoryInstance, MemoryServer
from ha_monitor.store.name_statistics import Durations, NameStatistic
from ha_monitor.store.queries import KeptTask
from ha_monitor.store.record import TaskRecord
from ha_monitor.store.results import WorkerState
from ha_monitor.store.worker_runs import LostRun
from tests.unit.builders import TurnedClock

VIEW = LeaderView((), True, None, 0, 0, 0.0, [], may_judge=True)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer(TurnedClock())


def enter(server: MemoryServer, name: str, **stats: Any) -> None:
    now = server.clock.time()
    one = MemoryInstance({"host": "h", "instance": name}, now + 5, 5, seen=now)
    one.stats = {"state": "consuming", "lag": 0.1, **stats}
    server.enter(one)


@pytest.mark.parametrize(("lag", "is_merged"), [(0.1, True), (31.0, False), ("x", True), (None, True)])
def test_a_backlog_is_not_judged(server: MemoryServer, lag: object, *, is_merged: bool) -> None:
    """Given an instance that merges events of half a minute ago, what rests on events is not judged."""
    enter(server, "1", lag=lag)

    _, facts, _ = FactGatherer().gather(MemoryReader(server), VIEW)

    assert facts.are_events_merged is is_merged


def test_a_store_that_has_just_gone_back_is_not_judged(server: MemoryServer) -> None:
    """Given a store that went back a moment ago, instances are about to merge again what it lost."""
    now = server.clock.time()
    for ago, is_merged in ((5, False), (61, True)):
        _, facts, _ = FactGatherer().gather(MemoryReader(server), VIEW._replace(went_back_at=now - ago))
        assert facts.are_events_merged is is_merged


def test_instances_that_died_are_known_by_name(server: MemoryServer) -> None:
    """Given one that lives, one whose lease ran out, and one whose outbox was taken over, all are told of."""
    now = server.clock.time()
    enter(server, "1", state="waiting")
    enter(server, "2")
    server.instances[server.last_token].lease_until = now - 1
    gone = MemoryInstance({"host": "h", "instance": "3"}, now - 60, 5, seen=now - 60)
    server.taken_over[7] = gone

    _, facts, _ = FactGatherer().gather(MemoryReader(server), VIEW)

    assert facts.instances == [
        InstanceFacts("h/1", is_alive=True, is_consuming=False, lag=0.1),
        InstanceFacts("h/2", is_alive=False, lag=0.1, died_at=now),
        InstanceFacts("h/3", is_alive=False, died_at=now - 60),
    ]


@pytest.mark.parametrize(
    "taken",
    [{}, {"who": "x", "at": 1}, {"who": json.dumps([]), "at": 1}, {"who": "{}", "at": "x"}, {"who": {}, "at": 9e99}],
)
def test_what_is_no_takeover_is_left_out(server: MemoryServer, taken: dict[str, Any]) -> None:
    """Given anything else in the list of takeovers, nobody is missing."""

    class Reader(MemoryReader):
        def latest(self, kind: str, count: int) -> list[dict[str, Any]]:
            return [taken]

    _, facts, _ = FactGatherer().gather(Reader(server), VIEW)

    assert facts.instances == []


class Counted(MemoryReader):
    """Counts the names whose runs it is asked for."""

    def __init__(self, server: MemoryServer, names: int) -> None:
        super().__init__(server)
        self.asked: list[Counter[str]] = []
        known = [f"task{number:03}" for number in range(names)]
        self.queries.names = lambda: known  # type: ignore[method-assign]
        self.queries.statistics = self._statistics  # type: ignore[method-assign]
        self.infos = 0

    def _statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        self.asked.append(Counter(names))
        return [NameStatistic(name, 1, 0, 0, Durations({}), Durations({})) for name in names]

    def server(self) -> tuple[dict[str, str], str]:
        self.infos += 1
        return {"used_memory": "95", "maxmemory": "100"}, ""


def test_of_very_many_names_some_are_looked_at_at_a_time(server: MemoryServer) -> None:
    """Given 250 names, a hundred are asked for each quarter of a minute in turn, and those of open incidents always."""
    name = "task199"
    server.incidents["x"] = Incident("x", "failing", name, Severity.WARN, Phase.FIRING, 1, 1, "")
    reader, gatherer = Counted(server, 250), FactGatherer()
    for _ in range(3):
        for _ in range(3):
            _, facts, _ = gatherer.gather(reader, VIEW)
        server.clock.now += NAMES_EVERY  # type: ignore[attr-defined]

    assert [sum(names.values()) for names in reader.asked] == [NAMES_AT_ONCE + 1, NAMES_AT_ONCE, 51]
    assert all(name in names for names in reader.asked)
    assert len(facts.names) == 250


def test_the_memory_of_the_store_is_asked_for_once_a_minute(server: MemoryServer) -> None:
    """Given looks each five seconds, INFO is asked for once a minute."""
    reader, gatherer = Counted(server, 1), FactGatherer()
    for _ in range(int(MEMORY_EVERY / 5)):
        _, facts, _ = gatherer.gather(reader, VIEW)
        server.clock.now += 5  # type: ignore[attr-defined]

    assert (reader.infos, facts.memory) == (1, 0.95)


class Holding(MemoryReader):
    """Open tasks, by the worker that has each."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.all = server.incidents
        self.held: dict[str, str] = {}
        self.names: dict[str, str] = {}
        """Of those tasks whose name is known."""
        self.without: list[str] = []
        self.queries.open = lambda count, offset=0: list(self.held)[offset:count]  # type: ignore[method-assign]
        self.queries.orphaned = lambda count: self.without[:count]  # type: ignore[method-assign]
        self.queries.tasks = self._tasks  # type: ignore[method-assign]

    def hold(self, worker: str, count: int) -> None:
        self.held.update((f"{worker}/{number}", worker) for number in range(count))

    def look(self, workers: Sequence[str]) -> Incident:
        """What the incident of the lost workers is after a look of the leader."""
        lost = [WorkerState(name, "lost", None, is_confirmed=True) for name in workers]
        kept, facts, _ = FactGatherer().gather(self, VIEW._replace(workers=lost, orphaned=len(self.without)))
        changes = advance(kept, apply_rules(facts), facts.now)
        self.all.update({one.id: one for one in changes.changed})
        return next(one for one in self.all.values() if one.kind == "worker-lost")

    def _tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        return [
            KeptTask(TaskRecord(task_id=one, state=State.STARTED, name=self.names.get(one), worker=self.held[one]))
            for one in ids
        ]


def test_of_very_many_lost_tasks_all_are_counted_and_some_followed(server: MemoryServer) -> None:
    """Given three workers that are lost with a hundred tasks each, and later one more, each look says how many tasks
    are lost, and of how many of them it knows what became."""
    reader, workers = Holding(server), ["celery@a", "celery@b", "celery@c"]
    for worker in workers:
        reader.hold(worker, 100)
    reader.hold("celery@z", 7)

    def look() -> tuple[str, Any]:
        one = reader.look(workers)
        return one.summary.partition(" with ")[2], [one.facts[name] for name in ("tasks", "orphaned", "undecided")]

    assert look() == ("300 tasks: 300 being asked about", [300, 0, 300])
    assert look() == look() == ("300 tasks, of which 200 are followed: 200 being asked about", [300, 0, 200])
    reader.without = list(reader.held)[50:200]
    followed = "300 tasks, of which 200 are followed: 150 orphaned, 50 being asked about"
    assert look() == (followed, [300, 150, 50])
    workers.append("celery@z")
    assert look()[0] == "307 tasks, of which 207 are followed: 150 orphaned, 57 being asked about"
    del workers[:3]
    assert look()[0] == "307 tasks, of which 200 are followed: 150 orphaned, 50 being asked about"


def test_more_stuck_tasks_than_are_looked_at_are_told_so(server: MemoryServer) -> None:
    """Given 5,000 orphaned tasks, of which a thousand are looked at, no incident says that these are all; given fewer,
    it says how many there are."""
    reader = Holding(server)

    def look(count: int) -> list[str]:
        reader.hold("celery@a", count)
        reader.without = list(reader.held)
        _, facts, _ = FactGatherer().gather(reader, VIEW._replace(orphaned=count))
        return [one.summary for one in apply_rules(facts).sightings if one.kind == "task-orphaned"]

    assert look(999) == ["999 tasks of unknown are orphaned: no worker or queue has them any longer"]
    assert look(5000) == ["at least 1,000 tasks of unknown are orphaned: no worker or queue has them any longer"]


def test_an_orphaned_task_among_too_many_is_not_over(server: MemoryServer) -> None:
    """Given an incident of an orphaned task, when so many others are orphaned that no look reaches that task, the
    incident goes on; when it is orphaned no longer, and all others are looked at, the incident is over."""
    reader = Holding(server)
    reader.held = {"rare": "celery@a"}
    reader.names["rare"] = "shop.rare"
    reader.without = ["rare"]

    def phase() -> Phase:
        kept, facts, _ = FactGatherer().gather(reader, VIEW._replace(orphaned=len(reader.without)))
        reader.all.update({one.id: one for one in advance(kept, apply_rules(facts), facts.now).changed})
        return next(one.phase for one in reader.all.values() if one.key == "shop.rare")

    assert [phase(), phase()] == [Phase.PENDING, Phase.FIRING]
    reader.hold("celery@b", 1000)
    reader.without = [*(one for one in reader.held if one != "rare"), "rare"]
    assert [phase(), phase()] == [Phase.FIRING, Phase.FIRING]
    reader.without = reader.without[:999]
    assert phase() is Phase.RESOLVED


def test_tasks_whose_name_never_came_are_told_of_as_unknown(server: MemoryServer) -> None:
    """Given a task without a name that is stuck, orphaned, and lost two workers, each incident says so."""
    reader = Holding(server)
    reader.held, reader.without = {"t1": "celery@a"}, ["t1"]
    reader.queries.stuck = lambda count: ["t1"]  # type: ignore[method-assign]
    runs = [LostRun("t1", "celery@a", 1), LostRun("t1", "celery@b", 2)]
    reader.queries.lost_runs = lambda: runs  # type: ignore[method-assign]

    _, facts, _ = FactGatherer().gather(reader, VIEW._replace(stuck=1, orphaned=1))

    assert {one.kind: (one.key, " of unknown " in one.summary) for one in apply_rules(facts).sightings} == {
        "task-stuck": ("unknown", True),
        "task-orphaned": ("unknown", True),
        "poison-task": ("unknown", True),
    }


def test_of_stuck_tasks_without_records_as_many_are_looked_at(server: MemoryServer) -> None:
    """Given more orphaned tasks than are looked at, what is not seen may be among the others, even if nothing is known
    of those that are looked at; given fewer, all were looked at. The same holds for stuck ones."""
    reader = Holding(server)
    reader.queries.tasks = lambda ids, texts=frozenset(): [None] * len(ids)  # type: ignore[method-assign]
    reader.queries.stuck = lambda count: reader.without[:count]  # type: ignore[method-assign]

    def partial(stuck: int, orphaned: int) -> frozenset[str]:
        reader.without = [str(number) for number in range(max(stuck, orphaned))]
        _, facts, _ = FactGatherer().gather(reader, VIEW._replace(stuck=stuck, orphaned=orphaned))
        return apply_rules(facts).partial

    assert partial(999, 999) == frozenset()
    assert partial(0, 1001) == {"task-orphaned"}
    assert partial(1001, 0) == {"task-stuck"}


def test_what_a_worker_got_between_two_losses_is_told_too(server: MemoryServer) -> None:
    """Given workers that are lost together, of which one is back, gets tasks and is lost again before the others are
    back, its new tasks count as well, from then on."""
    reader = Holding(server)
    reader.hold("celery@a", 10)
    both, one = ["celery@a", "celery@b"], ["celery@a"]

    assert reader.look(both).summary.endswith(" with 10 tasks: 10 being asked about")
    assert reader.look(one).summary.endswith(" with 10 tasks: 10 being asked about")
    reader.hold("celery@b", 40)
    for _ in range(2):
        assert reader.look(both).summary.endswith(" with 50 tasks: 50 being asked about")
    reader.hold("celery@z", 5)
    assert reader.look([*both, "celery@z"]).summary.endswith(" with 55 tasks: 55 being asked about")


def test_what_was_counted_in_full_stays_so_when_another_worker_is_lost(server: MemoryServer) -> None:
    """Given a worker that was lost with three tasks, all of which were found, and later another one while more tasks
    are open than are searched, only what is said of the other is incomplete; but the first is, too, once workers of its
    own are lost again meanwhile."""
    reader = Holding(server)
    reader.hold("celery@a", 3)
    reader.look(["celery@a", "celery@b"])
    assert reader.look(["celery@a"]).summary.endswith(" with 3 tasks: 3 being asked about")
    server.clock.now += 120  # type: ignore[attr-defined]
    reader.hold("celery@x", 5000)

    first = reader.look(["celery@a", "celery@c"])

    assert first.summary.endswith(" with 3 tasks: 3 being asked about")
    assert [one.facts["incomplete"] for one in reader.all.values()] == [0, 1]
    assert reader.look(["celery@a", "celery@b", "celery@c"]).summary.endswith(
        " with at least 3 tasks: 3 being asked about"
    )


@pytest.mark.parametrize(
    ("info", "share"),
    [({}, None), ({"used_memory": "9", "maxmemory": "0"}, None), ({"used_memory": "x", "maxmemory": "1"}, None)],
)
def test_a_store_without_a_limit_is_never_full(info: dict[str, str], share: float | None) -> None:
    """Given no maxmemory, or nothing that is known, there is no share."""
    assert memory_share(info) is share


def test_what_cannot_be_judged_is_not_searched_for(server: MemoryServer) -> None:
    """Given a lost worker while nothing can be judged, no open task is looked at."""
    calls: list[str] = []
    server.trouble = calls.append
    lost = VIEW._replace(workers=[WorkerState("celery@a", "lost", None)])

    FactGatherer().gather(MemoryReader(server), lost._replace(may_judge=False))
    assert "before open" not in calls

    FactGatherer().gather(MemoryReader(server), lost)
    assert "before open" in calls
