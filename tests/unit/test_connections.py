"""What is said of errors in a client's connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from ha_monitor.http.connections import Client, Connections


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), []),
        (ValueError("a bug"), ["Future exception was never retrieved: ValueError: a bug"]),
    ],
)
def test_what_asyncio_reports_is_a_line_only_if_it_is_an_error_of_ours(error: Exception, said: list[str]) -> None:
    """Given an exception in a future that is freed before anybody asked for it, as the garbage collector does with the
    futures of a connection, a reset by the client is not worth a line; an error of ours is.
    """
    reported: list[str] = []

    async def converse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _client: Client) -> None:
        asyncio.get_running_loop().create_future().set_exception(error)

    async def serve(listening: socket.socket) -> None:
        connections = Connections(converse, None, refused=lambda _why: None, unforeseen=reported.append)
        accepting = asyncio.create_task(connections.accept(listening))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        assert await reader.read() == b""
        writer.close()
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        asyncio.run(serve(listening))
    assert reported == said
