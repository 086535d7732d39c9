"""One subscription to channels of Redis, and the work of the thread that reads it.

Redis sends a subscriber what is published, and closes the connection if too much of that is not read. So nothing slow
may stand between the socket and the memory of this process: the thread only reads, even while the loop waits, for
example for a slow handler. The thread does not parse what it reads.

No library may reconnect by itself: what is published meanwhile is missed, and that has to be reported. Here, a broken
connection stays broken.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
from typing import Any

import hiredis
import redis.exceptions

from ha_monitor.broker.inbox import Inbox, Piece
from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule

CONNECTION_ERRORS = (redis.exceptions.RedisError, hiredis.HiredisError, OSError)
"""The errors that a broken connection raises."""
NO_REPLY = object()
"""What a `hiredis.Reader` returns if the bytes so far contain no further complete reply."""
PING_EVERY = 0.5
"""Seconds between two PINGs to the server. The server answers in order: once the answer is there, everything that was
sent before the PING is there, too. An empty socket proves nothing: the link may be half-open, and a link that is too
slow is also empty now and then.
"""
READ_TIMEOUT = 0.5
"""Maximum seconds that one read waits."""
_END_OF_REPLY = b"\r\n"
_READ_SIZE = 256 * 1024


class Subscription:
    """A connection that receives what is published on some channels.

    Call `open` first, then `begin`, and `close` last. In between, call `read` in a thread of its own, or `receive_once`
    repeatedly.
    """

    def __init__(self, connection: Any, channels: str, inbox: Inbox, clock: Clock) -> None:
        """
        :param connection: a connection of redis-py that is not connected yet.
        :param channels: a pattern of channel names.
        :param inbox: where received bytes are put.
        """
        self._connection = connection
        self._channels = channels
        self._inbox = inbox
        self._clock = clock
        self._replies = hiredis.Reader(notEnoughData=NO_REPLY)
        self._socket: Any = None
        self._closed = False
        self._is_amid_reply = self._has_paused = False
        self._heard_at = clock.monotonic()
        self._ping = b""
        self._tail = b""
        self._pinged_at: float | None = None
        self._next_ping = Schedule(clock, PING_EVERY)
        self.complete_until = self._heard_at
        """Time by the monotonic clock: everything that was sent before it is in the inbox."""
        self.silence = 0.0
        """Seconds for which an answer of the server was outstanding at the latest read; 0 if none was."""
        self.failure: BaseException | None = None
        """Why nothing more will be received."""

    @property
    def is_behind(self) -> bool:
        """Whether it is certain that Redis had more to send than was read."""
        return self._is_amid_reply or self._has_paused

    def open(self, timeout: float) -> None:
        """Connect and subscribe. Returns once the server has confirmed it: from then on, what is published arrives.

        :param timeout: seconds to wait for the confirmation.
        :raises Exception: one of `CONNECTION_ERRORS`.
        """
        self._connection.connect()
        self._socket = self._connection._sock
        self._connection.send_command("PSUBSCRIBE", self._channels, check_health=False)
        until = self._clock.monotonic() + timeout
        while (reply := self._replies.gets()) is NO_REPLY:
            if self._clock.monotonic() > until:
                raise TimeoutError(f"no answer to the subscription for {timeout:g} s")
            self._replies.feed(self._receive(READ_TIMEOUT))
        if isinstance(reply, Exception):
            raise reply
        self.complete_until = self._heard_at = self._clock.monotonic()

    def begin(self) -> None:
        """From now on, what is received goes into the inbox. Events may have come right after the confirmation."""
        self._heard_at = self._clock.monotonic()
        self._inbox.put(Piece(self._replies, b""))

    def read(self) -> None:
        """Read until the connection breaks or is closed. Runs in a thread of its own."""
        try:
            while not self._closed and self.failure is None:
                if self._inbox.has_room(READ_TIMEOUT):
                    self.receive_once(READ_TIMEOUT)
                else:
                    self._pause()
        except BaseException as error:  # a fault of the program: nothing is read from now on
            self.failure = error
            raise

    def receive_once(self, timeout: float) -> bool:
        """Read once from the socket into the inbox; waits up to `timeout` seconds. Returns whether there was anything.

        Never raises: `failure` says what went wrong.
        """
        data = b""
        try:
            if data := self._receive(timeout):
                self._inbox.put(Piece(self._replies, data))
            self._note(data)
        except CONNECTION_ERRORS as error:
            self.failure = error
            self._inbox.put(Piece(self._replies, b""))  # wakes a thread that waits for a piece
        return bool(data)

    def close(self) -> None:
        """End the subscription; a waiting read returns. Never raises."""
        self._closed = True
        with contextlib.suppress(OSError):
            if self._socket is not None:
                # The plain socket's method: that of a TLS socket would first remove the encryption during a read.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the socket. Call it once nothing reads any longer. Never raises."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _receive(self, timeout: float) -> bytes:
        """The bytes that have arrived or arrive within the timeout; empty if none do."""
        if self._socket.gettimeout() != timeout:
            self._socket.settimeout(timeout)
        try:
            data: bytes = self._socket.recv(_READ_SIZE)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise redis.exceptions.ConnectionError("Connection closed by server")
        return data

    def _note(self, data: bytes) -> None:
        """Update the state after a read, and send the next PING when it is due."""
        now = self._clock.monotonic()
        if data:
            self._heard_at, self.silence = now, 0.0
            self._is_amid_reply = not data.endswith(_END_OF_REPLY)
            self._look_for_pong(data)
        elif self._pinged_at is not None:
            self.silence = now - max(self._pinged_at, self._heard_at)
        if self._pinged_at is None and self._next_ping.is_due():
            self._next_ping.restart()
            self._ping, self._tail, self._pinged_at = secrets.token_hex(16).encode(), b"", now
            self._connection.send_command("PING", self._ping, check_health=False)

    def _look_for_pong(self, data: bytes) -> None:
        if self._pinged_at is None:
            return
        # The answer may have come in two pieces.
        searched = self._tail + data
        if self._ping in searched:
            self.complete_until, self._pinged_at, self._has_paused = self._pinged_at, None, False
        else:
            self._tail = searched[-len(self._ping) :]

    def _pause(self) -> None:
        """Note that the inbox has no room. What is sent meanwhile waits in the socket, and then in Redis."""
        self._has_paused = True
        # While nothing is read, the server cannot be called silent.
        self._heard_at, self.silence = self._clock.monotonic(), 0.0
