"""Messages from RabbitMQ with properties that no worker sets: none raises, and none costs its neighbours or memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat

import amqp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.broker.amqp_source import BYTES_AT_ONCE, AmqpSource
from ha_monitor.config.schema import Config
from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.decode import Message
from tests.support import corpus
from tests.unit.builders import decode
from tests.unit.test_buffered import connection_on, frame, message, short

PROPERTIES = corpus.properties()
FIRST, LAST = message(1, b'{"type": "first"}'), message(3, b'{"type": "last"}')
SETTINGS = settings(max_examples=75)


def delivery(tag: int, body: bytes, properties: bytes, *, frame_max: int = 131_064) -> Iterator[bytes]:
    """The frames of a delivery.

    :param properties: flags and all, as the specification lays them out.
    """
    method = b"\x00\x3c\x00\x3c" + short(b"ha-monitor@1.host") + struct.pack(">QB", tag, 0)
    yield frame(1, method + short(b"celeryev") + short(b"task.multi"))
    yield frame(2, struct.pack(">HHQ", 60, 0, len(body)) + properties)
    for start in range(0, len(body), frame_max):
        yield frame(3, body[start : start + frame_max])


def received(pieces: Iterable[bytes]) -> list[Message]:
    """What a source makes of the bytes of a connection."""
    source = AmqpSource(Config(), "ha-monitor@1.host")
    source._connection, _ = connection_on(pieces)
    messages: list[Message] = []
    while (got := source.receive(100, 0.0)) or source._connection.is_receiving:
        messages += got
    return messages


def between(frames: Iterable[bytes]) -> Message:
    """The message that comes of frames between two good deliveries, which must be untouched."""
    first, middle, last = received([b"".join((FIRST, *frames, LAST))])
    assert first.body == b'{"type": "first"}'
    assert last.body == b'{"type": "last"}'
    decode(middle)
    return middle


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_properties_harm_the_neighbours(name: str) -> None:
    """Given a message with hostile properties, nothing is raised, and a good one is read."""
    body, properties = PROPERTIES[name]

    got = between(delivery(2, body, amqp.Message(b"", **properties)._serialize_properties()))

    assert got.body == body
    if name.startswith("good"):
        assert decode(got).rejected == []
    if name.startswith("bomb"):
        assert "expands to more than" in decode(got).rejected[0].reason or name == "bomb-zstd"


def test_a_lie_about_the_compression_is_told() -> None:
    """Given a header that says what is not so, the rejection names it."""
    body, properties = PROPERTIES["compression-lying"]
    got = between(delivery(2, body, amqp.Message(b"", **properties)._serialize_properties()))

    (rejected,) = decode(got).rejected
    assert rejected.reason.startswith("the body is not application/x-gzip: ")


def test_a_body_that_is_too_large_is_never_held() -> None:
    """Given a message of 200 MB in which nothing can be truncated, its bytes are passed over as they come, and the
    message after it is read."""
    part = b"x" * 100_000
    count = 2000
    head = frame(2, struct.pack(">HHQH", 60, 0, count * len(part), 0))
    method = next(delivery(2, b"", b""))
    body = frame(3, part)
    stream = chain([FIRST, method, head], (body for _ in range(count)), [LAST])

    tracemalloc.start()
    try:
        first, large, last = received(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (first.fault, last.fault) == ("", "")
    assert large.body == b""
    assert decode(large).rejected[0].reason == f"body of 200000000 bytes is larger than {MAX_BODY}"
    assert peak < 8 * corpus.MEGABYTE


def test_a_large_text_is_truncated_as_it_comes() -> None:
    """Given an event of 200 MB of which most is a text, the event is there, and little memory was taken."""
    begin, end = b'{"type": "task-started", "uuid": "large", "x": "', b'"}'
    part = b"x" * 100_000
    pieces = chain([begin], repeat(part, 2000), [end])
    length = len(begin) + 2000 * len(part) + len(end)
    properties = amqp.Message(b"", content_type="application/json")._serialize_properties()
    head = [next(delivery(2, b"", b"")), frame(2, struct.pack(">HHQ", 60, 0, length) + properties)]
    stream = chain([FIRST], head, (frame(3, piece) for piece in pieces), [LAST])

    tracemalloc.start()
    try:
        first, large, last = received(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (first.fault, large.fault, last.fault) == ("", "", "")
    assert set(decode(large).tasks) == {"large"}
    assert peak < 8 * corpus.MEGABYTE


def test_the_largest_body_is_read() -> None:
    """Given a body of as many bytes as are allowed, it is there."""
    body = b'"' + b"x" * (MAX_BODY - 2) + b'"'
    stream = b"".join(delivery(1, body, struct.pack(">H", 0)))
    pieces = (stream[start : start + 100_000] for start in range(0, len(stream), 100_000))

    assert [len(got.body) for got in received(pieces)] == [MAX_BODY]


def test_no_more_is_taken_from_the_socket_than_is_at_hand() -> None:
    """Given a broker that sends without an end, no piece is read before the messages of the last one are taken."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield FIRST * 50

    source = AmqpSource(Config(), "ha-monitor@1.host")
    source._connection, _ = connection_on(endless())

    for number in range(1, 11):
        assert len(source.receive(30, 1.0)) in (30, 20)
        assert read == (number + 1) // 2


def test_large_messages_are_taken_a_few_at_once() -> None:
    """Given large messages that are read ahead, only so much of them is taken at once as fits into a batch: the others
    still count as read ahead, so that no more is read for them.
    """
    large = b"x" * (BYTES_AT_ONCE // 10)
    source = AmqpSource(Config(), "ha-monitor@1.host")
    source._connection, _ = connection_on(message(tag, large) for tag in range(1, 26))
    source._connection.read_ahead()

    assert [len(source.receive(100, 1.0)) for _ in range(2)] == [11, 11]
    assert source._connection.bytes_kept() == 3 * len(large)
    assert source.mark().delivery_tag == 22
    assert len(source.receive(100, 1.0)) == 3


def test_messages_delivered_before_come_apart_from_others() -> None:
    """Given both kinds in the order of the stream, no list holds both, and the place behind each is known."""
    flags = [True, False, False, True, True, False]
    stream = [b"".join(message(tag, b"x", redelivered=flag) for tag, flag in enumerate(flags, 1))]
    source = AmqpSource(Config(), "ha-monitor@1.host")
    source._connection, _ = connection_on(stream)

    got = [(source.receive(100, 1.0), source.mark().delivery_tag) for _ in range(4)]

    assert [([one.redelivered for one in messages], tag) for messages, tag in got] == [
        ([True], 1),
        ([False, False], 3),
        ([True, True], 5),
        ([False], 6),
    ]
    assert source.redelivered == 3


@SETTINGS
@given(st.integers(0, 0xFFFF), st.binary(max_size=80), st.binary(max_size=40))
def test_any_properties(flags: int, properties: bytes, body: bytes) -> None:
    """Given any bytes for properties, also such as no broker would pass on, nothing is raised."""
    got = between(delivery(2, body, struct.pack(">H", flags) + properties))

    assert got.body == body


@SETTINGS
@given(st.sampled_from(sorted(PROPERTIES)), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), max_size=4))
def test_any_change_of_the_properties(name: str, changes: list[tuple[float, bytes]]) -> None:
    """Given properties of the corpus with a few bytes changed, nothing is raised."""
    body, properties = PROPERTIES[name]
    data = amqp.Message(b"", **properties)._serialize_properties()
    for place, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + len(put) :]

    between(islice(delivery(2, body[:1000], data), 3))
