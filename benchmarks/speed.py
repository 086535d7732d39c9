"""Events per second and CPU per event: the plain monitor against one instance, and the size of a task in Redis."""

from __future__ import annotations

import statistics
import sys
import time
from typing import NamedTuple

from benchmarks.bed import Measured, Services, declare_queue, instance, redis_cpu
from benchmarks.table import Row
from tests.support.process import wait_for_value
from tests.support.recording import Recorded, publish, read_stream

ROUNDS = 3
LINES_BEFORE = 3
"""instance-started, store-connected, broker-connected."""
LATE = 0.001
"""Share of the lines that is not waited for: the recording lacks the start of a few runs, whose lines wait for it."""


LAST = Recorded(
    "benchmark.finished",
    "application/json",
    "utf-8",
    '{"type": "benchmark-finished", "hostname": "b@b", "pid": 1, "clock": 1, "timestamp": 1764000000.0}',
)


class Result(NamedTuple):
    """One pass over the stream."""

    rate: float
    """Events a second."""
    cost: float
    """µs of CPU per event."""
    redis_cost: float = 0.0
    bytes_a_task: float = 0.0


def run(services: Services) -> list[Row]:
    stream = read_stream("stream")
    events = sum(len(message.events) for message in stream)
    plain, ours = [], []
    for number in range(ROUNDS):
        turns = [
            lambda n=number: plain.append(measure_plain(services, stream, events, f"plain{n}")),
            lambda n=number: ours.append(measure_instance(services, stream, events, f"ours{n}")),
        ]
        # Whatever changes on the machine meanwhile must not always hit the same one first.
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
    print("plain", plain, file=sys.stderr)
    print("ours", ours, file=sys.stderr)
    first, second = _median(plain), _median(ours)
    times, part = second.rate / first.rate, second.cost / first.cost
    return [
        Row(
            f"plain monitor, {events:,} events, median of {ROUNDS}", f"{first.rate:,.0f} events/s, {first.cost:.1f} µs"
        ),
        Row("one instance, the same events", f"{second.rate:,.0f} events/s, {second.cost:.1f} µs"),
        Row("… events/s against the plain monitor", f"{times:.1f} ×", "≥ 2 ×", "3 ×", times >= 2),
        Row("… CPU per event against the plain monitor", f"{part:.2f} ×", "≤ 0.5 ×", "", part <= 0.5),
        Row("… CPU per event", f"{second.cost:.1f} µs", "", "≤ 18 µs"),
        Row("… Redis's own CPU per event", f"{second.redis_cost:.1f} µs"),
        Row("… bytes per task in Redis", f"{second.bytes_a_task:.0f}", "≤ 700", "400", second.bytes_a_task <= 700),
    ]


def measure_plain(services: Services, stream: list[Recorded], events: int, name: str) -> Result:
    expected = _count(stream, ("task-succeeded", "task-failed")) + 1
    with services.vhost(name) as broker, Measured(["-m", "benchmarks.plain_monitor", broker, name]) as monitor:
        wait_for_value(lambda: _consumers(services, name), 1, 60, "the plain monitor consuming")
        # Its queue vanishes with it, so it cannot be filled before it starts; it is held instead.
        monitor.pause()
        publish(broker, [*stream, LAST])
        began, used = time.time(), monitor.cpu()
        monitor.resume()
        ended = monitor.wait_lines(expected)
        return Result(events / (ended - began), (monitor.cpu() - used) / events * 1e6)


def measure_instance(services: Services, stream: list[Recorded], events: int, name: str) -> Result:
    expected = prompt_lines(stream)
    client = services.redis.client(1)
    client.flushdb()
    store = services.redis.url(1)
    with services.vhost(name) as broker:
        declare_queue(broker, store)
        publish(broker, stream)
        memory, redis_used = client.info("memory")["used_memory"], redis_cpu(services.redis)
        with instance(broker, store) as monitor:
            began, used = monitor.wait_lines(LINES_BEFORE), monitor.cpu()
            ended = monitor.wait_lines(LINES_BEFORE + expected)
            cost = (monitor.cpu() - used) / events * 1e6
        tasks = len({event["uuid"] for message in stream for event in message.events if event.get("uuid")})
        return Result(
            events / (ended - began),
            cost,
            (redis_cpu(services.redis) - redis_used) / events * 1e6,
            (client.info("memory")["used_memory"] - memory) / tasks,
        )


def prompt_lines(stream: list[Recorded]) -> int:
    """How many lines an instance writes of these events by default as soon as it has merged them."""
    emitted = ("task-succeeded", "task-failed", "task-retried", "task-revoked", "task-rejected", "task-custom")
    return round((1 - LATE) * _count(stream, (*emitted, "deploy-finished", "worker-online", "worker-offline")))


def _count(stream: list[Recorded], types: tuple[str, ...]) -> int:
    return sum(event["type"] in types for message in stream for event in message.events)


def _consumers(services: Services, vhost: str) -> int:
    return sum(int(queue["consumers"]) for queue in services.rabbitmq.queues(vhost, "name", "consumers").values())


def _median(results: list[Result]) -> Result:
    return Result(*(statistics.median(values) for values in zip(*results, strict=True)))
