"""What is said of errors in a client's connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing, suppress

import pytest

from ha_monitor.http.connections import Client, Connections, Converse
from ha_monitor.http.listening import bind


def serve(converse: Converse, reported: list[str]) -> None:
    """Hold one conversation with a client that only listens.

    :param reported: gets what is said of errors.
    """

    async def hold(listening: socket.socket) -> None:
        connections = Connections(converse, None, refused=lambda _why: None, on_error=reported.append)
        accepting = asyncio.create_task(connections.accept(listening))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        assert await reader.read() == b""
        writer.close()
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        asyncio.run(hold(listening))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), []),
        (ValueError("a bug"), ["Future exception was never retrieved: ValueError: a bug"]),
        (
            ValueError("a\nbug with redis://:hunter2@h/0"),
            ["Future exception was never retrieved: ValueError: a bug with redis://:***@h/0"],
        ),
    ],
)
def test_what_asyncio_reports_is_a_line_only_if_it_is_an_error_of_ours(error: Exception, said: list[str]) -> None:
    """Given an exception in a future that is freed before anybody asked for it, as the garbage collector does with the
    futures of a connection, a reset by the client is not worth a line; an error of ours is, without line breaks and
    passwords.
    """
    reported: list[str] = []

    async def converse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _client: Client) -> None:
        asyncio.get_running_loop().create_future().set_exception(error)

    serve(converse, reported)

    assert reported == said


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_ipv4_client_is_known_by_his_ipv4_address() -> None:
    """Given a server on `[::]`, a client of either family has the address that people write: in lines, and where his
    wrong passwords are counted."""
    known: list[str] = []

    async def converse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, client: Client) -> None:
        known.append(client.address)

    async def serve(listening: socket.socket) -> None:
        connections = Connections(converse, None, refused=lambda _why: None, on_error=known.append)
        accepting = asyncio.create_task(connections.accept(listening))
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, listening.getsockname()[1])
            assert await reader.read() == b""
            writer.close()
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting

    with closing(bind("::", 0)) as listening:
        asyncio.run(serve(listening))
    assert known == ["127.0.0.1", "::1"]


def test_what_a_client_makes_fail_is_one_line_without_secrets() -> None:
    """Given a conversation that fails in a way that nobody foresaw, the client is cut off, and the line says how it
    failed, without line breaks and passwords.
    """
    reported: list[str] = []

    async def converse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _client: Client) -> None:
        raise ValueError("a\nbug with redis://:hunter2@h/0")

    with pytest.raises(ConnectionResetError):
        serve(converse, reported)

    assert reported == ["ValueError: a bug with redis://:***@h/0"]
