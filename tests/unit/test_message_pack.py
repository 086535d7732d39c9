"""Bodies in MessagePack are read as the same bodies in JSON are, and cost no more, whatever they contain."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import msgpack
import msgspec
import pytest

from ha_monitor.events.body import MAX_BODY, MAX_VALUES
from ha_monitor.events.decode import Message
from tests.unit.builders import TASK_TYPES, WORKER_TYPES, decode, event


def packed(value: Any) -> Message:
    """As kombu packs it."""
    return Message(msgpack.packb(value, use_bin_type=True), "application/x-msgpack", "binary")


def kept(*messages: Any) -> Any:
    batch = decode(*messages)
    return msgspec.msgpack.encode([batch.tasks, batch.workers, batch.others]), batch.event_count, batch.rejected


def test_events_are_the_same_in_both() -> None:
    """Given events of all types, alone and in a list, the facts are those of the same events in JSON, ids included."""
    events = [event(kind) for kind in (*TASK_TYPES, *WORKER_TYPES)]
    events.append(event("deploy", uuid=None, note="Grüße", big=2**63, ratio=0.1, parts=[None, True, -1, {"x": 1.5}]))

    assert kept(*map(packed, events)) == kept(*events)
    assert kept(packed(events)) == kept(events)


def test_what_json_has_not_becomes_text() -> None:
    """Given binary data, a time, an extension and numbers as keys in a custom event, it is announced with texts."""
    body = msgpack.packb(
        {
            **event("deploy", uuid=None),
            "data": b"\x00\xff",
            "when": datetime(2026, 1, 2, tzinfo=UTC),
            "other": msgpack.ExtType(7, b"x"),
            "by number": {1: "one"},
            "none": float("nan"),
        },
        datetime=True,
    )

    batch = decode(Message(body, "application/x-msgpack", "binary"))

    assert batch.rejected == []
    assert len(batch.others) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81\xa4type",
        b"\xda\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\x91" * 100_000 + b"\x01",
        b"\x81\x91\x01\x02",
        msgpack.packb(event("deploy", uuid=None))[:-3],
        msgpack.packb(event("deploy", uuid=None)) + b"\x01",
        msgpack.packb([0] * (MAX_VALUES + 1)),
        b"".join(b"\xdd" + (200_000).to_bytes(4, "big") for _ in range(900)) + b"\x00" * 200_000,
        b"\xa0" * MAX_BODY,
    ],
)
def test_what_is_no_message_is_rejected_and_costs_little(body: bytes) -> None:
    """Given broken, deep or huge bodies, each is rejected, in memory in proportion to its size, and the next one is
    read.
    """
    tracemalloc.start()
    try:
        batch = decode(Message(body, "application/x-msgpack", "binary"), packed(event("task-received")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (batch.rejected_count, len(batch.tasks)) == (1, 1)
    assert peak < 8 * len(body) + 100 * MAX_VALUES
