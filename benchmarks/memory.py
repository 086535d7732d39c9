"""Resident memory over a million events, and CPU without any."""

from __future__ import annotations

import itertools
import time

from benchmarks.bed import Services, instance
from benchmarks.table import Row
from tests.support.recording import publish, read_stream, replicate
from tests.support.services import wait_until

MILLION = 1_000_000
IDLE_SECONDS = 30
GROWTH = 3.0
"""Megabytes between a quarter of the events and all of them that still count as flat."""


def run(services: Services) -> list[Row]:
    stream = read_stream("stream")
    events = sum(len(message.events) for message in stream)
    copies = -(-MILLION // events)
    seen = []
    with services.vhost("memory") as broker, instance(broker, services.redis.url(3)) as monitor:
        monitor.wait_lines(3)
        copied = replicate(stream, copies)
        for _ in range(copies):
            publish(broker, itertools.islice(copied, len(stream)))
            # As long as lines come, events do.
            wait_until(lambda: time.time() - monitor.last_line > 1, 120, "the end of a copy of the stream")
            seen.append(monitor.memory())
        total = events * copies
    first, last = seen[len(seen) // 4], seen[-1]
    flat = last - first <= GROWTH and last <= 80
    return [
        Row(
            f"resident memory after {events:,} / {total // 2:,} / {total:,} events",
            f"{seen[0]:.0f} / {seen[len(seen) // 2]:.0f} / {last:.0f} MB",
            "flat, ≤ 80 MB",
            "",
            flat,
        )
    ]


def run_idle(services: Services) -> list[Row]:
    with services.vhost("idle") as broker, instance(broker, services.redis.url(4)) as monitor:
        monitor.wait_lines(3)
        time.sleep(2)  # the start itself is not what is measured
        used, began = monitor.cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        part = (monitor.cpu() - used) / (time.monotonic() - began)
    return [Row(f"CPU without traffic, over {IDLE_SECONDS} s", f"{part:.2%}", "≤ 1 %", "", part <= 0.01)]
