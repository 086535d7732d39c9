"""URL checks that several parts share."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

BAD_URL = "expected host:port; in a user name or password, /, #, ?, @ and : must be written as %2F, %23, %3F, %40, %3A"
"""A library's own text would quote a piece of a password with a / in it."""
BAD_HOST = "expected the name or the address of a host, of at most 63 characters between two dots"
BAD_PORT = "expected a port from 1 to 65535 after the host"
BAD_DATABASE = "expected a number as the database after the host, such as redis://host:6379/0"
_DATABASE = re.compile(r"/?|/\d{1,9}/?", re.ASCII)
_REDIS = ("redis://", "rediss://", "sentinel://")
_AMQP = ("amqp://", "amqps://", "pyamqp://")


def problem_of(url: str) -> str:
    """What is wrong with the host, the port or the database of a URL of RabbitMQ or Redis; empty if nothing is.

    A port that is none, and a database that is no number, would end in an error at the first connection, or pass for
    another one. URLs of other kinds, such as those of Unix sockets and of other result backends, are not looked at.

    :param url: a `sentinel://` as kombu has it, with `;` between the sentinels.
    """
    for part in url.split(";") if url.startswith("sentinel://") else [url]:
        if not part.startswith(_REDIS + _AMQP):
            continue
        try:
            split = urlsplit(part)
            port = split.port
        except ValueError as error:
            return BAD_PORT if "out of range" in str(error) else BAD_URL
        if port == 0:
            return BAD_PORT
        if not can_be_host(split.hostname or ""):
            return BAD_HOST
        if part.startswith(_REDIS) and not _DATABASE.fullmatch(split.path):
            return BAD_DATABASE
    return ""


def can_be_host(name: str) -> bool:
    """Whether a name could be looked up: Python raises for others what libraries do not expect."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
