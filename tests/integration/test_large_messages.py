"""Messages of very many events on a real broker: they are merged, and nobody loses lease or connection over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.storing import Inside, Instance
from tests.support.instances import Fleet, queue_depth
from tests.support.process import wait_until
from tests.support.recording import Recorded, publish
from tests.unit.builders import TIME, UUID, event

MESSAGES, EVENTS = 30, 8000


def message(*bodies: Any) -> Recorded:
    return Recorded("worker.multi", "application/json", "utf-8", json.dumps(bodies))


def test_messages_of_very_many_events_do_not_stop_the_fleet(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given messages that take longer to merge than the lease, every event of them is merged and what comes behind
    them is announced; no lease, outbox or connection is lost.
    """
    large = [
        message(*({"type": "task-sent", "uuid": f"{number}-{n}"} for n in range(EVENTS))) for number in range(MESSAGES)
    ]
    settings = {"store": {"lease": 1.0}, "broker": {"connect_timeout": 0.95}}

    with Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet:
        life = [event(f"task-{what}", at=TIME + n) for n, what in enumerate(("received", "started", "succeeded"))]
        publish(broker_url, [*large, message(*life)])
        wait_until(lambda: queue_depth(broker_url) == 0, 120, "the end of the queue")
        wait_until(
            lambda: sum(entry.stats.get("new", 0) for entry in fleet.entries()) >= MESSAGES * EVENTS + 3,
            120,
            "the merge of all events",
        )
        about = [line for line in fleet.lines() if line.get("task_id") == UUID]

        assert {line["event"] for line in about} >= {"task-succeeded"}
        troubles = ("lease-lost", "outbox-taken-over", "store-unavailable", "broker-unavailable")
        assert [(line["event"], line.get("reason")) for trouble in troubles for line in fleet.said(trouble)] == []


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
