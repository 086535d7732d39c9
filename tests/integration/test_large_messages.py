"""Messages of very many events on a real broker: they are merged, and nobody loses lease or connection over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.pipeline.collector import batch_parts
from tests.integration.storing import Inside, Instance
from tests.support.instances import Fleet, queue_depth
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.renewals import PATIENT, Renewals
from tests.support.services import PrivateRedis
from tests.unit.builders import TIME, UUID, decode, event

MESSAGES, EVENTS = 30, 8000


def message(*bodies: Any) -> Recorded:
    return Recorded("worker.multi", "application/json", "utf-8", json.dumps(bodies))


def troubles(fleet: Fleet) -> list[Any]:
    """What it said of a lease, an outbox or a connection that was lost."""
    kinds = ("lease-lost", "outbox-taken-over", "store-unavailable", "broker-unavailable")
    return [(line["event"], line.get("reason")) for kind in kinds for line in fleet.said(kind)]


def test_messages_of_very_many_events_do_not_stop_the_fleet(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given messages of very many events, every event of them is merged and what comes behind them is announced; no
    lease, outbox or connection is lost: between two renewals of a lease, an instance works for less than three of the
    messages take.
    """
    large = [
        message(*({"type": "task-sent", "uuid": f"{number}-{n}"} for n in range(EVENTS))) for number in range(MESSAGES)
    ]
    with Fleet(tmp_path, broker_url, store_url, size=2, settings=PATIENT) as fleet:
        renewals = Renewals(fleet, tmp_path)
        renewals.start()
        before = renewals.spent()
        life = [event(f"task-{what}", at=TIME + n) for n, what in enumerate(("received", "started", "succeeded"))]
        publish(broker_url, [*large, message(*life)])
        wait_for_value(lambda: queue_depth(broker_url), 0, 120, "the end of the queue")
        wait_until(
            lambda: sum(entry.stats.get("new", 0) for entry in fleet.entries()) >= MESSAGES * EVENTS + 3,
            120,
            "the merge of all events",
        )
        about = [line for line in fleet.lines() if line.get("task_id") == UUID]
        spent = renewals.spent() - before
        measured(f"messages of {EVENTS} events: work for one", f"{spent / MESSAGES * 1000:.0f} ms")
        measured("… between two renewals of a lease, at most", f"{renewals.most_between() * 1000:.0f} ms")

        assert {line["event"] for line in about} >= {"task-succeeded"}
        assert troubles(fleet) == []
        assert renewals.most_between() < 3 * spent / MESSAGES


@pytest.mark.parametrize("count", [5, 20])
def test_messages_of_too_many_events_keep_no_good_one(
    tmp_path: Path, broker_url: str, store_url: str, count: int
) -> None:
    """Given messages of 70,000 tiny events each, which are refused at the door, with good tasks between them, all good
    tasks are announced, the others are counted and said, and no lease or connection is lost.
    """
    tiny = message(*({"type": "task-sent", "uuid": str(number)} for number in range(70_000)))
    messages = []
    for number in range(count):
        life = [
            event(f"task-{what}", at=TIME + n, uuid=f"good-{number}")
            for n, what in enumerate(("received", "started", "succeeded"))
        ]
        messages += [tiny, message(*life)]

    with Fleet(tmp_path, broker_url, store_url, size=1, settings=PATIENT).start() as fleet:
        publish(broker_url, messages)
        wait_for_value(lambda: len(fleet.said("task-succeeded")), count, 60, "the good tasks", 0.2)
        wait_for_value(lambda: sum(line["count"] for line in fleet.said("event-rejected")), count, 30, "the lines", 0.2)
        (entry,) = fleet.entries()

        assert {line["task_id"] for line in fleet.said("task-succeeded")} == {f"good-{n}" for n in range(count)}
        assert (entry.stats["rejected"], entry.stats["new"]) == (count, 3 * count)
        assert all("70000 events" in line["reason"] for line in fleet.said("event-rejected"))
        assert queue_depth(broker_url) == 0
        assert troubles(fleet) == []


def processor_time(inside: Inside) -> float:
    """Seconds for which Redis has worked."""
    spent = inside.redis.info("cpu")
    return float(spent["used_cpu_user_main_thread"] + spent["used_cpu_sys_main_thread"])


@pytest.mark.parametrize("batches", [1, 40])
def test_only_so_much_waits_in_one_record(one: Instance, inside: Inside, batches: int) -> None:
    """Given very many announcements of one task whose name does not come, a bounded number waits, and what is above
    goes out at once as incomplete; the rest follows, and nothing is lost.
    """
    number = 400 // batches
    for batch in range(batches):
        one.apply(*(event("task-failed", at=TIME + batch * number + n) for n in range(number)))
    at_once = len(one.emitted)

    waiting = inside.record(UUID)[2]
    assert 0 < waiting <= 32
    assert at_once == 400 - waiting
    assert all(item.entry.incomplete for item in one.emitted)
    one.tick()
    assert len({item.entry.event.id for item in one.emitted}) == len(one.emitted) == 400


def test_ten_thousand_announcements_of_one_task_that_wait(own_redis: PrivateRedis, measured: Measured) -> None:
    """Given 10,000 announcements of one task whose name does not come, its record stays small, the last calls take no
    longer than the first, Redis holds no more than at their beginning, and all are announced once.
    """
    one, inside = Instance(own_redis.url()).start(), Inside(own_redis.url())
    events, processor, records, memory = 10_000, [], [], []
    for first in range(0, events, 250):
        ends = [event("task-failed", at=TIME + n, traceback="x" * 1500) for n in range(first, first + 250)]
        for part in batch_parts(decode(ends)):
            before = processor_time(inside)
            one.apply_batch(part)
            processor.append(processor_time(inside) - before)
            records.append(inside.redis.strlen(inside.keys.task(UUID)))
            memory.append(inside.redis.info("memory")["used_memory"])
    while inside.redis.zcard(inside.keys.waiting):
        one.tick()

    measured("10,000 announcements of one task: Redis's processor a call, at most", f"{1000 * max(processor):.0f} ms")
    measured("… its record, at most", f"{max(records) / 1000:.0f} kB")
    measured("… Redis's memory, more than before", f"{(max(memory) - memory[0]) / 1e6:.1f} MB")
    quarter = len(processor) // 4
    assert sum(processor[-quarter:]) < 3 * sum(processor[quarter : 2 * quarter])
    assert max(records) < 65_536 + 12 * 1000 + 4000
    assert max(memory) - memory[0] < 5_000_000
    assert len({item.entry.event.id for item in one.emitted}) == len(one.emitted) == events
    assert all(item.entry.incomplete for item in one.emitted)


def test_a_call_ends_when_the_records_are_large(one: Instance) -> None:
    """Given records of 50 kB each, one call merges only some of the tasks, and the calls together all."""
    for number in range(100):
        failures = [event("task-failed", at=TIME + n, uuid=f"t{number}", traceback="x" * 15_000) for n in range(4)]
        one.apply(failures)

    received = [event("task-received", at=TIME - 1, uuid=f"t{number}") for number in range(100)]
    last = one.apply(*received, event("worker-online"))

    assert 0 < last.merged < 100
    assert one.types.count("task-received") == 100
    assert one.types.count("worker-online") == 1
