"""Events of many megabytes, from real brokers: they are announced, and so is everything beside them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.broker.buffered import MAX_READ_AHEAD
from ha_monitor.events.body import MAX_BODY
from ha_monitor.pipeline.broker_link import DEPTH_EVERY
from ha_monitor.store.own_state import MAX_BYTES as RECENT_WORK
from tests.support.celery_app import make_app
from tests.support.fault_handlers import VARIABLE
from tests.support.instances import Fleet, queue_depth, vhost_of
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.renewals import PATIENT, Renewals
from tests.support.services import PrivateRabbitMQ
from tests.support.slow_handlers import WAITING, Gate
from tests.support.workers import CeleryWorker
from tests.unit.builders import TIME, event
from tests.unit.test_long_texts import undecodable

WHOLE = 800_000
"""Bytes that fail to be decoded, and make a body that is just not truncated."""
WAYS = ("received", "started", "failed")


def message(*events: dict[str, Any]) -> Recorded:
    return Recorded("task.multi", "application/json", "utf-8", json.dumps(events))


def large_message(megabytes: int) -> Recorded:
    """A message with a failed task of so many MB, and two tasks that have ended beside it, before and after."""
    large = event("task-failed", uuid=f"large-{megabytes}", at=TIME + 2, exception=undecodable(megabytes * 200_000))
    before, after = (event("task-succeeded", uuid=f"{at}-{megabytes}", at=TIME + 2) for at in ("before", "after"))
    return message(before, large, after)


def seconds_to_decode_one_megabyte() -> float:
    """Seconds of a core that it takes this machine."""
    megabytes = 20
    body = large_message(megabytes).body
    began = time.process_time()
    json.loads(body)
    return (time.process_time() - began) / megabytes


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
    all are announced, once; little memory is used, and no lease or connection is lost: between two renewals of a lease,
    an instance works for less than decoding the largest event at once would take.
    """
    sizes = (1, 5, 20, 100)
    between = [
        message(*(event(f"task-{way}", uuid=f"between-{n}", at=TIME + at) for at, way in enumerate(WAYS)))
        for n in range(len(sizes))
    ]
    about = [f"{kind}-{size}" for size in sizes for kind in ("before", "large", "after")]
    expected = {*about, *(f"between-{n}" for n in range(len(sizes)))}

    with Fleet(tmp_path, broker_url, store_url, size=2, settings=PATIENT) as fleet:
        renewals = Renewals(fleet, tmp_path)
        renewals.start()
        before = peak_memory(fleet)
        publish(broker_url, [lives(about)])
        for size, good in zip(sizes, between, strict=True):
            publish(broker_url, [large_message(size), good])

        def ends() -> list[str]:
            return [line["task_id"] for line in fleet.said("task-failed") + fleet.said("task-succeeded")]

        wait_until(lambda: len(ends()) >= len(expected), 120, "all ends", 0.2)
        wait_for_value(lambda: queue_depth(broker_url), 0, 30, "the end of the queue", 0.2)
        grown = peak_memory(fleet) - before
        measured("events of 1 to 100 MB: memory of an instance, more than before", f"{grown / 1e6:.0f} MB")
        most = renewals.most_between()
        at_once = sizes[-1] * seconds_to_decode_one_megabyte()
        measured("… work between two renewals of a lease, at most", f"{most * 1000:.0f} ms")
        measured("… to decode the largest at once", f"{at_once * 1000:.0f} ms")

        assert sorted(ends()) == sorted(expected)
        assert troubles(fleet) == []
        for line in fleet.said("task-failed"):
            if line["task_id"].startswith("large"):
                assert line["exception"].startswith("UnicodeDecodeError('utf-8', b'\\xff\\xff")
        assert grown < 50_000_000
        assert most < at_once


def test_memory_is_bounded_when_all_that_may_be_delivered_is_large(
    *, tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given a handler that takes long, and meanwhile as many messages as are delivered without an acknowledgement, of
    4 MB, which are kept whole, and of 4.5 MB, with small ones between them, the instance keeps of all that no more than
    it reads ahead, and its connection; once the handler returns, all are announced, once.
    """
    larges = [WHOLE, WHOLE, WHOLE, WHOLE + 100_000] * 15
    small = [f"small-{n}" for n in range(len(larges))]
    large = [f"large-{n}" for n in range(len(larges))]
    settings: dict[str, dict[str, Any]] = {
        "handlers": {"modules": ["tests.support.slow_handlers"]},
        "broker": {"prefetch": 2 * len(larges)},
    }

    def in_flight() -> int:
        return int(rabbitmq.queues(vhost_of(broker_url))["celeryev.fleet"]["messages_unacknowledged"])

    with Fleet(
        tmp_path, broker_url, store_url, size=1, settings=settings, env={VARIABLE: str(tmp_path)}
    ).start() as fleet:
        before = peak_memory(fleet)
        publish(broker_url, [lives([*large, *small]), message(event(WAITING, uuid=None, at=TIME))])
        gate = Gate(tmp_path)
        gate.wait_until_begun()
        for one, other, size in zip(large, small, larges, strict=True):
            ended = event("task-failed", uuid=one, at=TIME + 2, exception=undecodable(size))
            publish(broker_url, [message(ended), message(event("task-succeeded", uuid=other, at=TIME + 2))])
        wait_for_value(in_flight, 2 * len(larges), 60, "all that may be delivered", 0.5)
        time.sleep(2 * DEPTH_EVERY)  # the queue's length is due, whose answer is behind all that
        waited = peak_memory(fleet) - before
        gate.open()

        def ends() -> list[str]:
            return [line["task_id"] for line in fleet.said("task-failed") + fleet.said("task-succeeded")]

        wait_until(lambda: len(ends()) >= len(large) + len(small), 120, "all ends", 0.2)
        wait_for_value(lambda: queue_depth(broker_url), 0, 30, "the end of the queue", 0.2)
        grown = peak_memory(fleet) - before
        delivered = 5 * sum(larges)
        measured(f"{delivered / 1e6:.0f} MB delivered at once: memory, more than before", f"{grown / 1e6:.0f} MB")

        assert sorted(ends()) == sorted([*large, *small])
        assert troubles(fleet) == []
        assert max(waited, grown) < MAX_READ_AHEAD + RECENT_WORK + 4 * MAX_BODY < 5 * WHOLE * larges.count(WHOLE) / 1.5


def test_a_large_event_is_announced_by_redis(tmp_path: Path, redis_broker_url: str, store_url: str) -> None:
    """Given a failure of 20 MB on a Redis broker, which is as much as its default limit lets through, it is announced
    with what is beside it."""
    about = ["before-20", "large-20", "after-20"]
    with Fleet(tmp_path, redis_broker_url, store_url, size=1).start() as fleet:
        publish(redis_broker_url, [lives(about), large_message(20)])

        def ends() -> set[str]:
            return {line["task_id"] for line in fleet.said("task-failed") + fleet.said("task-succeeded")}

        wait_for_value(ends, set(about), 60, "all ends", 0.2)
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
        wait_until(lambda: len(fleet.said("task-failed")) >= 3, 60, "the failures", 0.2)

        found = {line["task_name"]: line for line in fleet.said("task-failed")}
        assert found["tests.decode"]["exception"].startswith("UnicodeDecodeError('utf-8', b'\\xff")
        assert "in decode" in found["tests.decode"]["traceback"]
        assert troubles(fleet) == []
