"""Why a service cannot be reached, or does not answer.

Libraries say which call failed, but not which setting is wrong. `_ROWS` lists all causes that are distinguished; the
first row that matches is used.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import hiredis
import redis.exceptions

from ha_monitor.causes.redis import refusal_of
from ha_monitor.causes.service import Cause, Service, plain_text, undecorated

_UNKNOWN_HOST = "|".join(
    str(number) for number in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
)
_OTHER_PROTOCOL = (redis.exceptions.InvalidResponse, redis.exceptions.ConnectionError, hiredis.ProtocolError)
_CLOSED = (ConnectionError, redis.exceptions.ConnectionError, OSError)


class _Row(NamedTuple):
    """One cause."""

    kinds: type[BaseException] | tuple[type[BaseException], ...] | str
    """Exceptions that may have this cause; the class name if the exception's library may not be loaded."""
    words: str
    """A regular expression that must match their text."""
    text: str
    """A template: `why` is the library's own text, `service` is what was called."""
    lasting: bool = False
    connecting: bool = False
    """Whether this is the cause only while connecting."""
    by_tls: bool | None = None
    """Whether this is the cause only with TLS (True) or only without (False)."""


_ROWS = (
    _Row(
        ssl.SSLCertVerificationError,
        r"mismatch|not valid for",
        "{why}: name the host in {service.setting} as its certificate does",
        lasting=True,
    ),
    _Row(
        ssl.SSLCertVerificationError,
        r"expired|not yet valid",
        "{why}: renew it, unless a clock is wrong",
        lasting=True,
    ),
    _Row(
        ssl.SSLCertVerificationError,
        "",
        "{why}: nobody trusted here signed it; set {ca} to the file with the certificate of its authority",
        lasting=True,
    ),
    _Row(
        ssl.SSLError,
        r"(?i)CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|UNKNOWN_CA|(?:BAD|UNKNOWN|UNSUPPORTED)_CERTIFICATE|CERTIFICATE_UNK",
        "the other side wants a certificate of this one, or does not accept it ({why}): set {cert} and {key}",
        lasting=True,
    ),
    _Row(
        ssl.SSLError,
        r"(?i)WRONG.VERSION|RECORD.LAYER|HTTP.REQUEST|PACKET.LENGTH|UNKNOWN.PROTOCOL|UNEXPECTED_MESSAGE",
        "what answers there does not speak TLS ({why}): correct the port in {service.setting}, or use "
        "{service.without_tls}",
        lasting=True,
    ),
    _Row(
        socket.gaierror,
        rf"\[Errno (?:{_UNKNOWN_HOST})\]",
        "the name of this host cannot be resolved ({why}): correct {service.setting}",
        lasting=True,
    ),
    _Row(
        _OTHER_PROTOCOL,
        r'(?i)protocol error.*"A"',
        "RabbitMQ answers there, not Redis: correct {service.setting}",
        lasting=True,
    ),
    _Row(
        _OTHER_PROTOCOL,
        r"(?i)protocol error.*\\x1[4-7]",
        "what answers there speaks TLS: use {service.with_tls}",
        lasting=True,
    ),
    _Row(
        _OTHER_PROTOCOL,
        "(?i)protocol error",
        "what answers there is no Redis ({why}): correct {service.setting}",
        lasting=True,
    ),
    _Row(
        "amqp.exceptions.UnexpectedFrame",
        "",
        "what answers there is no RabbitMQ ({why}): correct {service.setting}",
        lasting=True,
        connecting=True,
    ),
    _Row(
        "redis.sentinel.MasterNotFoundError",
        "",
        "the sentinels name no primary: they do not answer, know it by another name than the one in {service.setting} "
        "or master_name, or it is down",
    ),
    _Row(
        (TimeoutError, redis.exceptions.TimeoutError),
        "",
        "no answer{within}: it hangs, the network drops what is sent, or the port in {service.setting} is not one for "
        "{service.scheme}://",
        connecting=True,
    ),
    _Row((TimeoutError, redis.exceptions.TimeoutError), "", "no answer{within}"),
    _Row(
        _CLOSED,
        r"(?i)closed|reset by peer|broken pipe|EOF",
        "{why}, right after connecting: the port in {service.setting} may be one without TLS; then use "
        "{service.without_tls}",
        connecting=True,
        by_tls=True,
    ),
    _Row(
        _CLOSED,
        r"(?i)closed|reset by peer|broken pipe|EOF",
        "{why}, right after connecting: the port in {service.setting} may be one for TLS; then use {service.with_tls}",
        connecting=True,
        by_tls=False,
    ),
)


def cause_of(error: BaseException, service: Service, *, connecting: bool = False) -> Cause:
    """Why a call failed.

    :param service: the service that was called.
    :param connecting: whether the connection was being established.
    """
    chain = list(_chain(error))
    is_about_files = any(
        isinstance(one, ssl.SSLError | FileNotFoundError | PermissionError | IsADirectoryError) for one in chain
    )
    if service.uses_tls and is_about_files and (fault := service.faulty_file()):
        return Cause(fault, lasting=True)
    for row in _ROWS:
        if (row.connecting and not connecting) or (row.by_tls is not None and row.by_tls is not service.uses_tls):
            continue
        for one in chain:
            if _is_of(one, row.kinds) and re.search(row.words, str(one)):
                return Cause(_filled(row.text, one, service), row.lasting)
    # A library's own text repeats the address, which the caller adds as well.
    system = next((one for one in chain if isinstance(one, OSError) and one.strerror), None)
    return Cause(undecorated(system)) if system else refusal_of(error, service.setting)


def _is_of(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...] | str) -> bool:
    if isinstance(kinds, str):
        return kinds in {f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__}
    return isinstance(error, kinds)


def _filled(text: str, error: BaseException, service: Service) -> str:
    system = isinstance(error, OSError) and error.strerror
    setting = f" ({service.timeout})" if service.timeout else ""
    return text.format(
        why=undecorated(error) if system else plain_text(error).rstrip("."),
        service=service,
        within=f" within {service.seconds:g} s{setting}" if service.seconds else "",
        ca=service.name_of("ca_certs"),
        cert=service.name_of("certfile"),
        key=service.name_of("keyfile"),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and the errors that it was raised from: libraries raise errors of their own, with the socket's error as
    the context.
    """
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
