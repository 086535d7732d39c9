"""One HTTP/1.1 request and its response, with h11; then the connection is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import h11

from ha_monitor.errors import class_and_reason

MAX_HEAD = 16384
"""Bytes of the request line and the header fields."""
READ_SIZE = 4096
WRITE_SIZE = 65536
"""Bytes."""
LINGER = 1.0
"""Seconds for which further bytes of a client are read and dropped: if the server closed the connection at once, the
client could not read the response."""
READ_METHODS = ("GET", "HEAD")


class Request(NamedTuple):
    """A request."""

    method: str
    path: str
    """Without the query, decoded."""
    headers: dict[str, str]
    """By name, in lower case."""
    query: str = ""
    """As it was sent."""


class Reply(NamedTuple):
    """A response."""

    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def text(status: HTTPStatus, body: str, *headers: tuple[str, str]) -> Reply:
    """A plain text response, unless the headers say otherwise."""
    fields = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **dict(headers)}
    return Reply(status, body.encode("utf-8"), tuple(fields.items()))


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request], Awaitable[Reply]],
    *,
    malformed: Callable[[], None],
    on_error: Callable[[str], None],
) -> None:
    """Read a request, and write the response from `answer`; nothing if the client disconnects first.

    The body of the request is ignored.

    :param malformed: called if it is not HTTP.
    :param on_error: called with the text of an internal error.
    :raises OSError: if the client disconnects.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    method, whole = "GET", False
    try:
        request = await _request(connection, reader)
        if request is None:
            return
        method, whole = request.method, isinstance(connection.next_event(), h11.EndOfMessage)
        reply = await _answered(request, answer, on_error)
    except h11.RemoteProtocolError as error:
        malformed()
        status = HTTPStatus(error.error_status_hint)
        reply = text(status, f"{status.phrase}: {error}\n")
    await _send(connection, writer, reply, with_body=method != "HEAD")
    if not whole:
        await _linger(reader, writer)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(READ_SIZE))
    if not isinstance(event, h11.Request):
        return None
    if not event.http_version.startswith(b"1."):
        raise h11.RemoteProtocolError("HTTP/1.1 required", 505)
    try:
        target = urlsplit(event.target.decode("ascii"))
    except ValueError:
        raise h11.RemoteProtocolError("invalid request target") from None
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, given = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {given}" if key in headers else given
    return Request(event.method.decode("ascii"), unquote(target.path), headers, target.query)


async def _answered(
    request: Request, answer: Callable[[Request], Awaitable[Reply]], on_error: Callable[[str], None]
) -> Reply:
    try:
        return await answer(request)
    except Exception as error:
        on_error(f"{request.path[:100]}: {class_and_reason(error)}")
        return text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log\n")


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
        for start in range(0, len(reply.body), WRITE_SIZE):
            writer.write(connection.send(h11.Data(data=reply.body[start : start + WRITE_SIZE])) or b"")
            await writer.drain()
    await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if writer.can_write_eof():
        writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(WRITE_SIZE):
                pass
