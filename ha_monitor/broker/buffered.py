"""py-amqp with a buffered socket.

py-amqp reads every frame with two or three `recv` calls and builds several objects per message, which is most of the
cost of consuming. This connection reads whatever the socket holds at once, and parses the deliveries of one channel
directly from the bytes. All other frames (methods, heartbeats, errors) go through py-amqp's own code.

The layout of frames is that of the AMQP 0-9-1 specification, sections 4.2.3 to 4.2.6.
"""

from __future__ import annotations

import contextlib
import select
import ssl
from collections import deque
from collections.abc import Iterator
from struct import Struct
from typing import Any

from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.serialization import loads
from kombu.transport import pyamqp

from ha_monitor.broker.amqp_channels import QueueChannel
from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.decode import Message
from ha_monitor.events.facts import BadEvent
from ha_monitor.events.long_texts import TextTruncator

READ_SIZE = 256 * 1024
MAX_READS = 64
"""Maximum reads from the socket before returning to the caller, which has other work while a large body arrives."""
MAX_READ_AHEAD = 64 * 1024 * 1024
"""Maximum bytes kept for a caller that does not take them at the moment; the last message may exceed this. The rest
waits in the socket: the broker sends as many messages as the prefetch allows, each of which may be large."""
_FRAME = Struct(">BHI")
_FRAME_HEAD = _FRAME.size
_FRAME_END = 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC_DELIVER = b"\x00\x3c\x00\x3c"
_TAG_AND_FLAG = Struct(">QB")
_CONTENT = Struct(">HHQH")
_HAS_CONTENT_TYPE, _HAS_CONTENT_ENCODING, _HAS_HEADERS = 0x8000, 0x4000, 0x2000
_COMPRESSION = b"\x0bcompression"
"""The name of the `compression` header, as encoded in a table."""


class AnswerDelayed(Exception):
    """More messages come before the broker's answer than may be read while waiting for it. It may still come."""


class BufferedConnection(pyamqp.Connection):
    """A connection that reads in large pieces."""

    Channel = QueueChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer = b""
        self._position = 0
        # The pieces that were read but not yet joined to the buffer, and how many bytes are still missing: joining a
        # large body at every read would copy it hundreds of times.
        self._pieces: list[bytes] = []
        self._missing = 0
        # py-amqp waits forever for the answer to a method. A broker that is up but does not answer, for example because
        # a queue has no leader, must not block the caller.
        self._connect_timeout: float | None = kwargs.get("connect_timeout")
        self.fast_channel: int | None = None
        """Number of the channel whose messages are put into `deliveries`."""
        self.deliveries: deque[tuple[int, Message]] = deque()
        """Delivery tags and messages."""
        self._large: _LargeBody | None = None
        self.bytes_read = 0
        """Bytes read from the socket so far. (For py-amqp's own `bytes_recv`, it is enough to change.)"""
        self._read_limit: int | None = None
        """The value of `bytes_read` from which on no answer is awaited any longer; None for no limit."""

    @property
    def is_receiving(self) -> bool:
        """Whether a message or frame has arrived only in part."""
        return self._large is not None or bool(self._pieces) or self._position < len(self._buffer)

    @property
    def last_tag(self) -> int:
        """Delivery tag of the last message that was read and not taken yet; 0 if there is none."""
        return self.deliveries[-1][0] if self.deliveries else 0

    def drain_events(self, timeout: float | None = None) -> None:
        """Handle the available bytes; wait up to `timeout` seconds for some. Returns after a message or a method was
        handled, or after `MAX_READS` reads.

        :raises TimeoutError: if nothing came. :raises AnswerDelayed: see `limited_reading`.
        """
        for _ in range(MAX_READS):
            if self._handle_buffered():
                return
            if self._read_limit is not None and self.bytes_read >= self._read_limit:
                raise AnswerDelayed
            self._fill(timeout)

    @contextlib.contextmanager
    def limited_reading(self) -> Iterator[None]:
        """Within it, py-amqp waits for answers only as long as no more is read than by `read_ahead`: the caller has a
        lease to renew, and what is read is kept. Then `AnswerDelayed` is raised.
        """
        self._read_limit = self._limit()
        try:
            yield
        finally:
            self._read_limit = None

    def _limit(self) -> int:
        return self.bytes_read + min(MAX_READ_AHEAD - self.bytes_kept(), MAX_READS * READ_SIZE)

    def read_ahead(self) -> bool:
        """Handle what has arrived, up to `MAX_READ_AHEAD` together with what was not taken before. This also tells
        py-amqp's heartbeat check whether something was received.

        :returns: whether everything was read. If not, the answer to a question would come after the rest.
        """
        # Like `drain_events`, read only so much at once: the caller has a lease to renew.
        limit = self._limit()
        try:
            while self.bytes_read < limit:
                if not self._handle_buffered():
                    self._fill(0)
        except TimeoutError:
            return True
        if self._socket_has_more():
            self.prev_recv = None  # py-amqp must count it as a sign of life, although it is not read yet
            return False
        return True

    def bytes_kept(self) -> int:
        """Bytes that were read and not taken yet."""
        held = sum(len(message.body) for _, message in self.deliveries)
        return held + len(self._buffer) - self._position + sum(map(len, self._pieces))

    def messages_kept(self) -> int:
        """Messages that were read completely and not taken yet."""
        return len(self.deliveries)

    def _socket_has_more(self) -> bool:
        sock = None if self.transport is None else self.transport.sock
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def _fill(self, timeout: float | None) -> None:
        transport = self.transport
        if transport is None or transport.sock is None:
            raise RecoverableConnectionError("connection already closed")
        try:
            with transport.having_timeout(self._connect_timeout if timeout is None else timeout) as sock:
                data = sock.recv(READ_SIZE)
        except TimeoutError:
            raise
        except OSError:
            transport.connected = False
            raise
        if not data:
            transport.connected = False
            raise RecoverableConnectionError("the broker closed the connection")
        # py-amqp's heartbeat check only compares this number.
        self.bytes_recv += 1
        self.bytes_read += len(data)
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            self._buffer = b"".join((self._buffer[self._position :], *self._pieces))
            self._position = self._missing = 0
            self._pieces.clear()

    def _handle_buffered(self) -> bool:
        """Handle complete frames: all deliveries up to the first frame of another kind, or only that frame if it comes
        first. Returns whether a message or a method was handled."""
        if self._pieces:
            return False
        buffer, position, end = self._buffer, self._position, len(self._buffer)
        handled = False
        while end - position > _FRAME_HEAD:
            kind, channel, size = _FRAME.unpack_from(buffer, position)
            start = position + _FRAME_HEAD
            stop = start + size
            if stop >= end:
                break
            if buffer[stop] != _FRAME_END:
                raise UnexpectedFrame(f"frame ends with {buffer[stop]:#04x} instead of 0xce")
            if self._large is not None and channel == self.fast_channel:
                handled = self._take_part(kind, buffer[start:stop]) or handled
                position = stop + 1
                continue
            if kind == _METHOD and channel == self.fast_channel and buffer[start : start + 4] == _BASIC_DELIVER:
                after = self._take_delivery(buffer, start, stop + 1, end)
                if after is None:
                    break
                position = after
                handled = handled or self._large is None
                continue
            if handled:
                break
            # Advance first: handling a frame may raise, or read further frames.
            self._position = stop + 1
            if self.on_inbound_frame((kind, channel, buffer[start:stop])):
                return True
            buffer, position, end = self._buffer, self._position, len(self._buffer)
        self._position = position
        return handled

    def _take_delivery(self, buffer: bytes, method: int, header: int, end: int) -> int | None:
        """Read one message, or the head of a large one.

        :param method: where the method's payload begins. :param header: where the content header frame begins.
        :returns: where the next frame begins; None if the message is not complete yet.
        """
        if end - header <= _FRAME_HEAD:
            return None
        kind, _, size = _FRAME.unpack_from(buffer, header)
        body: int = header + _FRAME_HEAD + size + 1
        if kind != _HEADER:
            raise UnexpectedFrame(f"frame of type {kind} instead of a content header")
        if body > end:
            return None
        _, _, length, flags = _CONTENT.unpack_from(buffer, header + _FRAME_HEAD)
        tag, redelivered = _TAG_AND_FLAG.unpack_from(buffer, method + 5 + buffer[method + 4])
        content, after = (b"", body) if length > MAX_BODY else _read_body(buffer, body, end, length)
        if content is None:
            self._missing = length - (end - body)
            return None
        at = header + _FRAME_HEAD + _CONTENT.size
        content_type = content_encoding = compression = fault = ""
        try:
            if flags & _HAS_CONTENT_TYPE:
                content_type, at = _short_string(buffer, at)
            if flags & _HAS_CONTENT_ENCODING:
                content_encoding, at = _short_string(buffer, at)
            if flags & _HAS_HEADERS and buffer.find(_COMPRESSION, at, body) >= 0:
                compression, fault = _read_compression(buffer[at : body - 1])
        except IndexError:
            fault = "properties cannot be read"
        if fault:
            content_type = ""
        message = Message(content, content_type, content_encoding, compression, fault, redelivered & 1 == 1)
        if length > MAX_BODY:
            self._large = _LargeBody(tag, message, length)
        else:
            self.deliveries.append((tag, message))
        return after

    def _take_part(self, kind: int, data: bytes) -> bool:
        """Take a part of a large body. Returns whether it was the last one."""
        if kind != _BODY:
            raise UnexpectedFrame(f"frame of type {kind} instead of content")
        if self._large is None or not self._large.add(data):
            return False
        self.deliveries.append((self._large.tag, self._large.message()))
        self._large = None
        return True


class _LargeBody:
    """A body that is not held as a whole: its long texts are truncated while it arrives."""

    def __init__(self, tag: int, head: Message, length: int) -> None:
        """:param head: the message without its body."""
        self.tag = tag
        self._head = head
        self._length = self._left = length
        # In other content, texts cannot be distinguished from the rest.
        self._texts = TextTruncator() if head.is_plain_json else None

    def add(self, data: bytes) -> bool:
        """Take a part. Returns whether it was the last one."""
        self._left -= len(data)
        if self._texts is not None:
            self._texts.add(data)
        return self._left <= 0

    def message(self) -> Message:
        """The message with its truncated body, or with a fault if the body cannot be used."""
        if self._texts is None:
            fault = self._head.fault or f"body of {self._length} bytes is larger than {MAX_BODY}"
        else:
            try:
                return self._head._replace(body=self._texts.finish())
            except BadEvent as error:
                fault = str(error)
        return Message(b"", "", "", "", fault, self._head.redelivered)


def _read_body(buffer: bytes, position: int, end: int, length: int) -> tuple[bytes | None, int]:
    """The content, joined from its frames, and where the next frame begins; None if it is not complete."""
    if length == 0:
        return b"", position
    pieces: list[bytes] = []
    while True:
        if end - position <= _FRAME_HEAD:
            return None, position
        kind, _, size = _FRAME.unpack_from(buffer, position)
        if kind != _BODY:
            raise UnexpectedFrame(f"frame of type {kind} instead of content")
        start = position + _FRAME_HEAD
        position = start + size + 1
        if position > end:
            return None, position
        if size == length and not pieces:
            return buffer[start : start + size], position
        pieces.append(buffer[start : start + size])
        length -= size
        if length <= 0:
            return b"".join(pieces), position


def _read_compression(table: bytes) -> tuple[str, str]:
    """(`compression` header, reason why it cannot be read); an empty text where there is none."""
    try:
        compression = loads("F", table, 0)[0][0].get("compression")
    except Exception as error:  # py-amqp may raise anything for bytes that somebody else has written
        return "", f"headers cannot be read: {type(error).__name__}"
    if compression is None:
        return "", ""
    if not isinstance(compression, str):
        return "", f"compression must be a text, not {type(compression).__name__}"
    return compression, ""


def _short_string(buffer: bytes, position: int) -> tuple[str, int]:
    start = position + 1
    stop = start + buffer[position]
    return buffer[start:stop].decode("utf-8", "replace"), stop


class BufferedTransport(pyamqp.Transport):
    """kombu's AMQP transport, on buffered connections."""

    Connection = BufferedConnection


class BufferedTlsTransport(pyamqp.SSLTransport):
    """The same over TLS."""

    Connection = BufferedConnection
