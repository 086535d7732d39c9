"""The connections of clients. Each has a place and no thread, and is over at a deadline, whatever the client does.

asyncio holds them all in one thread, so a thousand slow clients cost what sixty-four cost. No server library that was
looked at (uvicorn, hypercorn, cheroot, waitress) ends a request whose head comes byte by byte, or counts a client that
does not finish its TLS handshake; so the door is here, and h11 reads what comes through it.
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

PLACES = 64
"""Connections at once. One more takes the place of the one that keeps us waiting for the longest time."""
DEADLINE = 30.0
"""Seconds from the connection to the end of the answer, with the TLS handshake. No client of ours needs a second."""
PIECE = 65536
"""Bytes that are held for a client that does not read them, and as many again by the kernel."""
AT_ONCE = struct.pack("ii", 1, 0)
"""What the kernel still holds for a client that was cut off is dropped, too."""
PAUSE = 0.02
"""Seconds until the next try if a connection cannot be accepted, such as for want of a file descriptor."""


class Refusal(StrEnum):
    """Why a client did not get what it asked for; a label in the metrics."""

    CROWDED = "crowded"
    """It was slow while all places were taken, or too many were waiting for a scrape."""
    DEADLINE = "deadline"
    MALFORMED = "malformed"
    PASSWORD = "password"
    TOO_MANY_PASSWORDS = "too_many_passwords"


class Client:
    """Who is at the other end of one connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.waits = False
        """It waits for us, not we for it: so it keeps its place."""
        self.task: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While something is made for it."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Client], Awaitable[None]]


class Connections:
    """Accepts, and gives each connection its place and its deadline."""

    def __init__(
        self,
        converse: Converse,
        tls: ssl.SSLContext | None,
        *,
        refused: Callable[[Refusal], None],
        unforeseen: Callable[[str], None],
    ) -> None:
        """
        :param converse: reads the request and writes the answer.
        :param refused: is told when a client lost its place or its time was over.
        :param unforeseen: is told of errors of ours.
        """
        self._converse = converse
        self._tls = tls
        self._refused = refused
        self._unforeseen = unforeseen
        self._clients: dict[Client, None] = {}
        """In the order in which they came."""

    def __len__(self) -> int:
        return len(self._clients)

    async def accept(self, listening: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self._unforeseen(_said(context)))
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:  # a client that is gone already, or no descriptor is left
                self._make_room()
                await asyncio.sleep(PAUSE)
                continue
            while len(self._clients) >= PLACES:
                self._make_room()
            client = Client(str(address[0]))
            self._clients[client] = None
            client.task = loop.create_task(self._hold(accepted, client))
            await asyncio.sleep(0)  # those who are here already get their turn, however many come

    def _make_room(self) -> None:
        client = next((one for one in self._clients if not one.waits), next(iter(self._clients), None))
        if client is not None:
            del self._clients[client]
            self._refused(Refusal.CROWDED)
            if client.task is not None:
                client.task.cancel()

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
        except (OSError, EOFError):
            pass  # a client that hangs up is no event, nor is one that does not speak TLS
        except Exception as error:
            self._unforeseen(f"{type(error).__name__}: {error}")
        finally:
            if writer is not None:
                with suppress(OSError):  # one that ended in order is closed already
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                writer.transport.abort()
            self._clients.pop(client, None)

    async def _open(self, accepted: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(PIECE, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        options: dict[str, Any] = {}
        if self._tls is not None:
            # asyncio's own limits would have the say only after ours.
            options = {
                "ssl": self._tls,
                "ssl_handshake_timeout": 2 * DEADLINE,
                "ssl_shutdown_timeout": 2 * DEADLINE,
            }
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, **options)
        transport.set_write_buffer_limits(high=PIECE)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _said(context: dict[str, Any]) -> str:
    error = context.get("exception")
    with suppress(Exception):
        return str(context["message"]) + (f": {type(error).__name__}: {error}" if error is not None else "")
    return "an error in asyncio"
