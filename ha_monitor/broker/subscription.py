"""One subscription to a channel of Redis, and the thread that reads it.

Redis sends a subscriber what is published, and closes the connection if too much of it is not read. So nothing that
takes time may stand between the socket and the memory of this process: the thread reads, whatever the loop does
meanwhile, such as waiting for a slow handler. It does not look into what it reads.

No library may reconnect by itself underneath: what is published meanwhile is missed, and that has to be said. Here a
connection that breaks stays broken.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

import hiredis
import redis.exceptions

from ha_monitor.broker.inbox import Inbox, Piece
from ha_monitor.clock import Clock

FOREIGN = (redis.exceptions.RedisError, hiredis.HiredisError, OSError)
"""What a broken connection raises."""
NO_REPLY = object()
"""What a `hiredis.Reader` returns if the bytes so far hold no more complete replies."""
ASK_AFTER = 1.0
"""Seconds without a sign of life after which the server is asked for one."""
WAIT = 0.5
"""Most seconds that one read waits."""
_END_OF_REPLY = b"\r\n"
_READ_SIZE = 256 * 1024
_TLS_READ_SIZE = 16 * 1024
"""What one record of TLS holds at most, and a read returns."""
_BEHIND = 1024 * 1024
"""Bytes read one after the other, without finding the socket empty, from which on the reader counts as behind."""


class Subscription:
    """A connection that receives what is published on some channels.

    `open` first, `close` last. In between, `read` in a thread of its own, or `receive_once` again and again.
    """

    def __init__(self, connection: Any, channels: str, inbox: Inbox, clock: Clock) -> None:
        """
        :param connection: of redis-py, not connected yet.
        :param channels: a pattern.
        :param inbox: gets what is received.
        """
        self._connection = connection
        self._channels = channels
        self._inbox = inbox
        self._clock = clock
        self._replies = hiredis.Reader(notEnoughData=NO_REPLY)
        self._socket: Any = None
        self._closed = False
        self._full_read = _READ_SIZE
        self._last_read = 0
        self._unbroken = 0
        self._is_amid_reply = False
        self._read_at = self._heard_at = clock.monotonic()
        self._asked_at: float | None = None
        self.complete_until = self._heard_at
        """By the monotonic clock: what was sent until then is in the inbox."""
        self.silence = 0.0
        """Seconds for which the server has owed an answer, as of the latest read; 0 if it owes none."""
        self.failure: BaseException | None = None
        """Why nothing more will be received."""

    @property
    def is_behind(self) -> bool:
        """Whether Redis certainly had more to send than was read: it is in the middle of a reply, or of a lot."""
        return self._is_amid_reply or self._unbroken >= _BEHIND

    def open(self, timeout: float) -> None:
        """Connect and subscribe. When it returns, the server has confirmed that: what is published from now on arrives.

        :param timeout: seconds to wait for the confirmation.
        :raises Exception: one of `FOREIGN`.
        """
        self._connection.connect()
        self._socket = self._connection._sock
        if isinstance(self._socket, ssl.SSLSocket):
            self._full_read = _TLS_READ_SIZE
        self._connection.send_command("PSUBSCRIBE", self._channels, check_health=False)
        until = self._clock.monotonic() + timeout
        while (reply := self._replies.gets()) is NO_REPLY:
            if self._clock.monotonic() > until:
                raise TimeoutError(f"no answer to the subscription for {timeout:g} s")
            self._replies.feed(self._receive(WAIT))
        if isinstance(reply, Exception):
            raise reply
        self.complete_until = self._read_at = self._heard_at = self._clock.monotonic()
        # Events may have come right behind the confirmation.
        self._inbox.put(Piece(self._replies, b""))

    def read(self) -> None:
        """Read until the connection breaks or is closed: the work of a thread."""
        try:
            while not self._closed and self.failure is None:
                if self._inbox.has_room(WAIT):
                    self.receive_once(WAIT)
                else:
                    self._pause()
        except BaseException as error:  # a fault of the program; nobody reads from now on
            self.failure = error
            raise

    def receive_once(self, timeout: float) -> bool:
        """Take what has come into the inbox; waits up to `timeout` seconds for some. Returns whether there was any.

        Never raises: what went wrong is `failure`.
        """
        try:
            data = self._receive(timeout)
            self._note(data)
        except FOREIGN as error:
            self.failure = error
            data = b""
        if data or self.failure is not None:
            self._inbox.put(Piece(self._replies, data))
        return bool(data)

    def close(self) -> None:
        """End it; a read that waits returns. Never raises."""
        self._closed = True
        with contextlib.suppress(OSError):
            if self._socket is not None:
                # Not that of TLS, which would first take the encryption away from under a read.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket back, once nobody reads any more. Never raises."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _receive(self, timeout: float) -> bytes:
        """What has come, or comes within the time; empty if nothing does."""
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
        """Draw the conclusions from a read."""
        now = self._clock.monotonic()
        if self._last_read < self._full_read or not data:
            # Nothing was left when something was last read. That nothing has come since then proves nothing: the link
            # may be half-open.
            self.complete_until, self._unbroken = self._read_at, 0
        self._last_read = len(data)
        if data:
            self._read_at = self._heard_at = now
            self._unbroken += len(data)
            self._is_amid_reply = not data.endswith(_END_OF_REPLY)
            self._asked_at, self.silence = None, 0.0
        elif self._asked_at is not None:
            self.silence = now - self._asked_at
        elif now - self._heard_at >= ASK_AFTER:
            self._asked_at = now
            self._connection.send_command("PING", check_health=False)

    def _pause(self) -> None:
        """There is no room. What is sent meanwhile waits in the socket, and then in Redis."""
        self._last_read, self._unbroken = self._full_read, _BEHIND
        # Nobody is silent who is not listened to.
        self._heard_at, self._asked_at, self.silence = self._clock.monotonic(), None, 0.0
