"""When a batch is closed."""

from __future__ import annotations

import json
import zlib
from typing import Any, cast

import msgspec
import pytest

from ha_monitor.broker.source import Source
from ha_monitor.config.schema import DEFAULT_REDACTED, BatchSettings
from ha_monitor.events.decode import Decoder, Message
from ha_monitor.events.redact import Redactor
from ha_monitor.pipeline.collector import MAX_CALL_BYTES, MAX_CALL_WEIGHT, Collector
from tests.unit.builders import TIME, TurnedClock, event, fact_builder


class Stream:
    """A broker that has some messages at hand."""

    is_receiving = holds_messages = False

    def __init__(self, *bodies: Any) -> None:
        self._messages = [Message(json.dumps(body).encode()) for body in bodies]

    def receive(self, limit: int, timeout: float) -> list[Message]:
        taken, self._messages = self._messages[:limit], self._messages[limit:]
        return taken

    def mark(self) -> int:
        return len(self._messages)


def sizes(stream: Stream, events: int) -> list[int]:
    """Events in each batch until the stream pauses."""
    decoder = Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500))
    settings = BatchSettings(events=events, time=5.0)
    collector = Collector(cast(Source, stream), decoder, settings, TurnedClock())
    found = []
    while collector.paused_at is None:
        collector.collect(0.0)
        while collector:
            found.append(collector.take().batch.event_count)
    return found


@pytest.mark.parametrize(("limit", "expected"), [(1, [1] * 250), (120, [120, 120, 10]), (500, [250])])
def test_a_batch_has_as_many_events_as_it_may(limit: int, expected: list[int]) -> None:
    """Given messages of one event each, `batch.events` is how many a batch has."""
    stream = Stream(*(event("task-started", at=TIME + number) for number in range(250)))

    assert sizes(stream, limit) == expected


def test_a_message_is_not_divided() -> None:
    """Given messages of several events each, the last ones of a batch are merged whole."""
    stream = Stream(*([event("task-started", at=TIME + number + n / 4) for n in range(3)] for number in range(4)))

    assert sizes(stream, 4) == [12]


def test_messages_are_decoded_as_there_is_room() -> None:
    """Given a few messages of many events, received at once, only as many are decoded as one batch may have, and
    only the batch with the last of them has their mark; those before have that of what came before.
    """
    bodies = [[event("task-custom", at=TIME + n, padding="x" * 200) for n in range(2000)] for _ in range(6)]
    decoder = Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500))
    stream = Stream(*bodies)
    collector = Collector(cast(Source, stream), decoder, BatchSettings(events=5000, time=5.0), TurnedClock())
    most_held, merged, marks = 0, 0, []

    while collector.paused_at is None:
        collector.collect(0.0)
        most_held = max(most_held, collector.event_count)
        while collector:
            batch, mark, *_ = collector.take()
            merged += batch.event_count
            assert batch.event_count <= MAX_CALL_WEIGHT
            marks.append(mark)

    assert merged == 12_000
    assert most_held < 6_000
    assert [mark for mark in marks if mark is not None] == [6, 0]
    assert marks[-1] == 0


def test_while_a_large_message_arrives_the_broker_may_have_more() -> None:
    """Given a message of which only a part has arrived, the stream has not paused: nothing says that all the broker
    had is merged."""

    class Receiving(Stream):
        is_receiving, holds_messages = True, False

    stream = Receiving()
    collector = Collector(
        cast(Source, stream),
        Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500)),
        BatchSettings(events=500, time=5.0),
        TurnedClock(),
    )

    collector.collect(0.0)
    assert collector.paused_at is None

    stream.is_receiving = False
    collector.collect(0.0)
    assert collector.paused_at is not None


def test_nothing_received_is_left_at_the_end() -> None:
    """Given messages that were received and not decoded yet, closing all brings them to the last one."""
    decoder = Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500))
    stream = Stream(*([event("task-custom", at=TIME + n, padding="x" * 5000) for n in range(200)] for _ in range(4)))
    collector = Collector(cast(Source, stream), decoder, BatchSettings(events=500, time=5.0), TurnedClock())
    collector.collect(0.0)
    found = 0

    while collector or collector.close_all():
        found += collector.take().batch.event_count

    assert found == 800


def test_what_was_delivered_before_is_held_apart_and_in_order() -> None:
    """Given redelivered messages among others, each batch ends where they begin, so that acknowledging it leaves them
    with the broker; they are not decoded yet, since one of them may be what ended an instance."""

    class Again:
        """A stream of which some messages are redelivered; a mark is how many were received."""

        is_receiving = holds_messages = False

        def __init__(self) -> None:
            one = Message(json.dumps(event("task-started")).encode())
            again = one._replace(body=b"not even JSON", redelivered=True)
            self._lists = [[one], [one], [again, again], [one], [again]]
            self._received = 0

        def receive(self, limit: int, timeout: float) -> list[Message]:
            taken = self._lists.pop(0) if self._lists else []
            self._received += len(taken)
            return taken

        def mark(self) -> int:
            return self._received

    collector = Collector(
        cast(Source, Again()),
        Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500)),
        BatchSettings(events=500, time=5.0),
        TurnedClock(),
    )
    found = []
    while collector.paused_at is None:
        collector.collect(0.0)
        while collector:
            batch, mark, redelivered, _ = collector.take()
            found.append((batch.event_count, len(batch.rejected), len(redelivered), mark))

    assert found == [(2, 0, 0, 2), (0, 0, 2, 4), (1, 0, 0, 5), (0, 0, 1, 6)]


def test_how_much_is_held_is_known_by_bytes() -> None:
    """Given a broker that keeps nothing and a store that is away, what is held counts by its bytes, too."""
    bodies = [event("task-failed", at=TIME + number, traceback="x" * 10_000) for number in range(3)]
    collector = Collector(
        cast(Source, Stream(*bodies)),
        Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500)),
        BatchSettings(events=2, time=5.0),
        TurnedClock(),
    )
    collector.collect(0.0, only_full=True)
    collector.collect(0.0, only_full=True)

    assert collector.byte_count == sum(len(json.dumps(body)) for body in bodies)
    collector.take()
    assert collector.byte_count == len(json.dumps(bodies[2]))


def test_what_is_compressed_counts_as_what_it_expands_to() -> None:
    """Given small messages that expand to megabytes, each is decoded alone, and no part of a batch is larger than one
    call may be."""

    class Compressed(Stream):
        def receive(self, limit: int, timeout: float) -> list[Message]:
            return [
                one._replace(body=zlib.compress(one.body), compression="application/x-gzip")
                for one in super().receive(limit, timeout)
            ]

    bodies = [[event("task-custom", at=TIME + n, padding="x" * 40_000) for n in range(60)] for _ in range(3)]
    collector = Collector(
        cast(Source, Compressed(*bodies)),
        Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500)),
        BatchSettings(events=500, time=5.0),
        TurnedClock(),
    )
    held, parts = [], []
    while collector.paused_at is None:
        collector.collect(0.0)
        held.append(collector.byte_count)
        while collector:
            parts.append(collector.take().batch)

    whole = len(json.dumps(bodies[0]))
    assert [count >= whole for count in held] == [True, True, True, False]
    assert max(held) < 2 * whole
    assert sum(part.event_count for part in parts) == 180
    weights = [len(msgspec.msgpack.encode([part.tasks, part.workers, part.others])) for part in parts]
    assert max(weights) < 1.1 * MAX_CALL_BYTES
