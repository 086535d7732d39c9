"""What the store counts: each event once, under the labels that it turns out to have."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ha_monitor.config.schema import Metrics, WorkerLabels
from ha_monitor.store.duties import Duties
from ha_monitor.store.results import Counting, Watching
from tests.integration.storing import Inside, Instance
from tests.support.counted import exported
from tests.support.scraping import Samples
from tests.unit.builders import TIME, event

BUCKETS = [0.1, 1.0, 10.0]


def counter(url: str, name: str = "host/1", *, counting: Counting | None = None, **changes: Any) -> Instance:
    """An instance that counts."""
    return Instance(url, counting=counting or Counting(name, BUCKETS), **changes).start()


def samples(*instances: Instance, labels: WorkerLabels = WorkerLabels.NODENAME) -> Samples:
    """What a scrape of the instances would bring, added up."""
    settings = Metrics(worker_labels=labels, buckets=BUCKETS)
    return exported([instance.store.counts.read() for instance in instances], settings)


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
    task = {"name": "shop.pay", "queue_name": "celery", "node_id": "tests"}
    worker = {**task, "hostname": "host", "worker": "celery@host"}
    expected = {
        ("celery_task_sent_total", frozenset({**task, "hostname": "web", "worker": ""}.items())): 1.0,
        ("celery_task_received_total", frozenset(worker.items())): 1.0,
        ("celery_task_started_total", frozenset(worker.items())): 2.0,
        ("celery_task_retried_total", frozenset(worker.items())): 1.0,
        ("celery_task_failed_total", frozenset({**worker, "exception": "KeyError"}.items())): 1.0,
    }
    assert {key: value for key, value in found.values.items() if key[0].endswith("_total") and value} == expected


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
    assert {dict(labels)["exception"]: value for (_, labels), value in counted.items()} == {
        "": 0.0,
        "TimeLimitExceeded": 1.0,
    }


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


def test_without_task_sent_the_queue_is_the_one_that_the_worker_consumes(store_url: str, inside: Inside) -> None:
    """Given producers without task-sent, events and waits are counted under the one queue of their worker, as the
    leader told the store, whichever instance merges; and under the default where a worker consumes several, or is not
    known.
    """
    one = counter(store_url, counting=Counting("host/1", BUCKETS, default_queue="celery"))
    two = counter(store_url, "host/2")
    consumes = {"mail@host": "mail", "both@host": ""}

    def run(instance: Instance, worker: str) -> None:
        uuid = f"{worker} at {instance.store.counts.name}"
        instance.apply(
            event("task-received", at=TIME + 1, uuid=uuid, hostname=worker),
            event("task-started", at=TIME + 2, uuid=uuid, hostname=worker),
            event("task-failed", at=TIME + 4, uuid=uuid, hostname=worker, exception="KeyError('x')"),
        )

    def watch(consumes: dict[str, str]) -> None:
        Duties(one.store).watch(Watching(10, 60), [], may_declare_lost=False, consumes=consumes)

    one.apply(*[event("worker-heartbeat", hostname=name) for name in consumes])
    one.store.tick(b"{}", [])
    watch(consumes)
    for instance in (one, two):
        for worker in ("mail@host", "both@host", "new@host"):
            run(instance, worker)

    found = samples(one, two)
    for counted in ("celery_task_started_total", "celery_task_failed_total", "celery_task_queue_wait_time_count"):
        assert found.sums(counted, by="queue_name") == {"mail": 2, "celery": 2, "unknown": 2}

    watch({"mail@host": ""})
    assert inside.redis.hgetall(inside.keys.worker_queues) == {}


def test_the_queues_of_workers_that_are_gone_are_forgotten(store_url: str, inside: Inside) -> None:
    """Given the queues of many workers that nobody hears of, they do not stay in the store."""
    one = counter(store_url)
    one.store.tick(b"{}", [])
    duties = Duties(one.store)
    consumes = {f"celery@{number}": "celery" for number in range(500)}
    assert duties.watch(Watching(10, 60), [], may_declare_lost=False, consumes=consumes) is not None
    for _ in range(20):
        duties.watch(Watching(10, 60), [], may_declare_lost=False)

    assert inside.redis.hlen(inside.keys.worker_queues) == 0


def test_a_sum_stays_exact_when_it_is_large(store_url: str) -> None:
    """Given run times of years, their sum in µs loses no digit."""
    one = counter(store_url)
    for number in range(3):
        life = [event("task-received", uuid=f"t{number}"), event("task-started", uuid=f"t{number}")]
        one.apply([*life, event("task-succeeded", uuid=f"t{number}", runtime=9e7 + 0.000001)])

    sums = [count.number for count in one.store.counts.read() if count.kind == "R"]
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
    assert found.sums("celery_task_failed_total", by="exception") == {"": 0, "KeyError": 60}
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


def test_near_the_limit_workers_are_given_up_before_names(store_url: str) -> None:
    """Given more label sets than there is room for, at first those of new workers are counted without the worker, then
    new names as overflow; what is known goes on, and the sum stays right.
    """
    one = counter(store_url, counting=Counting("host/1", BUCKETS, a_label_set=10, an_exception=2, room=100))
    one.store.counts.make_room(100, 30)
    for n in range(10):
        one.apply(event("task-received", uuid=f"w{n}", hostname=f"celery@h{n}"))
    for n in range(10):
        one.apply(event("task-received", uuid=f"n{n}", name=f"task.{n}", hostname="celery@h0"))
    one.apply(event("task-received", uuid="known", hostname="celery@h0"))

    found = samples(one)
    assert found.sums("celery_task_received_total", by="hostname") == {
        **{f"h{n}": 1 + (n == 0) for n in range(7)},
        "": 5,
        "overflow": 8,
    }
    assert found.sums("celery_task_received_total", by="name") == {
        "shop.pay": 11,
        "task.0": 1,
        "task.1": 1,
        "overflow": 8,
    }


def test_classes_of_exceptions_need_room(store_url: str) -> None:
    """Given more classes of exceptions than there is room for, the rest is overflow, under the task's own labels."""
    one = counter(store_url, counting=Counting("host/1", BUCKETS, a_label_set=10, an_exception=2, room=16))
    for n in range(6):
        life = [event("task-received", uuid=f"t{n}"), event("task-started", uuid=f"t{n}")]
        one.apply([*life, event("task-failed", uuid=f"t{n}", exception=f"E{n}('x')")])

    found = samples(one)
    assert found.sums("celery_task_failed_total", by="exception") == {"": 0, "E0": 1, "E1": 1, "E2": 1, "overflow": 3}
    assert found.sums("celery_task_failed_total", by="name") == {"shop.pay": 6}


def test_all_counters_are_there_with_0_at_every_instance(store_url: str) -> None:
    """Given an event that one instance has counted, each instance knows its label set at the next tick, and exports all
    counters of it; those that begin later read it, and it was created when that was.
    """
    one, two = counter(store_url, "host/1"), counter(store_url, "host/2")
    one.apply(event("task-received"))

    told = two.tick().label_sets
    assert told is not None
    assert (told.size, [label_set.text for label_set in told.added]) == (1, [b"shop.pay\x1fcelery@host\x1funknown"])
    again = two.tick().label_sets
    assert again is not None
    assert (again.size, again.added) == (1, [])
    three = counter(store_url, "host/3")
    found = samples(three)
    counters = {name for name, _ in found.values if name.endswith("_total")}
    assert {f"celery_task_{word}_total" for word in ("sent", "failed", "succeeded", "revoked")} <= counters
    assert found.sums("celery_task_runtime_bucket", by="le") == {"0.1": 0, "1.0": 0, "10.0": 0, "+Inf": 0}
    assert three.store.counts.read().label_sets == told.added


def test_the_replies_tell_what_was_counted(store_url: str) -> None:
    """Given events, what the calls say of them is what the store then has; a new connection makes that unknown."""
    one = counter(store_url)
    one.store.counts.read()
    for number in range(3):
        one.apply([{**body, "uuid": f"t{number}"} for body in LIFE])
    changes = one.store.counts.take_changes()
    known = dict(zip(changes[::2], changes[1::2], strict=True))

    raw = one.store.counts.read().raw
    assert known == {field: int(number) for field, number in zip(raw[::2], raw[1::2], strict=True)}
    assert one.store.counts.take_changes() == []
    one.recover()
    assert one.store.counts.outdated


def test_numbers_are_moved_once(store_url: str) -> None:
    """Given counts that are moved, also by a call that is repeated, the sum is the same, the replies tell it, and the
    label set is forgotten."""
    one = counter(store_url)
    for number in range(3):
        one.apply(event("task-received", uuid=f"t{number}", hostname=f"celery@h{number % 2}"))
    one.store.counts.read()
    both = [f"2\x1fshop.pay\x1fcelery@h{n}\x1funknown\x1f".encode() for n in (0, 1)]
    target = b"2\x1fshop.pay\x1f\x1funknown\x1f"
    moves = [(field, target) for field in both]

    assert one.store.counts.move(moves, [b"shop.pay\x1fcelery@h0\x1funknown"])
    changes = one.store.counts.take_changes()
    assert one.store.counts.move(moves)

    assert dict(zip(changes[::2], changes[1::2], strict=True)) == {both[0]: b"", both[1]: b"", target: b"3"}
    counts = one.store.counts.read()
    assert [(count.parts[1], count.number) for count in counts if count.kind == "2"] == [("", 3)]
    assert [one.text for one in counts.label_sets] == [b"shop.pay\x1fcelery@h1\x1funknown"]


def test_the_counts_of_an_instance_that_is_gone_are_moved(store_url: str, inside: Inside) -> None:
    """Given an instance of which nothing was heard for long, another one takes its counts, but not while it ticks."""
    one, two = counter(store_url, "host/1"), counter(store_url, "host/2")
    one.apply(event("task-received"))
    for instance in (one, two):
        instance.tick()
    (field,) = two.store.counts.read_of("host/1").fields()

    assert not two.store.counts.move([(field, field)], gone=("host/1", 60))
    assert two.store.counts.gone(60) == []
    inside.redis.zadd(inside.keys.counting, {"host/1": 1})
    assert two.store.counts.gone(60) == ["host/1"]
    assert two.store.counts.move([(field, field)], gone=("host/1", 60))

    assert two.store.counts.gone(60) == []
    assert list(one.store.counts.read()) == []
    assert samples(two).sum("celery_task_received_total") == 1


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
    one = counter(store_url, counting=Counting("host/1", BUCKETS, workers=labels.value))
    for number, node in enumerate("ab"):
        one.apply(event("task-received", uuid=f"t{number}", hostname=f"{node}@host"))

    found = samples(one, labels=labels).of("celery_task_received_total")
    assert samples(one, labels=WorkerLabels.NONE).sum("celery_task_received_total") == 2
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
    assert list(one.store.counts.read()) == []
