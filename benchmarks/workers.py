"""What 20,000 nodenames cost Redis: its longest call by SLOWLOG, and its CPU once all of them are known."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

from redis import Redis

from benchmarks.bed import Services, declare_queue, instance, redis_cpu
from benchmarks.speed import LINES_BEFORE
from benchmarks.table import Row
from tests.support.recording import Recorded, publish

NODENAMES = 20_000
SETTLES, LASTS = 20, 60
"""Seconds that are left for what the leader does with new workers, and for which it is measured then."""
LONGEST, MOST = 10, 5
"""ms of a call, and % of a core."""


def run(services: Services) -> list[Row]:
    client = services.redis.client(3)
    client.flushdb()
    client.config_set("slowlog-log-slower-than", 1000)
    client.config_set("slowlog-max-len", 1_000_000)
    with services.vhost("workers") as broker:
        declare_queue(broker, services.redis.url(3))
        publish(broker, messages(NODENAMES))
        _longest_call(client)
        with instance(broker, services.redis.url(3)) as monitor:
            monitor.wait_lines(LINES_BEFORE + NODENAMES)
            time.sleep(SETTLES)
            merging = _longest_call(client)
            before, began = redis_cpu(services.redis), time.monotonic()
            time.sleep(LASTS)
            percent = 100 * (redis_cpu(services.redis) - before) / (time.monotonic() - began)
            watching = _longest_call(client)
    print("longest calls in ms", merging, watching, file=sys.stderr)
    longest = max(merging, watching)
    return [
        Row(
            f"{NODENAMES:,} nodenames with a task each: longest call of Redis",
            f"{merging:.1f} ms while they come, {watching:.1f} ms afterwards",
            f"≤ {LONGEST} ms",
            good=longest <= LONGEST,
        ),
        Row("… CPU of Redis once they are known", f"{percent:.1f} % of a core", f"≤ {MOST} %", good=percent <= MOST),
    ]


def messages(count: int) -> Iterator[Recorded]:
    """What so many workers send that begin, run a task each, and are heard of once more."""
    for number in range(count):
        base = {"hostname": f"celery@pod-{number:06d}", "pid": 1000 + number, "utcoffset": 0, "timestamp": time.time()}
        about = {**base, "freq": 2.0, "sw_ident": "py-celery", "sw_ver": "5.6.0", "sw_sys": "Linux"}
        task = {**base, "uuid": f"{number:08d}-1111-2222-3333-444444444444"}
        ends = {**task, "type": "task-succeeded", "clock": 4, "runtime": 0.01, "result": "None"}
        for key, events in (
            ("worker.online", {**about, "type": "worker-online", "clock": 1}),
            (
                "task.multi",
                [
                    {**task, "type": "task-received", "clock": 2, "name": "bench.task", "retries": 0},
                    {**task, "type": "task-started", "clock": 3},
                ],
            ),
            ("task.multi", [ends]),
            ("worker.heartbeat", {**about, "type": "worker-heartbeat", "clock": 5, "active": 0, "processed": 1}),
        ):
            yield Recorded(key, "application/json", "utf-8", json.dumps(events))


def _longest_call(client: Redis) -> float:
    """In ms, since this was asked last."""
    calls = client.slowlog_get(1_000_000)
    client.slowlog_reset()
    return max((call["duration"] for call in calls), default=0) / 1000
