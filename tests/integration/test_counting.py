"""What the store counts: each event once, under the labels that it turns out to have."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from ha_monitor.config.schema import WorkerLabels
from ha_monitor.metrics.counts import TaskCounts
from ha_monitor.store.results import Counting
from tests.integration.storing import Inside, Instance
from tests.support.scraping import Samples
from tests.unit.builders import TIME, event

BUCKETS = [0.1, 1.0, 10.0]


def counter(
    url: str, name: str = "host/1", *, per_worker: bool = True, max_series: int = 1000, **changes: Any
) -> Instance:
    """An instance that counts."""
    return Instance(url, counting=Counting(name, max_series, BUCKETS, per_worker), **changes).start()


def samples(*instances: Instance, labels: WorkerLabels = WorkerLabels.NODENAME) -> Samples:
    """What a scrape of the instances would bring, added up."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    counts = TaskCounts(labels, BUCKETS)
    for instance in instances:
        counts.add(instance.store.counts())

    class Collected:
        def collect(self) -> Any:
            return counts.families()

    registry = CollectorRegistry()
    registry.register(Collected())
    return Samples(generate_latest(registry).decode())


LIFE = [
    event("task-sent", at=TIME, hostname="gen99@web"),
    event("task-received", at=TIME + 1),
    event("task-started", at=TIME + 1.5),
    event("task-retried", at=TIME + 2),
    event("task-started", at=TIME + 3),
    event("task-failed", at=TIME + 4, exception="KeyError('x')"),
]


def test_a_life_is_counted_event_by_event(store_url: str) -> None:
    """Given the events of a task that was retried and failed, each counter has them, with celery-exporter's labels."""
    one = counter(store_url)
    one.apply(LIFE)

    found = samples(one)
    task = {"name": "shop.pay", "queue_name": "celery"}
    worker = {**task, "hostname": "host", "worker": "celery@host"}
    expected = {
        ("celery_task_sent_total", frozenset({**task, "hostname": "web", "worker": ""}.items())): 1.0,
        ("celery_task_received_total", frozenset(worker.items())): 1.0,
        ("celery_task_started_total", frozenset(worker.items())): 2.0,
        ("celery_task_retried_total", frozenset(worker.items())): 1.0,
        ("celery_task_failed_total", frozenset({**worker, "exception": "KeyError"}.items())): 1.0,
    }
    assert {key: value for key, value in found.values.items() if key[0].endswith("_total")} == expected


def test_a_run_over_its_hard_time_limit_is_one_failure(store_url: str) -> None:
    """Given the two failures that Celery 5.7 sends of such a run, both with billiard's wrapper as their exception, one
    is counted, under the exception's own class."""
    one = counter(store_url)
    trace = 'Traceback:\n  File "/pool.py"\n    raise\nbilliard.exceptions.TimeLimitExceeded: TimeLimitExceeded(3,)\n'
    failed = [
        event("task-failed", at=TIME + 4 + n / 100, exception="ExceptionWithTraceback()", traceback=trace)
        for n in range(2)
    ]
    one.apply(event("task-sent"), event("task-received", at=TIME + 1), event("task-started", at=TIME + 1), failed[0])
    one.apply(failed[1])

    found = samples(one)

    counted = {key: value for key, value in found.values.items() if key[0] == "celery_task_failed_total"}
    assert [(dict(labels)["exception"], value) for (_, labels), value in counted.items()] == [
        ("TimeLimitExceeded", 1.0)
    ]


def test_histograms(store_url: str) -> None:
    """Given run times and waits, the histograms count them up to each bound, and their sums are exact."""
    one = counter(store_url)
    for number, runtime in enumerate((0.05, 0.5, 100.0)):
        uuid = f"task-{number}"
        one.apply(
            [
                event("task-sent", at=TIME, uuid=uuid),
                event("task-received", at=TIME + 1, uuid=uuid),
                event("task-started", at=TIME + 2, uuid=uuid),
                event("task-succeeded", at=TIME + 200, uuid=uuid, runtime=runtime),
            ]
        )

    found = samples(one)
    assert found.sums("celery_task_runtime_bucket", by="le") == {"0.1": 1, "1.0": 2, "10.0": 2, "+Inf": 3}
    assert found.sum("celery_task_runtime_sum") == pytest.approx(100.55)
    assert found.sum("celery_task_runtime_count") == 3
    assert found.sums("celery_task_queue_wait_time_bucket", by="le") == {"0.1": 0, "1.0": 0, "10.0": 3, "+Inf": 3}
    assert found.sum("celery_task_queue_wait_time_sum") == pytest.approx(6)


def test_a_sum_stays_exact_when_it_is_large(store_url: str) -> None:
    """Given run times of years, their sum in µs loses no digit."""
    one = counter(store_url)
    for number in range(3):
        life = [event("task-received", uuid=f"t{number}"), event("task-started", uuid=f"t{number}")]
        one.apply([*life, event("task-succeeded", uuid=f"t{number}", runtime=9e7 + 0.000001)])

    sums = [count.number for count in one.store.counts() if count.kind == "R"]
    assert sums == [270_000_000_000_003]


def test_whatever_the_order_and_repetition_each_event_counts_once(store_url: str) -> None:
    """Given events in random orders, repeated and dealt out to two instances, the sum over both has each once, all
    under the task's name.
    """
    chance = random.Random(5)
    one, two = counter(store_url, "host/1"), counter(store_url, "host/2")
    for number in range(60):
        events = [body | {"uuid": f"task-{number}"} for body in LIFE]
        stream = events + chance.sample(events, 3)
        chance.shuffle(stream)
        for body in stream:
            chance.choice((one, two)).apply(body)

    found = samples(one, two)
    names = {name: found.sums(f"celery_task_{name}_total", by="name") for name in ("sent", "received", "started")}
    assert names == {"sent": {"shop.pay": 60}, "received": {"shop.pay": 60}, "started": {"shop.pay": 120}}
    assert found.sums("celery_task_failed_total", by="exception") == {"KeyError": 60}
    assert found.sum("celery_task_retried_total") == 60


def test_events_of_a_task_whose_name_never_comes_count_as_unknown(store_url: str) -> None:
    """Given a start and an end without the piece with the name, they are counted once their wait is over, once."""
    one, two = counter(store_url, "host/1"), counter(store_url, "host/2")
    one.apply(event("task-started"), event("task-succeeded", at=TIME + 1))
    assert samples(one).sum("celery_task_started_total") == 0
    Inside(store_url).let_wait_end()

    two.tick()
    one.tick()

    found = samples(one, two)
    assert found.sums("celery_task_started_total", by="name") == {"unknown": 1}
    assert found.sums("celery_task_succeeded_total", by="name") == {"unknown": 1}


def test_an_event_that_nobody_announces_waits_to_be_counted(store_url: str) -> None:
    """Given a start that no line is written of, before its task's name, it counts under the name that comes."""
    one = counter(store_url)
    one.apply_batch(quiet(event("task-started")))
    one.apply_batch(quiet(event("task-received", at=TIME - 1)))

    assert samples(one).sums("celery_task_started_total", by="name") == {"shop.pay": 1}
    assert Inside(store_url).redis.zcard(Inside(store_url).keys.waiting) == 0


def quiet(body: Any) -> Any:
    from ha_monitor.config.schema import LogLevel
    from tests.unit.builders import decode

    return decode(body, level=LogLevel.ERROR)


def test_counts_go_on_after_a_restart(store_url: str) -> None:
    """Given an instance that starts again under its name, its counters go on where they were."""
    counter(store_url).apply(LIFE)
    again = counter(store_url)
    again.apply(event("task-started", at=TIME + 9))

    assert samples(again).sum("celery_task_started_total") == 3


def test_beyond_the_limit_the_rest_is_one_series(store_url: str) -> None:
    """Given more task names than max_series allows, the sum stays right and the rest is labelled overflow."""
    one = counter(store_url, max_series=100)
    for start in range(0, 300, 50):
        one.apply([event("task-received", uuid=f"t{n}", name=f"task.number{n}") for n in range(start, start + 50)])

    found = samples(one)
    by_name = found.sums("celery_task_received_total", by="name")
    assert sum(by_name.values()) == 300
    assert len(by_name) <= 101
    assert by_name["overflow"] == 300 - (len(by_name) - 1)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (WorkerLabels.NODENAME, {("a@host", "host"): 1, ("b@host", "host"): 1}),
        (WorkerLabels.HOSTNAME, {(None, "host"): 2}),
        (WorkerLabels.NONE, {(None, None): 2}),
    ],
)
def test_worker_labels(store_url: str, labels: WorkerLabels, expected: dict[Any, int]) -> None:
    """Given two workers on one host, the setting says how they are told apart."""
    one = counter(store_url, per_worker=labels is not WorkerLabels.NONE)
    for number, node in enumerate("ab"):
        one.apply(event("task-received", uuid=f"t{number}", hostname=f"{node}@host"))

    found = samples(one, labels=labels).of("celery_task_received_total")
    assert {(dict(key).get("worker"), dict(key).get("hostname")): int(v) for key, v in found.items()} == expected


def test_names_with_control_characters_do_no_harm(store_url: str) -> None:
    """Given names that contain the separator of the fields, the sum is right and a scrape works."""
    one = counter(store_url)
    for number, name in enumerate(("a\x1fb", "a\x1f\x1f\x1f\x1fb", 'a\nb"c')):
        one.apply(event("task-received", uuid=f"t{number}", name=name), event("task-succeeded", uuid=f"t{number}"))

    found = samples(one)
    assert found.sum("celery_task_received_total") == 3
    assert found.sum("celery_task_runtime_count") == 3


def test_without_counting_nothing_is_written(store_url: str) -> None:
    """Given an instance without http.listen, no counts are kept."""
    one = Instance(store_url).start()
    one.apply(LIFE)
    one.tick()

    inside = Inside(store_url)
    assert [key for key in inside.redis.scan_iter() if b"counts" in key] == []
    assert list(itertools.chain(one.store.counts())) == []
