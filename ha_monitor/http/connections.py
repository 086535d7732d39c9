"""Client connections. Each has a slot and a deadline, but no thread of its own.

asyncio holds them all in one thread, so a thousand slow clients cost what sixty-four cost. The server libraries that
were examined (uvicorn, hypercorn, cheroot, waitress) do not end a request whose head arrives byte by byte, and do not
count a client that never finishes its TLS handshake; so this module accepts connections itself, and h11 parses them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any

from ha_monitor.errors import class_and_reason
from ha_monitor.http.addresses import shown

MAX_CONNECTIONS = 64
"""Connections at once. A new one replaces the one that has kept the server waiting longest."""
DEADLINE = 30.0
"""Seconds from the connection to the end of the answer, including the TLS handshake. A normal client needs less than
one."""
BUFFER_SIZE = 65536
"""Bytes buffered for a client that does not read them; the kernel buffers as many again."""
ABORT_ON_CLOSE = struct.pack("ii", 1, 0)
"""For SO_LINGER: drop what the kernel has buffered for a client that is cut off."""
CLIENT_IS_GONE = (OSError, EOFError)
"""A client that disconnects, or does not speak TLS, is not worth a line. The error may be raised here, or reported by
asyncio when the garbage collector frees the futures of a reset connection before their protocol."""
ACCEPT_RETRY_AFTER = 0.02
"""Seconds until the next attempt if a connection cannot be accepted, for example without a free file descriptor."""


class Refusal(StrEnum):
    """Why a client was refused; a label in the metrics."""

    CROWDED = "crowded"
    """It was slow while all slots were taken, or too many clients were waiting for a scrape."""
    DEADLINE = "deadline"
    MALFORMED = "malformed"
    PASSWORD = "password"
    TOO_MANY_PASSWORDS = "too_many_passwords"


class Client:
    """The client of one connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.waits = False
        """Whether it waits for the server, and not the server for it; then it keeps its slot."""
        self.task: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Used while the server prepares the answer."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Client], Awaitable[None]]


class Connections:
    """Accepts connections, and gives each a slot and a deadline."""

    def __init__(
        self,
        converse: Converse,
        tls: ssl.SSLContext | None,
        *,
        refused: Callable[[Refusal], None],
        on_error: Callable[[str], None],
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """
        :param converse: reads the request and writes the answer.
        :param refused: called when a client lost its slot or exceeded the deadline.
        :param on_error: called with the text of an internal error.
        :param max_connections: connections at once.
        """
        self._max_connections = max_connections
        self._converse = converse
        self._tls = tls
        self._refused = refused
        self._on_error = on_error
        self._clients: dict[Client, None] = {}
        """In order of arrival."""

    def __len__(self) -> int:
        return len(self._clients)

    async def accept(self, listening: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self._report(context))
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:  # the client is already gone, or there is no free descriptor
                self._make_room()
                await asyncio.sleep(ACCEPT_RETRY_AFTER)
                continue
            while len(self._clients) >= self._max_connections:
                self._make_room()
            client = Client(shown(str(address[0])))
            self._clients[client] = None
            client.task = loop.create_task(self._hold(accepted, client))
            await asyncio.sleep(0)  # existing clients get their turn, however many arrive

    def _make_room(self) -> None:
        client = next((one for one in self._clients if not one.waits), next(iter(self._clients), None))
        if client is not None:
            del self._clients[client]
            self._refused(Refusal.CROWDED)
            if client.task is not None:
                client.task.cancel()

    def _report(self, context: dict[str, Any]) -> None:
        """Handle what asyncio reports itself, such as an exception in a future whose result nobody asked for."""
        if not isinstance(context.get("exception"), CLIENT_IS_GONE):
            self._on_error(_said(context))

    async def _hold(self, accepted: socket.socket, client: Client) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                reader, writer = await self._open(accepted)
                await self._converse(reader, writer, client)
                writer.close()
                await writer.wait_closed()
        except TimeoutError:
            self._refused(Refusal.DEADLINE)
        except CLIENT_IS_GONE:
            pass
        except Exception as error:
            self._on_error(class_and_reason(error))
        finally:
            if writer is not None:
                with suppress(OSError):  # already closed after an orderly end
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)
                writer.transport.abort()
            self._clients.pop(client, None)

    async def _open(self, accepted: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(BUFFER_SIZE, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        options: dict[str, Any] = {}
        if self._tls is not None:
            # asyncio's own limits must not apply before ours.
            options = {
                "ssl": self._tls,
                "ssl_handshake_timeout": 2 * DEADLINE,
                "ssl_shutdown_timeout": 2 * DEADLINE,
            }
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, **options)
        transport.set_write_buffer_limits(high=BUFFER_SIZE)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _said(context: dict[str, Any]) -> str:
    error = context.get("exception")
    with suppress(Exception):
        return str(context["message"]) + (f": {class_and_reason(error)}" if error is not None else "")
    return "an error in asyncio"
