"""What is kept of workers in every implementation of the store."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from ha_monitor.store.results import OrphanedTask
from ha_monitor.store.worker_runs import LostRun, WorkerRuns
from tests.support.store_contract import WATCHING, Bed, merge, started, tick
from tests.unit.builders import decode, event

MINUTE = 60.0
DEAD, ALIVE = "celery@dead", "celery@alive"


def on(worker: str, kind: str, task_id: str, *, at: float, **changes: Any) -> dict[str, Any]:
    return event(f"task-{kind}", uuid=task_id, at=at, hostname=worker, **changes)


def runs(bed: Bed, worker: str, since: float, until: float) -> WorkerRuns:
    (found,) = bed.queries().worker_runs([worker], since, until)
    return found


def left(bed: Bed, worker: str, since: float = 0.0) -> list[str]:
    return sorted(one.task_id for one in bed.queries().abandoned(worker, since))


def lose(bed: Bed, one: Any) -> None:
    """Let the leader find that the workers that it hears nothing of are lost."""
    bed.let_time_pass(WATCHING.lost_after + 1)
    tick(one, eligible=True)
    watch(one)


def watch(one: Any) -> None:
    """Have the leader look at the workers."""
    one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))


class WorkerContract:
    """Inherit it beside a fixture `bed`."""

    def test_what_ended_on_each_worker_by_minute(self, bed: Bed) -> None:
        """Given runs that succeed, fail, are retried and put back on two workers, each worker has for each minute how
        many ended there and how many of these failed, all events in any order and twice; what ended long ago is in
        none, and what ends in the future counts as now."""
        one, chance = started(bed), random.Random(3)
        at = bed.now() // 60 * 60 - 10 * MINUTE
        events = []
        ended: Counter[tuple[str, int]] = Counter()
        failed: Counter[tuple[str, int]] = Counter()
        for number in range(120):
            worker, kind = (DEAD, ALIVE)[number % 2], ("succeeded", "failed", "retried")[number % 3]
            then = at + number * 5 + 2
            events += [on(worker, "started", f"t{number}", at=then - 1), on(worker, kind, f"t{number}", at=then)]
            ended[worker, int(then // 60)] += 1
            failed[worker, int(then // 60)] += kind == "failed"
        events.append(on(ALIVE, "rejected", "put-back", at=at, requeue=True))
        events.append(on(ALIVE, "succeeded", "old", at=at - 90 * MINUTE))
        events.append(on(ALIVE, "failed", "ahead", at=bed.now() + 60 * MINUTE))
        events += events
        chance.shuffle(events)
        for first in range(0, len(events), 7):
            merge(one, decode(*events[first : first + 7]))

        for worker in (DEAD, ALIVE):
            for minute in range(int(at // 60), int(at // 60) + 10):
                told = runs(bed, worker, minute * 60, minute * 60 + 60)
                assert told == WorkerRuns(ended[worker, minute], failed[worker, minute])
        assert runs(bed, ALIVE, 0.0, bed.now() + 60) == WorkerRuns(61, 21)
        assert runs(bed, "celery@none", 0.0, bed.now()) == WorkerRuns(0, 0)

    def test_since_when_nothing_is_heard_of_a_worker(self, bed: Bed) -> None:
        """Given a worker that was heard of once, each look says the same time, that of the store when it was, whatever
        the worker's own clock says.
        """
        one, began = started(bed), bed.now()
        merge(one, decode(event("worker-heartbeat", hostname=DEAD, at=began - 900)))
        tick(one, eligible=True)
        until = bed.now()
        heard = set()
        for _ in range(5):
            found = one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
            assert found is not None
            heard |= {(worker.name, worker.heard) for worker in found.workers}

        ((name, at),) = heard
        assert name == DEAD
        assert at is not None
        assert began - 0.001 <= at <= until

    def test_what_a_lost_worker_left(self, bed: Bed) -> None:
        """Given a worker that has tasks and is lost, what another worker has taken since, what is open there and what
        is orphaned are among what it left, and what it had ended or retried before is not."""
        one, now = started(bed), bed.now()
        merge(one, decode(event("worker-heartbeat", hostname=DEAD, at=now - 900)))
        for name in ("ended", "retried", "taken", "orphaned"):
            merge(one, decode(on(DEAD, "received", name, at=now - 900), on(DEAD, "started", name, at=now - 899)))
        merge(one, decode(on(DEAD, "succeeded", "ended", at=now - 890), on(DEAD, "retried", "retried", at=now - 890)))
        merge(one, decode(on(ALIVE, "received", "retried", at=now - 880), on(DEAD, "received", "had", at=now - 880)))
        since = bed.now()
        merge(one, decode(on(ALIVE, "received", "taken", at=now - 5), on(ALIVE, "started", "taken", at=now - 4)))
        merge(one, decode(on(ALIVE, "received", "had", at=now - 4)))
        tick(one, eligible=True)
        assert left(bed, DEAD, since - 1) == ["had", "taken"]

        bed.let_time_pass(WATCHING.lost_after + 1)
        tick(one, eligible=True)
        one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
        found = one.open_tasks.candidates()
        assert found is not None
        assert left(bed, DEAD) == ["had", "orphaned", "taken"]
        assert (left(bed, DEAD, bed.now() + 99), left(bed, ALIVE)) == ([], [])
        assert not any(task.is_orphaned for task in bed.queries().abandoned(DEAD, 0.0))

        candidates = [task for task in found.tasks if task.task_id == "orphaned"]
        said = OrphanedTask(must_be_lost=True, confirmed_by=["workers"], answered=1)
        one.open_tasks.confirm(0, [(candidate, said) for candidate in candidates])
        assert [task.task_id for task in bed.queries().abandoned(DEAD, 0.0) if task.is_orphaned] == ["orphaned"]

    def test_the_runs_during_which_a_worker_was_lost(self, bed: Bed) -> None:
        """Given a worker that is lost, a run that another worker had taken by then and one that is open there count,
        each once, however often they are looked for; what was only received there, what had ended there, and what was
        taken from a worker that lives do not."""
        one, now = started(bed), bed.now()
        merge(one, decode(event("worker-heartbeat", hostname=DEAD, at=now - 900)))
        for name in ("ended", "taken", "open"):
            merge(one, decode(on(DEAD, "received", name, at=now - 900), on(DEAD, "started", name, at=now - 899)))
        merge(one, decode(on(DEAD, "succeeded", "ended", at=now - 890), on(DEAD, "received", "had", at=now - 890)))
        merge(one, decode(on(ALIVE, "received", "moved", at=now - 9), on(ALIVE, "started", "moved", at=now - 8)))
        merge(one, decode(on("celery@third", "received", "moved", at=now - 5)))
        merge(one, decode(on(ALIVE, "received", "taken", at=now - 5), on(ALIVE, "succeeded", "taken", at=now - 4)))
        merge(one, decode(on(ALIVE, "received", "had", at=now - 4)))
        tick(one, eligible=True)
        one.open_tasks.candidates()
        assert bed.queries().lost_runs() == []

        lose(bed, one)
        for _ in range(3):
            one.open_tasks.candidates()
        start = round((now - 899) * 1e6)
        assert sorted(bed.queries().lost_runs()) == [LostRun("open", DEAD, start), LostRun("taken", DEAD, start)]

    def test_a_task_that_two_workers_died_of_is_known_by_both(self, bed: Bed) -> None:
        """Given a worker that is lost with a task, the next worker that takes it and is lost, too, both are known; so
        is one that is lost twice under it, of which each run counts."""
        one = started(bed)
        for worker in (DEAD, ALIVE, DEAD):
            at = bed.now()
            merge(one, decode(event("worker-heartbeat", hostname=worker, at=at)))
            merge(one, decode(on(worker, "received", "t", at=at), on(worker, "started", "t", at=at + 0.001)))
            tick(one, eligible=True)
            watch(one)
            lose(bed, one)
            one.open_tasks.candidates()

        runs_of_it = [run for run in bed.queries().lost_runs() if run.task_id == "t"]
        assert [run.worker for run in runs_of_it] == [DEAD, ALIVE, DEAD]
        assert len({run.started for run in runs_of_it}) == 3

    def test_a_task_that_was_taken_is_found_in_any_order(self, bed: Bed) -> None:
        """Given the events of a task that a second worker took from the first, in each order and in batches of one or
        all at once, it is among what the first one left."""
        now = bed.now()
        events = [on(DEAD, "received", "a", at=now - 9), on(DEAD, "started", "a", at=now - 8)]
        events += [on(ALIVE, "received", "a", at=now - 5), on(ALIVE, "started", "a", at=now - 4)]
        events += [on(ALIVE, "succeeded", "a", at=now - 3)]
        for order in (events, events[::-1], [events[2], events[0], events[4], events[1], events[3]]):
            for size in (1, 5):
                bed.delete_all()
                one = started(bed)
                for first in range(0, 5, size):
                    merge(one, decode(*order[first : first + size]))
                assert left(bed, DEAD) == ["a"]
