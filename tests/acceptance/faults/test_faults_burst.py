"""Redis as the broker, and more events at once than anybody takes: 100,000 as fast as they can be sent."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.broker.pubsub_limit import RECOMMENDED, SETTING, limit_in
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_redis_broker import MIB, alone, lost_outside_the_gap
from tests.conftest import served
from tests.support.hosts_events import fresh_event, message
from tests.support.ledger import Published
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import publish
from tests.support.services import PrivateRedis

FIRST = 5
TASKS = 25_000
WORKERS = 5
# Redis publishes by itself: a client that makes 40,000 messages a second would be a test of the client.
PUBLISH = """
for number = ARGV[1], ARGV[2] do
  for kind = 4, #ARGV, 2 do
    local text = ARGV[kind + 1]:gsub("NUMBER", ("%012d"):format(number)):gsub("TIME", ARGV[3])
    text = text:gsub("WORKER", number % 5)
    redis.call("PUBLISH", "/0.celeryev/" .. ARGV[kind], text)
  end
end
"""
BEAT = {"freq": 2.0, "active": 0, "sw_ident": "py-celery"}
AT_ONCE = 500
"""Tasks whose events Redis publishes before it serves its clients again."""


@pytest.fixture
def own_broker() -> Iterator[PrivateRedis]:
    """A Redis of this test's own, whose limits it sets."""
    yield from served(PrivateRedis)


def body(kind: str, number: str, worker: int | str, time: float | str, **fields: Any) -> dict[str, Any]:
    """An event of a task, or the form for those of many."""
    stamp = {"hostname": f"burst{worker}@nowhere", "utcoffset": 0, "pid": 4711, "clock": 1, "timestamp": time}
    return {"type": kind, "uuid": f"b0b0b0b0-0000-4000-8000-{number}", **stamp, **fields}


KINDS: dict[str, dict[str, Any]] = {
    "task-sent": {"name": "shop.pay", "args": "(4711,)", "kwargs": "{'currency': 'EUR'}", "queue": "celery"},
    "task-received": {"name": "shop.pay", "args": "(4711,)", "kwargs": "{'currency': 'EUR'}", "retries": 0},
    "task-started": {},
    "task-succeeded": {"result": "'paid'", "runtime": 0.1},
}


def envelope(kind: str) -> str:
    """What kombu sends to Redis, for any task: with a body that is not in base64, but as long as if it were."""
    text = json.dumps(body(kind, "NUMBER", "WORKER", "TIME", **KINDS[kind])).replace('"TIME"', "TIME")
    padding = "x" * (len(text) // 3)
    properties = {
        "delivery_mode": 1,
        "delivery_info": {"exchange": "celeryev", "routing_key": kind.replace("-", ".")},
        "priority": 0,
        "delivery_tag": "b0b0b0b0-0000-4000-8000-NUMBER",
    }
    head = {"content-encoding": "utf-8", "content-type": "application/json", "headers": {"padding": padding}}
    return json.dumps({"body": text, **head, "properties": properties})


def publish_all(server: PrivateRedis, first: int, last: int) -> tuple[Published, float]:
    """The events of some tasks, a message each; returns them, and the seconds that it took."""
    forms = [word for kind in KINDS for word in (kind.replace("-", "."), envelope(kind))]
    sent: list[tuple[range, float]] = []
    began = time.monotonic()
    with server.client() as client:
        for start in range(first, last, AT_ONCE):
            numbers, now = range(start, min(last, start + AT_ONCE)), round(time.time(), 3)
            client.eval(PUBLISH, 0, numbers[0], numbers[-1], f"{now:.3f}", *forms)
            sent.append((numbers, now))
    seconds = time.monotonic() - began
    published = Published()
    for numbers, now in sent:
        for number in numbers:
            published.add_event(
                body("task-succeeded", f"{number:012d}", number % WORKERS, now, **KINDS["task-succeeded"])
            )
    return published, seconds


def beat(url: str, begun: int) -> None:
    """The heartbeats of all workers, which have begun so many tasks in all."""
    publish(
        url,
        [
            message(fresh_event("worker-heartbeat", hostname=f"burst{one}@nowhere", pid=4711, processed=count, **BEAT))
            for one, count in Counter(number % WORKERS for number in range(begun)).items()
        ],
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "limit", ["pubsub 33554432 8388608 60", "pubsub 268435456 67108864 60"], ids=["as it is", "raised"]
)
def test_a_burst(
    *, tmp_path: Path, own_broker: PrivateRedis, store_url: str, fault_table: FaultTable, limit: str
) -> None:
    """given one instance, when 100,000 events come at once, then nothing is lost with the recommended limit for
    subscribers; with Redis's own one, what is lost was sent in the gap that is told, is counted, and nobody is called
    lost
    """
    url = own_broker.url(0)
    raised = limit == f"pubsub {RECOMMENDED.hard} {RECOMMENDED.soft} {RECOMMENDED.seconds}"
    with own_broker.client() as client:
        client.config_set(SETTING, limit)
        assert limit_in(client.config_get(SETTING)) is not None
    with alone(tmp_path, url, store_url, workers={"late_after": 60.0, "lost_after": 120.0}) as fleet:
        published, _ = publish_all(own_broker, 0, FIRST)
        beat(url, FIRST)
        wait_for_value(lambda: len(fleet.said("task-succeeded")), FIRST, 60, "work")
        more, seconds = publish_all(own_broker, FIRST, FIRST + TASKS)
        published.update(more)
        size = 100_000 * sum(map(len, map(envelope, KINDS))) // len(KINDS) // MIB
        fleet.wait_until_announced(published, 60 if raised else 10)
        missing = published.missing(fleet.lines())

        def counted() -> int:
            beat(url, FIRST + TASKS)
            return sum(line["lost"] for line in fleet.said("events-lost"))

        if missing:
            wait_until(lambda: abs(counted() - missing) <= 2 * WORKERS, 60, "that the missing runs are counted", 2.0)
        account = fleet.account(published, 1)
        reasons = [line["reason"] for line in fleet.said("broker-unavailable")]
        fault_table.add(f"Redis broker: 100,000 events, {size} MiB, in {seconds:.1f} s, {limit}", account)
        outside = lost_outside_the_gap(fleet, published) if missing else []
        alarms = fleet.said("worker-lost") + fleet.said("workers-lost")
    assert alarms == []
    assert outside == []
    assert (account.doubled, account.shared, account.bad) == (0, 0, []), account
    assert bool(account.lost) <= bool(reasons), "what is lost is said"
    if raised:
        assert account.lost == 0
