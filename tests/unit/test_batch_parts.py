"""A large batch is merged in parts: nothing is missing, and none is larger than one call may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ha_monitor.events.decode import Batch
from ha_monitor.pipeline.collector import LARGE_GROUP_WEIGHT, MAX_CALL_BYTES, MAX_CALL_WEIGHT, batch_parts, split
from tests.unit.builders import TIME, decode, event

MANY = [
    *(event("task-started", uuid=f"t{number}") for number in range(1200)),
    *(event("task-custom", uuid="same", at=TIME + number) for number in range(700)),
    *(event("worker-heartbeat", hostname=f"w{number}@host") for number in range(300)),
    *(event("custom", uuid=None, at=TIME + number) for number in range(300)),
    {"type": "task-started"},
]
LARGE = [event("task-failed", uuid=f"t{number}", traceback="x" * 15_000) for number in range(200)]


def size_of(batch: Batch) -> int:
    return len(msgspec.msgpack.encode([list(batch.tasks.items()), batch.workers, batch.others]))


def facts_of(*batches: Batch) -> list[bytes]:
    """All facts, each with what it is about."""
    found: list[Any] = []
    for batch in batches:
        found += [(task_id, fact) for task_id, facts in batch.tasks.items() for fact in facts]
        found += [*batch.workers, *batch.others]
    return sorted(map(msgspec.msgpack.encode, found))


@pytest.mark.parametrize("bodies", [MANY, LARGE], ids=["many", "large"])
def test_parts_are_bounded_and_complete(bodies: list[Any]) -> None:
    """Given a message with more events, or larger ones, than one call may merge, its parts have them all."""
    batch = decode(bodies)

    parts = batch_parts(batch)

    assert max(len(facts_of(part)) for part in parts) <= MAX_CALL_WEIGHT
    assert max(map(size_of, parts)) <= MAX_CALL_BYTES + 20_000
    assert facts_of(*parts) == facts_of(batch)
    assert sum(part.event_count for part in parts) == batch.event_count == len(bodies)


def test_the_last_part_has_the_messages() -> None:
    """Given a message in parts, it and what of it was rejected counts with the last one: then it is merged."""
    batch = decode(MANY)

    *parts, last = batch_parts(batch)

    assert [part.message_count for part in parts] == [0] * len(parts)
    assert (last.message_count, last.rejected) == (1, batch.rejected)
    assert {part.newest for part in (*parts, last)} == {batch.newest}


def test_a_batch_of_ordinary_size_stays_as_it_is() -> None:
    """Given what one call may merge, nothing is done."""
    batch = decode(MANY[:400])

    assert batch_parts(batch) == [batch]


def test_many_events_of_one_task_take_more_calls() -> None:
    """Given as many events as one call merges, they are several calls if all are of one task."""
    one = decode([event("task-custom", clock=number, uuid="t") for number in range(MAX_CALL_WEIGHT)])
    each = decode([event("task-custom", clock=number, uuid=f"t{number}") for number in range(MAX_CALL_WEIGHT)])

    assert [part.event_count for part in batch_parts(one)] == [
        MAX_CALL_WEIGHT // LARGE_GROUP_WEIGHT
    ] * LARGE_GROUP_WEIGHT
    assert batch_parts(each) == [each]


def test_what_a_call_left_is_the_rest() -> None:
    """Given a call that ended after some tasks, the rest is what it left, with the messages."""
    batch = decode([event("task-started", uuid=f"t{number}") for number in range(10)], event("worker-online"), b"bad")

    merged, rest = split(batch, 4)

    assert list(merged.tasks) == ["t0", "t1", "t2", "t3"]
    assert (merged.message_count, merged.event_count, merged.rejected) == (0, 4, [])
    assert (rest.message_count, rest.event_count, len(rest.rejected)) == (3, batch.event_count - 4, 1)
    assert facts_of(merged, rest) == facts_of(batch)
