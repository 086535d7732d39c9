"""The wait before a run: each run's own, the same in line and metric."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from ha_monitor.outputs.line import EventLine, Identity, build_line
from ha_monitor.store.duties import Duties
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Counting, Watching
from tests.integration.storing import Inside, Instance
from tests.integration.test_counting import BUCKETS, samples
from tests.unit.builders import TIME, event

ETA = datetime.fromtimestamp(TIME + 10, UTC).isoformat()
RETRY: dict[str, Any] = {"retries": 1, "eta": ETA}
RETRIED_ONCE = [
    event("task-sent", at=TIME),
    event("task-received", at=TIME + 1),
    event("task-started", at=TIME + 2),
    event("task-sent", at=TIME + 3, queue="later", **RETRY),
    event("task-retried", at=TIME + 3.5),
    event("task-received", at=TIME + 4, hostname="celery@other", **RETRY),
    event("task-started", at=TIME + 10.5, hostname="celery@other"),
    event("task-succeeded", at=TIME + 11, hostname="celery@other"),
]

AFTER_START = [(13.5, 24.5), (13.5, 26.0), (10.5, 24.5)]


def counter(url: str, name: str) -> Instance:
    return Instance(url, counting=Counting(name, BUCKETS)).start()


def line_of(item: OutboxItem) -> EventLine:
    return build_line(item, Identity("shop", "1", "host", 1), "")


def lines(*instances: Instance) -> dict[str, EventLine]:
    """The latest line of each type."""
    items = [item for instance in instances for item in instance.emitted]
    return {item.entry.event.type: line_of(item) for item in items}


def told(line: EventLine) -> tuple[Any, ...]:
    return line.queue_time, line.retries, line.queue


@pytest.mark.parametrize("retried", [False, True], ids=["one run", "after a retry"])
def test_without_task_sent_a_line_has_the_queue_that_its_worker_consumes(store_url: str, retried: bool) -> None:
    """Given producers without task-sent, the lines of a task have the one queue of its worker, as the leader told the
    store, whichever instance merges; of a worker with several queues the default of the configuration, if there is one;
    else none. That of a receipt has none, as if it were sent: the queue is not waited for.
    """
    leader, other = counter(store_url, "host/1"), counter(store_url, "host/2")
    by_default = Instance(store_url, counting=Counting("host/3", BUCKETS, default_queue="celery")).start()
    consumes = {"mail@host": "mail", "both@host": ""}
    leader.apply(*[event("worker-heartbeat", hostname=name) for name in consumes])
    leader.store.tick(b"{}", [])
    Duties(leader.store).watch(Watching(10, 60), [], may_declare_lost=False, consumes=consumes)

    def queues(instance: Instance, worker: str) -> dict[str, str | None]:
        life = ["received", "started", *(["retried", "received", "started"] if retried else []), "failed"]
        task = {"uuid": f"{worker} at {instance.store.counts.name}", "hostname": worker}
        instance.apply(*(event(f"task-{kind}", at=TIME + at, **task) for at, kind in enumerate(life)))
        found = {kind: line.queue or None for kind, line in lines(instance).items() if line.worker == worker}
        return {kind: queue for kind, queue in found.items() if kind.startswith("task-")}

    def expected(queue: str | None) -> dict[str, str | None]:
        found = dict.fromkeys(["task-started", "task-failed", *(["task-retried"] if retried else [])], queue)
        return {**found, "task-received": None}

    assert queues(other, "mail@host") == expected("mail")
    assert queues(other, "both@host") == expected(None)
    assert queues(by_default, "mail@host") == expected("mail")
    assert queues(by_default, "both@host") == expected("celery")


@pytest.mark.parametrize("order", [RETRIED_ONCE, RETRIED_ONCE[::-1]], ids=["in order", "backwards"])
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_each_run_has_its_own_wait(store_url: str, order: list[dict[str, Any]], together: bool) -> None:
    """Given a task that waited 2 s, and 0.5 s from the eta of its retry, each line has the wait of its run, the retries
    and the queue of its attempt, and the metric has both waits.
    """
    one = counter(store_url, "host/1")
    one.apply([event("task-sent", uuid=f"other {retries}", retries=retries) for retries in (0, 1)])
    for bodies in [order] if together else [[body] for body in order]:
        one.apply(bodies)

    found = lines(one)
    assert told(found["task-retried"]) == (2.0, 1, "celery")
    assert told(found["task-succeeded"]) == (0.5, 1, "later")
    waits = samples(one)
    assert waits.sum("celery_task_queue_wait_time_sum") == pytest.approx(2.5)
    assert waits.sums("celery_task_queue_wait_time_count", by="queue_name") == {"celery": 1, "later": 1}
    assert waits.sum("ha_monitor_clock_skew_total") == 0


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize(
    ("sends", "together", "reported"),
    [
        *product((True, False), (True, False), [(10.5, 20.5), (10.5, 26.0), (26.0, 27.0), (90.0, 91.0)]),
        # Without task-sent, only a known end says that the latest start was not retried.
        *((sends, True, at) for sends, at in product((True, False), AFTER_START)),
        *((True, False, at) for at in AFTER_START),
    ],
)
def test_a_retry_that_its_worker_reports_late_has_its_own_run(
    store_url: str, sends: bool, together: bool, reported: tuple[float, float], backwards: bool
) -> None:
    """Given a worker that retries a task twice without a delay, and reports a retry only when it has begun the next
    attempt, or has even ended the task, the lines of the retries have their own runs, and wait for nothing more.
    """
    one, bodies = counter(store_url, "host/1"), []
    if sends:
        one.apply([event("task-sent", uuid=f"other {retries}", retries=retries) for retries in (0, 1)])
        bodies = [event("task-sent", at=TIME + 10 * number, retries=number) for number in range(3)]
    for number, started in enumerate((2, 13, 24)):
        bodies.append(event("task-received", at=TIME + 10 * number + 1, retries=number))
        bodies.append(event("task-started", at=TIME + started))
    bodies += [event("task-retried", at=TIME + at) for at in reported]
    bodies.append(event("task-succeeded", at=TIME + 25))
    bodies.sort(key=lambda body: float(body["timestamp"]), reverse=backwards)
    for batch in [bodies] if together else [[body] for body in bodies]:
        one.apply(batch)

    items = [item for item in one.emitted if item.entry.event.type == "task-retried"]
    assert [item.entry.incomplete for item in items] == [False, False]
    found = [told(line_of(item))[:2] for item in items]
    assert sorted(found) == ([(2.0, 1), (3.0, 2)] if sends else [(1.0, 1), (2.0, 2)])


def test_a_retry_of_a_later_run_waits_for_its_own_start(store_url: str) -> None:
    """Given a task that ended after a retry, and is sent once more under its id, its retry is not taken for one of the
    first run that is told late: it has the wait of its start, which comes after it.
    """
    one = counter(store_url, "host/1")
    first = [event("task-received", at=TIME), event("task-started", at=TIME + 1), event("task-retried", at=TIME + 2)]
    first += [event("task-received", at=TIME + 3, retries=1), event("task-started", at=TIME + 4)]
    one.apply([*first, event("task-succeeded", at=TIME + 5)])
    before = len(one.emitted)

    one.apply(event("task-received", at=TIME + 50), event("task-retried", at=TIME + 60))
    assert [item.entry.event.type for item in one.emitted[before:]] == ["task-received"]
    one.apply(event("task-started", at=TIME + 53))

    assert told(lines(one)["task-retried"])[:2] == (3.0, 1)


def test_a_wait_is_known_when_both_its_ends_are(store_url: str) -> None:
    """Given a start at one instance before the sending comes to another, line and metric wait for it, and agree."""
    one, two = counter(store_url, "host/1"), counter(store_url, "host/2")
    one.apply(event("task-sent", uuid="other"))
    one.apply([event("task-received", at=TIME + 1), event("task-started", at=TIME + 2)])
    assert "task-started" not in one.types

    two.apply(event("task-sent", at=TIME))

    assert lines(one, two)["task-started"].queue_time == 2.0
    assert samples(one, two).sum("celery_task_queue_wait_time_sum") == pytest.approx(2.0)


def test_two_runs_in_one_batch_are_two_observations(store_url: str) -> None:
    """Given two runs of one task that waited 2 s each, the histogram has two of 2 s."""
    one = counter(store_url, "host/1")
    first = [event("task-sent", at=TIME), event("task-received", at=TIME + 1), event("task-started", at=TIME + 2)]
    again = [body | {"timestamp": body["timestamp"] + 10, "clock": body["clock"] + 10_000} for body in first]
    one.apply([*first, event("task-retried", at=TIME + 3), *(body | {"retries": 1} for body in again)])

    found = samples(one)
    assert found.sum("celery_task_queue_wait_time_count") == 2
    assert found.sum("celery_task_queue_wait_time_sum") == pytest.approx(4.0)


def test_a_negative_wait_is_none_and_tells_of_clocks(store_url: str) -> None:
    """Given a worker whose clock is 1.5 s behind the producer's, the wait is 0, and what was missing is counted."""
    one = counter(store_url, "host/1")
    one.apply([event("task-sent", at=TIME + 2), event("task-received", at=TIME), event("task-started", at=TIME + 0.5)])

    found = samples(one)
    assert lines(one)["task-started"].queue_time == 0.0
    assert found.sum("celery_task_queue_wait_time_count") == 1
    assert found.sum("celery_task_queue_wait_time_sum") == 0
    assert found.sums("ha_monitor_clock_skew_total", by="worker") == {"celery@host": 1}
    assert found.sum("ha_monitor_clock_skew_seconds_total") == pytest.approx(1.5)


def test_a_task_that_runs_once_keeps_few_bytes_for_its_wait(store_url: str) -> None:
    """Given a task that ran once, its record has one number more than without its wait, and nothing of steps."""
    one = Instance(store_url).start()
    one.apply(event("task-sent", at=TIME), event("task-received", at=TIME + 1), event("task-started", at=TIME + 2))
    facts, _, _ = Inside(store_url).record(event("task-sent")["uuid"])

    assert facts["qw"] == 2_000_000
    assert not facts.keys() & {"at", "rs"}


def test_the_runs_of_a_worker_whose_clock_is_behind_are_known(store_url: str) -> None:
    """Given a task of 60 attempts on two workers whose clocks are an hour apart, each run has its own wait and number,
    at the one worker as at the other."""
    one = counter(store_url, "host/1")
    for number in range(60):
        worker, at = ("celery@ahead", TIME + 3600) if number % 3 else ("celery@behind", TIME)
        at += 10 * number
        one.apply(event("task-received", at=at, hostname=worker, retries=number))
        one.apply(event("task-started", at=at + 2, hostname=worker))
        one.apply(event("task-retried", at=at + 3, hostname=worker))

    retried = [line_of(item) for item in one.emitted]
    retried = [line for line in retried if line.event == "task-retried"]

    assert [(line.queue_time, line.retries) for line in retried] == [(2.0, number + 1) for number in range(60)]
