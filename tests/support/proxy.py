"""A TCP link that a test can cut, as a firewall or a broken switch would."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from tests.support.process import free_port

CHUNK = 65_536


class _Pipe:
    """One direction of a connection, with at most one chunk in between."""

    __slots__ = ("closing", "data", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.data = b""
        self.closing = False


class CutLink:
    """A proxy in a thread, from a port of its own to a server's port.

    The states: *healed* (the first), *cut* and *refusing*. Every method returns when the new state holds.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", *, delay: float = 0.0) -> None:
        """:param delay: seconds that what is sent takes, at least, either way."""
        self.url_port = free_port()
        """Port for the client's URL."""
        self.bytes_forwarded = 0
        self.connections_made = 0
        self._target = (target_host, target_port)
        self._delay = delay
        self._pipes: dict[socket.socket, tuple[_Pipe, _Pipe]] = {}
        """By socket: the pipe that reads from it, and the pipe that writes to it."""
        self._selector = selectors.DefaultSelector()
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._waker, self._wake = socket.socketpair()
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._flowing = True
        self._ended = False
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"link-{self.url_port}", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Number of open connections through the link."""
        return len(self._pipes) // 2

    def cut(self) -> None:
        """Stop forwarding in both directions without a word; the sockets stay open.

        Nothing is read either, so a writer blocks once the kernel's buffers are full. A new connection is
        established by the kernel but never served, and hangs. After heal() all of it goes on, as TCP does.
        """
        self._do(self._stop_flow)

    def drop(self) -> None:
        """Close all connections; new ones are served as the state says."""
        self._do(self._close_all)

    def refuse(self) -> None:
        """Close all connections and refuse new ones, as a machine does whose server is down."""
        self._do(self._stop_listening)

    def heal(self) -> None:
        """Forward, and accept connections."""
        self._do(self._restore)

    def close(self) -> None:
        """End the link for good."""
        if self._thread.is_alive():
            self._do(self._stop_thread)
            self._thread.join()
            self._waker.close()
            self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What follows runs in the thread, so that no state is shared.

    def _do(self, command: Callable[[], None]) -> None:
        done = threading.Event()
        self._commands.append((command, done))
        self._wake.send(b"x")
        if not done.wait(10):
            raise TimeoutError("the link's thread does not answer")

    def _run(self) -> None:
        while not self._ended:
            for key, mask in self._selector.select():
                if key.fileobj is self._waker:
                    self._waker.recv(1024)
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._pipes:
                    self._move(key.fileobj, mask)
            while self._commands:
                command, done = self._commands.popleft()
                command()
                done.set()
        self._selector.close()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        self.connections_made += 1
        up, down = _Pipe(client, server), _Pipe(server, client)
        for end, pipes in ((client, (up, down)), (server, (down, up))):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pipes[end] = pipes
            self._watch(end)

    def _move(self, end: socket.socket, mask: int) -> None:
        reading, writing = self._pipes[end]
        try:
            if mask & selectors.EVENT_READ:
                reading.data = end.recv(CHUNK)
                time.sleep(self._delay)  # all others wait, too, which makes a slow link slower
                reading.closing = not reading.data
                self._flush(reading)
            if mask & selectors.EVENT_WRITE:
                self._flush(writing)
        except BlockingIOError:
            pass
        except OSError:
            self._close(end)
            return
        if (reading.closing and not reading.data) or (writing.closing and not writing.data):
            # One side is done, and what it sent is delivered. No protocol here uses half a connection.
            self._close(end)
            return
        self._watch(reading.source)
        self._watch(reading.sink)

    def _flush(self, pipe: _Pipe) -> None:
        if pipe.data:
            sent = pipe.sink.send(pipe.data)
            self.bytes_forwarded += sent
            pipe.data = pipe.data[sent:]

    def _watch(self, end: socket.socket) -> None:
        reading, writing = self._pipes[end]
        mask = 0
        if self._flowing:
            mask |= 0 if reading.data or reading.closing else selectors.EVENT_READ
            mask |= selectors.EVENT_WRITE if writing.data else 0
        known = end in self._selector.get_map()
        if mask and known:
            self._selector.modify(end, mask)
        elif mask:
            self._selector.register(end, mask)
        elif known:
            self._selector.unregister(end)

    def _close(self, end: socket.socket) -> None:
        for one in (end, self._pipes[end][0].sink):
            self._pipes.pop(one)
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            one.close()

    def _close_all(self) -> None:
        while self._pipes:
            self._close(next(iter(self._pipes)))

    def _stop_flow(self) -> None:
        self._flowing = False
        if self._listener is not None and self._listener in self._selector.get_map():
            self._selector.unregister(self._listener)
        for end in self._pipes:
            self._watch(end)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.url_port), backlog=128)
            self._listener.setblocking(False)
        if self._listener not in self._selector.get_map():
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        self._close_all()

    def _restore(self) -> None:
        self._flowing = True
        self._listen()
        for end in self._pipes:
            self._watch(end)

    def _stop_thread(self) -> None:
        self._stop_listening()
        self._ended = True
