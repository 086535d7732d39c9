"""One request and its answer over HTTP/1.1, as h11 reads and writes it; then the connection is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import h11

LONGEST_HEAD = 16384
"""Bytes of the request line and the header fields."""
AT_ONCE = 65536
"""Bytes that are read or written at once."""
READ_METHODS = ("GET", "HEAD")


class Request(NamedTuple):
    """What a client asks for."""

    method: str
    path: str
    """Without the query, decoded."""
    headers: dict[str, str]
    """By their names in lower case."""


class Reply(NamedTuple):
    """What it gets."""

    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def text(status: HTTPStatus, body: str, *headers: tuple[str, str]) -> Reply:
    """A reply of plain text, unless the headers say otherwise."""
    fields = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **dict(headers)}
    return Reply(status, body.encode("utf-8"), tuple(fields.items()))


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request], Awaitable[Reply]],
    malformed: Callable[[], None],
) -> None:
    """Read a request, and write what `answer` makes of it; nothing if the client goes without a word.

    A body is not waited for: nothing here wants one.

    :param malformed: is called when it is no HTTP.
    :raises OSError: if the client hangs up.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
    method = "GET"
    try:
        request = await _request(connection, reader)
        if request is None:
            return
        method = request.method
        reply = await answer(request)
    except h11.RemoteProtocolError as error:
        malformed()
        status = HTTPStatus(error.error_status_hint)
        reply = text(status, f"{status.phrase}: {error}\n")
    await _send(connection, writer, reply, with_body=method != "HEAD")


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(AT_ONCE))
    if not isinstance(event, h11.Request):
        return None
    try:
        path = unquote(urlsplit(event.target.decode("ascii")).path)
    except ValueError:
        raise h11.RemoteProtocolError("no such target can be asked for") from None
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, given = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {given}" if key in headers else given
    return Request(event.method.decode("ascii"), path, headers)


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, reply: Reply, *, with_body: bool) -> None:
    headers = [
        *reply.headers,
        ("Content-Length", str(len(reply.body))),
        ("Date", formatdate(usegmt=True)),
        ("Connection", "close"),
    ]
    head = h11.Response(status_code=reply.status.value, reason=reply.status.phrase.encode(), headers=headers)
    writer.write(connection.send(head) or b"")
    if with_body:
        for start in range(0, len(reply.body), AT_ONCE):
            writer.write(connection.send(h11.Data(data=reply.body[start : start + AT_ONCE])) or b"")
            await writer.drain()
    await writer.drain()
