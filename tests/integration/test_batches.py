"""The whole recorded stream, cut in several ways: lines and counts depend on the events alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.decode import Batch, Message
from ha_monitor.outputs.line import Identity, build_line
from ha_monitor.pipeline.latency import MAX_IN_FLIGHT
from ha_monitor.store.results import Counting
from tests.integration.storing import Inside, Instance
from tests.support.recording import Recorded, read_stream
from tests.support.services import PrivateRedis
from tests.unit.builders import decode, event

BUCKETS = [0.01, 0.1, 1.0]


class Stream(NamedTuple):
    messages: list[Recorded]
    names: set[str]
    """Of the tasks whose sender says so."""


@pytest.fixture(scope="module")
def stream() -> Stream:
    messages = read_stream()
    names = {body["name"] for message in messages for body in message.events if body["type"] == "task-sent"}
    return Stream(messages, names)


class Outcome(msgspec.Struct):
    """What came of a stream."""

    lines: dict[str, bytes]
    """Event id -> its line."""
    counts: dict[tuple[str, ...], int]
    written: int
    """How many lines there were."""
    size: int
    """Bytes of all records."""


def instances(url: str, count: int, names: set[str]) -> list[Instance]:
    """Instances that know of each name in the stream that its sender says so."""
    made = [Instance(url, counting=Counting(f"host/{n}", BUCKETS)).start() for n in range(count)]
    for retries in (0, 1):
        made[0].apply([event("task-sent", uuid=f"{name} {retries}", name=name, retries=retries) for name in names])
    return made


def decoded(messages: Sequence[Recorded]) -> Batch:
    return decode(*(Message(message.body.encode()) for message in messages), level=LogLevel.DEBUG)


def outcome(url: str, all_instances: list[Instance]) -> Outcome:
    """Let what waits in vain be over, and look at what came out."""
    inside = Inside(url)
    while inside.redis.zcard(inside.keys.waiting):
        inside.let_wait_end()
        all_instances[0].tick()
    identity = Identity("shop", "", "host", 1)
    lines = {}
    written = 0
    for instance in all_instances:
        for item in instance.emitted:
            line = build_line(item, identity, "")
            lines[line.event_id] = msgspec.json.encode(line)
            written += 1
    counts: dict[tuple[str, ...], int] = {}
    for instance in all_instances:
        for count in instance.store.counts.read():
            about = (count.kind, *count.parts)
            counts[about] = counts.get(about, 0) + count.number
    size = sum(map(inside.redis.strlen, inside.redis.scan_iter(inside.keys.prefix + "t:*", count=1000)))
    inside.redis.flushdb()
    return Outcome(lines, counts, written, size)


def cut_up(stream: Sequence[Recorded], size: int) -> Iterator[Sequence[Recorded]]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


def in_batches(url: str, stream: Stream, size: int) -> Outcome:
    (one,) = made = instances(url, 1, stream.names)
    one.apply_batches((decoded(part) for part in cut_up(stream.messages, size)), MAX_IN_FLIGHT)
    return outcome(url, made)


def over_three(url: str, stream: Stream) -> Outcome:
    """Each message goes to the next of three instances, which merge batches of their own."""
    made = instances(url, 3, stream.names)
    queues: list[list[Recorded]] = [[], [], []]
    for number, message in enumerate(stream.messages):
        queue = queues[number % 3]
        queue.append(message)
        if len(queue) >= (5, 7, 11)[number % 3]:
            made[number % 3].apply_batch(decoded(queue))
            queue.clear()
    for instance, queue in zip(made, queues, strict=True):
        instance.apply_batch(decoded(queue))
    return outcome(url, made)


def differences(one: Outcome, other: Outcome) -> dict[tuple[str, str], list[Any]]:
    """(type, field) -> how many lines differ in it, and an example: its task and both values."""
    found: dict[tuple[str, str], list[Any]] = {}
    for key, text in one.lines.items():
        if text == other.lines[key]:
            continue
        line, again = msgspec.json.decode(text), msgspec.json.decode(other.lines[key])
        for name in line.keys() | again.keys():
            if line.get(name) != again.get(name):
                example = [0, line.get("task_id"), line.get(name), again.get(name)]
                found.setdefault((line["event"], name), example)[0] += 1
    return found


@pytest.fixture(scope="module")
def in_large_batches(redis_server: PrivateRedis, stream: Stream) -> Outcome:
    return in_batches(redis_server.url(0), stream, 500)


@pytest.mark.parametrize("cut", ["1", "7", "over three instances"])
def test_lines_and_counts_do_not_depend_on_batches(
    store_url: str, stream: Stream, in_large_batches: Outcome, cut: str
) -> None:
    """Given a stream in batches of 1, 7 or 500, or dealt out to three instances, each event's line says the same in
    every field, and the counters and histograms of all instances are the same in sum.
    """
    one = in_large_batches
    other = over_three(store_url, stream) if cut.startswith("over") else in_batches(store_url, stream, int(cut))

    assert one.written == other.written == len(one.lines)
    assert differences(one, other) == {}
    assert other.counts == one.counts
