"""Events of many megabytes, from real brokers: they are announced, and so is everything beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.celery_app import make_app
from tests.support.instances import Fleet, queue_depth
from tests.support.machine import patient
from tests.support.measured import Measured
from tests.support.process import wait_until
from tests.support.recording import Recorded, publish
from tests.support.workers import CeleryWorker
from tests.unit.builders import TIME, event
from tests.unit.test_long_texts import undecodable

SHORT_LEASE = {"store": {"lease": 1.0, "timeout": 0.6}, "broker": {"connect_timeout": 0.6}}
WAYS = ("received", "started", "failed")


def message(*events: dict[str, Any]) -> Recorded:
    return Recorded("task.multi", "application/json", "utf-8", json.dumps(events))


def large_message(megabytes: int) -> Recorded:
    """A message with a failed task of so many MB, and two tasks that have ended beside it, before and after."""
    large = event("task-failed", uuid=f"large-{megabytes}", at=TIME + 2, exception=undecodable(megabytes * 200_000))
    before, after = (event("task-succeeded", uuid=f"{at}-{megabytes}", at=TIME + 2) for at in ("before", "after"))
    return message(before, large, after)


def lives(uuids: Iterable[str]) -> Recorded:
    """How tasks began."""
    return message(*(event(f"task-{way}", uuid=uuid, at=TIME + n) for n, way in enumerate(WAYS[:2]) for uuid in uuids))


def peak_memory(fleet: Fleet) -> int:
    """Most bytes that an instance has used."""
    statuses = [Path(f"/proc/{one.process.pid}/status").read_text() for one in fleet.instances]
    return max(int(kilobytes) * 1024 for status in statuses for kilobytes in re.findall(r"VmHWM:\s+(\d+) kB", status))


def troubles(fleet: Fleet) -> list[Any]:
    kinds = ("lease-lost", "outbox-taken-over", "store-unavailable", "broker-unavailable", "event-rejected")
    return [(line["event"], line.get("reason")) for kind in kinds for line in fleet.said(kind)]


def test_large_events_are_announced_by_rabbitmq(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given failures of 1, 5, 20 and 100 MB, with ends of other tasks in the same message and in messages between them,
    all are announced, once; little memory is used, and no lease or connection is lost."""
    sizes = (1, 5, 20, 100)
    between = [
        message(*(event(f"task-{way}", uuid=f"between-{n}", at=TIME + at) for at, way in enumerate(WAYS)))
        for n in range(len(sizes))
    ]
    about = [f"{kind}-{size}" for size in sizes for kind in ("before", "large", "after")]
    expected = {*about, *(f"between-{n}" for n in range(len(sizes)))}

    with Fleet(tmp_path, broker_url, store_url, size=2, settings=SHORT_LEASE).start() as fleet:
        before = peak_memory(fleet)
        publish(broker_url, [lives(about)])
        for size, good in zip(sizes, between, strict=True):
            publish(broker_url, [large_message(size), good])

        def ends() -> list[str]:
            return [line["task_id"] for line in fleet.said("task-failed") + fleet.said("task-succeeded")]

        wait_until(lambda: len(ends()) >= len(expected), patient(120), "all ends", 0.2)
        wait_until(lambda: queue_depth(broker_url) == 0, patient(30), "the end of the queue", 0.2)
        grown = peak_memory(fleet) - before
        measured("events of 1 to 100 MB: memory of an instance, more than before", f"{grown / 1e6:.0f} MB")

        assert sorted(ends()) == sorted(expected)
        assert troubles(fleet) == []
        for line in fleet.said("task-failed"):
            if line["task_id"].startswith("large"):
                assert line["exception"].startswith("UnicodeDecodeError('utf-8', b'\\xff\\xff")
        assert grown < 50_000_000


def test_a_large_event_is_announced_by_redis(tmp_path: Path, redis_broker_url: str, store_url: str) -> None:
    """Given a failure of 20 MB on a Redis broker, which is as much as its default limit lets through, it is announced
    with what is beside it."""
    about = ["before-20", "large-20", "after-20"]
    with Fleet(tmp_path, redis_broker_url, store_url, size=1).start() as fleet:
        publish(redis_broker_url, [lives(about), large_message(20)])

        def ends() -> set[str]:
            return {line["task_id"] for line in fleet.said("task-failed") + fleet.said("task-succeeded")}

        wait_until(lambda: ends() == set(about), patient(60), "all ends", 0.2)
        assert troubles(fleet) == []


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_real_worker_that_fails_with_a_large_text(tmp_path: Path, broker_url: str, store_url: str, pool: Any) -> None:
    """Given a real worker whose task fails to decode 0.9 MB, its failure has a line, and so have those around it."""
    with (
        Fleet(tmp_path, broker_url, store_url, size=1).start() as fleet,
        CeleryWorker(broker_url, pool=pool),
    ):
        app = make_app(broker_url)
        app.tasks["tests.fail"].delay("before")
        app.tasks["tests.decode"].delay(900_000)
        app.tasks["tests.fail"].delay("after")
        wait_until(lambda: len(fleet.said("task-failed")) >= 3, patient(60), "the failures", 0.2)

        found = {line["task_name"]: line for line in fleet.said("task-failed")}
        assert found["tests.decode"]["exception"].startswith("UnicodeDecodeError('utf-8', b'\\xff")
        assert "in decode" in found["tests.decode"]["traceback"]
        assert troubles(fleet) == []
