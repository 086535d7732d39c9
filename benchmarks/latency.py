"""From publishing to the line, at a steady rate."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from benchmarks.bed import Services, instance
from benchmarks.table import Row
from tests.support.recording import Recorded, publish

RATE = 2000
"""Events a second; a task has three, in two messages, as a worker sends them."""
SECONDS = 20


class Delays(NamedTuple):
    """Seconds from an event's timestamp to its line."""

    middle: float
    late: float
    """Of a hundred, one takes longer."""
    worst: float


def run(services: Services) -> list[Row]:
    delays = measure(services)
    middle, late, worst = (f"{one * 1000:.0f} ms" for one in delays)
    shown = f"p50 {middle}, p99 {late}, max {worst}"
    return [Row(f"publish to line at {RATE:,} events/s", shown, "p99 ≤ 100 ms", "50 ms", delays.late <= 0.1)]


def measure(services: Services) -> Delays:
    """Of one instance, at the steady rate."""
    tasks = RATE * SECONDS // 3
    with services.vhost("latency") as broker, instance(broker, services.redis.url(2)) as monitor:
        monitor.wait_lines(3)
        monitor.keep_output()
        publish(broker, messages(tasks), rate=RATE * 2 / 3)
        monitor.wait_lines(3 + tasks)
        delays = sorted(_delays(monitor.data))
    return Delays(delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1])


def messages(tasks: int) -> Iterator[Recorded]:
    """What a worker sends for so many tasks; each event is stamped when it is taken from here."""
    for number in range(tasks):
        identity = str(uuid.uuid4())

        def event(kind: str, clock: int, task_id: str = identity, **fields: object) -> dict[str, object]:
            base = {"type": f"task-{kind}", "uuid": task_id, "hostname": "w@bench", "pid": 1, "utcoffset": 0}
            return {**base, "timestamp": time.time(), "clock": clock, **fields}

        first = [event("received", 3 * number, name="bench.task", retries=0), event("started", 3 * number + 1)]
        yield Recorded("task.multi", "application/json", "utf-8", json.dumps(first))
        last = [event("succeeded", 3 * number + 2, runtime=0.001, result="None")]
        yield Recorded("task.multi", "application/json", "utf-8", json.dumps(last))


def _delays(pieces: list[tuple[float, bytes]]) -> Iterator[float]:
    rest = b""
    for read_at, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            fields = json.loads(line)
            if "event_time" in fields:
                yield read_at - _seconds(fields["event_time"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
