"""Clients that take their time, each in another way."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

Connect = Callable[[int], socket.socket]
HEAD = b"GET /metrics HTTP/1.1\r\nHost: here\r\n"


def silent(port: int) -> socket.socket:
    """Connects, and says nothing."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def half_head(port: int) -> socket.socket:
    """Says half of what it wants."""
    client = silent(port)
    client.sendall(HEAD + b"X-Slow: ")
    return client


def does_not_read(port: int) -> socket.socket:
    """Wants the metrics, and does not read them; its window is as small as can be."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.sendall(HEAD + b"\r\n")
    return client


def stays(port: int) -> socket.socket:
    """Has its answer, and wants to keep the connection."""
    client = silent(port)
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: keep-alive\r\n\r\n")
    return client


def half_hello(port: int) -> socket.socket:
    """Begins a TLS handshake, and goes no further."""
    client = silent(port)
    client.sendall(bytes.fromhex("160301020001"))
    return client


def without_finish(port: int) -> socket.socket:
    """Sends a whole ClientHello, and does not answer the server's."""
    client = silent(port)
    client.sendall(client_hello())
    return client


@cache
def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="here").do_handshake()
    return outgoing.read()


def over_tls(connect: Connect, ca: Path) -> Connect:
    """The same client inside of TLS: only for those that send before they are slow."""

    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False

    def connected(port: int) -> socket.socket:
        client = context.wrap_socket(silent(port), server_hostname="127.0.0.1")
        client.sendall(HEAD + (b"\r\n" if connect is does_not_read else b"X-Slow: "))
        return client

    return connected


@contextmanager
def many(connect: Connect, port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many of them; some may be thrown out while others come."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                clients.append(stack.enter_context(connect(port)))
        yield clients


def is_over(client: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    client.setblocking(False)
    try:
        return not client.recv(65536)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
