"""The buffered AMQP connection: the same deliveries, however the network cuts the stream into pieces."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.broker import buffered
from ha_monitor.broker.buffered import MAX_READS, READ_SIZE, BufferedConnection
from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.decode import Message

CHANNEL = 1
HEARTBEAT = struct.pack(">BHI", 8, 0, 0) + b"\xce"
CANCEL = b"\x00\x3c\x00\x1e\x01c\x00"


def frame(kind: int, payload: bytes, channel: int = CHANNEL) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def short(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def message(
    tag: int,
    body: bytes,
    *,
    redelivered: bool = False,
    content_type: bytes | None = b"application/json",
    content_encoding: bytes | None = b"utf-8",
    more_properties: bytes = b"",
    frame_max: int = 4096,
    channel: int = CHANNEL,
) -> bytes:
    """The frames of one delivery, as the specification lays them out."""
    method = b"\x00\x3c\x00\x3c" + short(b"ha-monitor@1.host") + struct.pack(">QB", tag, redelivered)
    method += short(b"celeryev") + short(b"task.multi")
    flags = 0x8000 * (content_type is not None) | 0x4000 * (content_encoding is not None)
    flags |= 0x1000 if more_properties else 0
    header = struct.pack(">HHQH", 60, 0, len(body), flags)
    header += b"".join(short(text) for text in (content_type, content_encoding) if text is not None) + more_properties
    pieces = [body[start : start + frame_max] for start in range(0, len(body), frame_max)]
    return frame(1, method, channel) + frame(2, header, channel) + b"".join(frame(3, part, channel) for part in pieces)


def delivery(tag: int, redelivered: bool, content_type: str, content_encoding: str, body: bytes) -> tuple[int, Message]:
    """What comes out of a delivery."""
    return tag, Message(body, content_type, content_encoding, redelivered=redelivered)


STREAM = b"".join(
    [
        HEARTBEAT,
        message(1, b'{"type": "task-sent"}'),
        message(2, b"x" * 9000, redelivered=True),
        HEARTBEAT,
        message(3, b"", content_type=None, content_encoding=None),
        message(4, b"\xce\x00" * 50, content_encoding=None, more_properties=b"\x01"),
        message(5, b"y", content_type=None, content_encoding=b"binary"),
        frame(1, CANCEL),
        message(6, b"z" * 300, content_type=b"c" * 255, frame_max=100),
        HEARTBEAT,
        HEARTBEAT,
    ]
)
DELIVERIES = [
    delivery(1, False, "application/json", "utf-8", b'{"type": "task-sent"}'),
    delivery(2, True, "application/json", "utf-8", b"x" * 9000),
    delivery(3, False, "", "", b""),
    delivery(4, False, "application/json", "", b"\xce\x00" * 50),
    delivery(5, False, "", "binary", b"y"),
    delivery(6, False, "c" * 255, "utf-8", b"z" * 300),
]
LARGE = json.dumps(["x" * MAX_BODY, "end"]).encode()
OTHER_FRAMES = [(8, 0, b""), (8, 0, b""), (1, CHANNEL, CANCEL), (8, 0, b""), (8, 0, b"")]


class Pieces:
    """A transport and its socket, which hands out pieces that the test chose."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.left = iter(pieces)
        self.sock = self
        self.connected = True

    @contextmanager
    def having_timeout(self, timeout: float | None) -> Iterator[Pieces]:
        yield self

    def recv(self, size: int) -> bytes:
        piece = next(self.left, None)
        if piece is None:
            raise TimeoutError
        assert len(piece) <= size
        return piece


def connection_on(pieces: Iterable[bytes]) -> tuple[BufferedConnection, list[Any]]:
    """A connection that reads the pieces, and the list of frames that it gives to py-amqp."""
    connection = BufferedConnection("localhost")
    connection.transport = Pieces(pieces)
    connection.fast_channel = CHANNEL
    others: list[Any] = []

    def handle(frame: tuple[int, int, bytes]) -> bool:
        others.append(frame)
        return frame[0] == 1

    connection.on_inbound_frame = handle
    return connection, others


def read(pieces: Iterable[bytes]) -> tuple[list[tuple[int, Message]], list[Any], list[str]]:
    """All that a connection makes of the pieces: deliveries, other frames, and the order in which they came."""
    connection, others = connection_on(pieces)
    order: list[str] = []
    try:
        while True:
            before = len(others), len(connection.deliveries)
            connection.drain_events(1)
            order += ["method"] if len(connection.deliveries) == before[1] else ["deliveries"]
    except TimeoutError:
        return list(connection.deliveries), others, order


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges) if start < stop]


def test_a_stream_in_one_piece() -> None:
    """Given everything at once, deliveries are taken, other frames go to py-amqp, and the order between a delivery
    and a method is kept.
    """
    deliveries, others, order = read([STREAM])

    assert deliveries == DELIVERIES
    assert others == OTHER_FRAMES
    assert order == ["deliveries", "deliveries", "method", "deliveries"]


@pytest.mark.thorough
def test_a_stream_cut_in_two_at_every_place() -> None:
    """Given the stream in two pieces, wherever it is cut, the same comes out."""
    for place in range(1, len(STREAM)):
        deliveries, others, _ = read(cut(STREAM, [place]))
        assert deliveries == DELIVERIES, place
        assert others == OTHER_FRAMES, place


def test_a_stream_byte_by_byte() -> None:
    """Given one byte at a time, the same comes out."""
    deliveries, others, _ = read(cut(STREAM, range(1, len(STREAM))))

    assert deliveries == DELIVERIES
    assert others == OTHER_FRAMES


@settings(max_examples=100)
@given(st.sets(st.integers(1, len(STREAM) - 1), max_size=60))
def test_a_stream_cut_anyhow(places: set[int]) -> None:
    """Given the stream in any pieces, the same comes out."""
    deliveries, others, _ = read(cut(STREAM, places))

    assert deliveries == DELIVERIES
    assert others == OTHER_FRAMES


@pytest.mark.thorough
@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=700),
            st.booleans(),
            st.none() | st.binary(max_size=20),
            st.none() | st.binary(max_size=20),
            st.integers(1, 300),
        ),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
def test_any_messages_cut_anyhow(messages: list[Any], data: st.DataObject) -> None:
    """Given any messages, with any properties, frame sizes and cuts, each comes out as it was sent."""
    stream, expected = b"", []
    for tag, (body, redelivered, kind, encoding, frame_max) in enumerate(messages, 1):
        stream += message(
            tag, body, redelivered=redelivered, content_type=kind, content_encoding=encoding, frame_max=frame_max
        )
        content_type, content_encoding = ((text or b"").decode("utf-8", "replace") for text in (kind, encoding))
        expected.append(delivery(tag, redelivered, content_type, content_encoding, body))
    places = data.draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=30))

    assert read(cut(stream, places))[0] == expected


def test_deliveries_on_another_channel_are_left_to_py_amqp() -> None:
    """Given a delivery on a channel that is not the event channel, its frames go to py-amqp."""
    connection, others = connection_on([message(1, b"x", channel=2)])

    with pytest.raises(TimeoutError):
        while True:
            connection.drain_events(1)

    assert not connection.deliveries
    assert [kind for kind, _, _ in others] == [1, 2, 3]


def test_a_large_body_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a body of many pieces, the pieces are not joined again and again: that would take time by the square."""
    body = b"x" * 4_000_000
    stream = message(1, body, frame_max=131_072)
    connection, _ = connection_on(cut(stream, range(1000, len(stream), 1000)))
    handled = 0
    original = connection._handle_buffered

    def counted() -> bool:
        nonlocal handled
        handled += bool(not connection._pieces)
        return original()

    monkeypatch.setattr(connection, "_handle_buffered", counted)
    while not connection.deliveries:
        connection.drain_events(1)

    assert connection.deliveries.popleft()[1].body == body
    assert handled < 20


def test_a_large_body_does_not_keep_the_reader() -> None:
    """Given a body that arrives in many pieces, the reader returns in between, and says that more of it is to come."""
    stream = message(1, b'"' + b"x" * 6_000_000 + b'"', frame_max=131_072)
    connection, _ = connection_on(cut(stream, range(10_000, len(stream), 10_000)))
    returns = 0
    while not connection.deliveries:
        connection.drain_events(1)
        returns += 1
        assert connection.is_receiving or connection.deliveries

    assert returns >= len(stream) // 10_000 // MAX_READS
    assert not connection.is_receiving


@settings(max_examples=15)
@given(st.sets(st.integers(1, 4_600_000), max_size=60))
def test_a_large_body_cut_anyhow(places: set[int]) -> None:
    """Given a body above the limit between others, in any pieces, it comes out the same, with its long texts
    truncated, and the others are whole."""
    stream = HEARTBEAT + message(1, b"a") + message(2, LARGE, frame_max=60_000) + message(3, b"b") + HEARTBEAT
    places |= set(range(200_000, len(stream), 200_000))

    deliveries, others, _ = read(cut(stream, {place for place in places if place < len(stream)}))

    assert [(tag, got.body[:30], got.fault) for tag, got in deliveries] == [
        (1, b"a", ""),
        (2, LARGE[:30], ""),
        (3, b"b", ""),
    ]
    assert json.loads(deliveries[1][1].body)[1:] == ["end"]
    assert others == [(8, 0, b""), (8, 0, b"")]


def test_a_large_body_of_another_format_is_passed_over() -> None:
    """Given large bodies whose texts cannot be found, such as pickles, their faults are told and what follows is
    read."""
    pickle = message(1, LARGE, content_type=b"application/x-python-serialize", redelivered=True)
    latin = message(2, LARGE, content_encoding=b"latin-1")
    stream = pickle + latin + message(3, b"b")

    deliveries, _, _ = read(cut(stream, range(200_000, len(stream), 200_000)))

    fault = f"body of {len(LARGE)} bytes is larger than {MAX_BODY}"
    assert [(got.body, got.fault, got.redelivered) for _, got in deliveries] == [
        (b"", fault, True),
        (b"", fault, False),
        (b"b", "", False),
    ]


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (HEARTBEAT[:-1] + b"\x00", "frame ends with 0x00 instead of 0xce"),
        (message(1, b"x").split(b"\x02\x00\x01")[0] + HEARTBEAT, "frame of type 8 instead of a content header"),
        (message(1, b"x")[: -len(frame(3, b"x"))] + frame(1, CANCEL), "frame of type 1 instead of content"),
        (message(1, LARGE).split(b"\x03\x00\x01")[0] + frame(1, CANCEL), "frame of type 1 instead of content"),
    ],
)
def test_a_stream_that_breaks_the_protocol(stream: bytes, text: str) -> None:
    """Given frames in the wrong place, the connection is given up; an error of py-amqp's that is translated above."""
    connection, _ = connection_on([stream + HEARTBEAT])

    with pytest.raises(UnexpectedFrame, match=text):
        connection.drain_events(1)


def test_a_closed_connection_is_an_error() -> None:
    """Given a broker that closes the connection, the reader does not go round for ever."""
    connection, _ = connection_on([message(1, b"x")[:-4], b""])

    with pytest.raises(RecoverableConnectionError, match="the broker closed the connection"):
        connection.drain_events(1)

    assert connection.transport.connected is False


def test_a_sign_of_life_is_noted() -> None:
    """Given any bytes, the number by which py-amqp sees that the broker lives changes."""
    connection, _ = connection_on([HEARTBEAT])
    before = connection.bytes_recv

    with pytest.raises(TimeoutError):
        connection.drain_events(1)

    assert connection.bytes_recv > before


class SocketTransport:
    """That of py-amqp over a real socket, as far as a connection reads from it."""

    connected = True

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @contextmanager
    def having_timeout(self, timeout: float | None) -> Iterator[socket.socket]:
        self.sock.settimeout(timeout)
        try:
            yield self.sock
        except BlockingIOError:
            raise TimeoutError from None


def test_what_is_read_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more messages than may be kept for a caller who takes none, the rest waits in the socket and counts as a
    sign of life; once they are taken, what is behind them is read, and all have come, in their order.
    """
    monkeypatch.setattr(buffered, "MAX_READ_AHEAD", 3 * READ_SIZE)
    body = b"x" * (READ_SIZE // 2)
    ours, theirs = socket.socketpair()
    connection, _ = connection_on([])

    connection.transport = SocketTransport(ours)
    sender = threading.Thread(target=lambda: [theirs.sendall(message(tag, body)) for tag in range(20)])
    sender.start()
    taken: list[int] = []
    with ours, theirs:
        while connection.read_ahead():  # the sender's thread may be late
            pass
        for _ in range(10):
            connection.prev_recv = connection.bytes_recv
            assert connection.read_ahead() is False
            assert connection.prev_recv is None
            assert sum(len(one.body) for _, one in connection.deliveries) < 4 * READ_SIZE
        while len(taken) < 20:
            taken += [tag for tag, _ in connection.deliveries]
            connection.deliveries.clear()
            connection.read_ahead()
        sender.join()
        assert connection.read_ahead() is True

    assert taken == list(range(20))


def test_a_real_socket_that_has_nothing_times_out() -> None:
    """Given a real socket without data, the wait ends after its time, also one of 0 seconds."""
    ours, theirs = socket.socketpair()
    connection, _ = connection_on([])

    connection.transport = SocketTransport(ours)
    with pytest.raises(TimeoutError):
        connection.drain_events(0.01)

    theirs.sendall(message(9, b"x" * 100_000)[:50_000])
    with pytest.raises(TimeoutError):
        connection.drain_events(0.01)
    theirs.sendall(message(9, b"x" * 100_000)[50_000:])
    connection.drain_events(1)
    ours.close()
    theirs.close()

    assert [tag for tag, _ in connection.deliveries] == [9]
