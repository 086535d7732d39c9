"""One HTTP request, bounded in every way: total time and length of the answer are limited. Redirects are not followed,
and certificates are verified.
"""

from __future__ import annotations

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from ha_monitor.errors import reason_of
from ha_monitor.notify.channel import Deadline, LoginRefused, Refused, TryAgain
from ha_monitor.text.grammar import HIDDEN
from ha_monitor.version import __version__

MAX_ANSWER = 64 * 1024
"""Bytes of the answer's body that are read."""
MAX_SHOWN = 200
"""Characters of the body that an error shows."""
_RETRY_STATUSES = (408, 425, 429)
_SECRET_PIECES = re.compile(r"[^/?&=]{8,}"), re.compile(r"[A-Za-z0-9_-]{8,}")
"""Pieces of a URL that may be secret. A server may write what is between them differently."""
_RECEIVE_SIZE = 16 * 1024


class Login(NamedTuple):
    """Credentials for HTTP basic authentication."""

    username: str
    password: str


class Answer(NamedTuple):
    """The answer of a service."""

    status: int
    body: bytes


def request(
    method: str,
    url: str,
    deadline: Deadline,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    login: Login | None = None,
) -> Answer:
    """Make a request, and require that it succeeds.

    :param url: a valid http or https URL.
    :raises TryAgain: if the service cannot be reached, or says that it cannot answer now.
    :raises LoginRefused: for status 401.
    :raises Refused: if the service rejects the request, or redirects it.
    """
    parts = urlsplit(url)
    place = place_of(url)
    sent = [("Host", _host(parts)), ("User-Agent", f"ha-monitor/{__version__}"), ("Connection", "close")]
    if body or method != "GET":
        sent += [("Content-Length", str(len(body))), ("Content-Type", "application/json")]
    if login is not None:
        token = b64encode(f"{login.username}:{login.password}".encode()).decode()
        sent.append(("Authorization", f"Basic {token}"))
    sent += list((headers or {}).items())
    target = _target(parts)
    with connected(url, deadline) as connection, _translated(place, maybe_taken=True):
        protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
        data = protocol.send(h11.Request(method=method, target=target, headers=sent)) or b""
        if body:
            data += protocol.send(h11.Data(data=body)) or b""
        data += protocol.send(h11.EndOfMessage()) or b""
        connection.settimeout(deadline.left(f"{place}: no answer"))
        connection.sendall(data)
        answer = _answer(protocol, connection, deadline, place)
    return _require_success(answer, url)


@contextmanager
def connected(url: str, deadline: Deadline) -> Iterator[socket.socket]:
    """A connection to the host of a URL, with TLS if the scheme is https.

    :raises TryAgain: if it cannot be established.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    place = place_of(url)
    with _translated(place):
        connection = open_socket(parts.hostname or "", parts.port or (443 if secure else 80), deadline, place)
    try:
        if secure:
            with _translated(place):
                connection.settimeout(deadline.left(f"{place}: no answer"))
                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
        yield connection
    finally:
        with suppress(OSError):
            connection.close()


def open_socket(host: str, port: int, deadline: Deadline, place: str) -> socket.socket:
    """A connection to the first address of a host that accepts one. :raises OSError: if none does."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.left(f"{place}: no answer"))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except TryAgain:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError("the name has no address")


def place_of(url: str) -> str:
    """Scheme and host of a URL; the rest of it may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{_host(parts)}"


def without_url_secrets(url: str, text: str) -> str:
    """A service's answer without the parts of the URL that may be secret: its path and query, and all of their pieces
    of 8 characters or more. Many servers name the path that they do not know.
    """
    target = _target(urlsplit(url))
    whole = {target, target.replace("/", r"\/")}
    pieces = {piece for one in (target, unquote(target)) for known in _SECRET_PIECES for piece in known.findall(one)}
    secret = sorted(pieces | (whole if target != "/" else set()), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, secret)), HIDDEN, text, flags=re.IGNORECASE) if secret else text


def socket_error_text(error: Exception) -> str:
    """The text of a socket error, without its number."""
    text = error.strerror if isinstance(error, OSError) else None
    return reason_of(ValueError(text)) if text else reason_of(error)


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@contextmanager
def _translated(place: str, *, maybe_taken: bool = False) -> Iterator[None]:
    """Translates the errors of sockets, TLS and HTTP into the program's own."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise TryAgain(f"{place}: its certificate cannot be trusted: {error.verify_message}") from None
    except h11.LocalProtocolError as error:
        raise Refused(f"{place}: the request cannot be made: {reason_of(error)}") from None
    except h11.RemoteProtocolError as error:
        raise TryAgain(f"{place}: the answer is not HTTP: {reason_of(error)}", maybe_taken=maybe_taken) from None
    except TimeoutError:
        raise TryAgain(f"{place}: no answer in time", maybe_taken=maybe_taken) from None
    except (OSError, ValueError) as error:
        raise TryAgain(f"{place}: {socket_error_text(error)}", maybe_taken=maybe_taken) from None


def _answer(protocol: h11.Connection, connection: socket.socket, deadline: Deadline, place: str) -> Answer:
    status, body = 0, b""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            connection.settimeout(deadline.left(f"{place}: no whole answer", maybe_taken=True))
            try:
                protocol.receive_data(connection.recv(_RECEIVE_SIZE))
            except ssl.SSLEOFError:
                protocol.receive_data(b"")
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER:
                return Answer(status, body[:MAX_ANSWER])
        elif not isinstance(event, h11.InformationalResponse):
            return Answer(status, body)


def _require_success(answer: Answer, url: str) -> Answer:
    """Raises `NotDelivered` as `request` says."""
    status, place = answer.status, place_of(url)
    if 200 <= status < 300:
        return answer
    if 300 <= status < 400:
        raise Refused(f"{place}: it answers {status}, a redirect, which is not followed: configure the final URL")
    # Before it is truncated: a piece of a secret would not be found.
    said = without_url_secrets(url, answer.body.decode("utf-8", "replace"))
    said = reason_of(ValueError(said), MAX_SHOWN) if said else ""
    text = f"{place}: it answers {status}{f': {said}' if said else ''}"
    if status in _RETRY_STATUSES or status >= 500:
        raise TryAgain(text, is_answer=True)
    raise LoginRefused(text) if status == HTTPStatus.UNAUTHORIZED else Refused(text)
