"""URL checks that several parts share."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

BAD_URL = "expected host:port; in a user name or password, /, #, ?, @ and : must be written as %2F, %23, %3F, %40, %3A"
"""Used because a library's own text would quote part of a password that contains a /."""
SEVERAL_URLS = (
    "expected one URL; broker.url may have several with ; between, and store.url has the sentinels of one Redis as "
    "sentinel://host:26379,host:26379/service/db"
)
BAD_HOST = "expected the name or the address of a host, of at most 63 characters between two dots"
BAD_PORT = "expected a port from 1 to 65535 after the host"
BAD_DATABASE = "expected a number as the database after the host, such as redis://host:6379/0"
_DATABASE = re.compile(r"/?|/\d{1,9}/?", re.ASCII)
_SECOND = re.compile(r"[;,]\s*[a-z]+://")
_USER_IN_QUERY = re.compile(r"[^=]*@")
_REDIS = ("redis://", "rediss://", "sentinel://")
_AMQP = ("amqp://", "amqps://", "pyamqp://")


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def address_of(url: str) -> str:
    """Host, port and path of a URL: the part that may be logged."""
    rest = url.partition("://")[2]
    return rest.rpartition("@")[2].partition("?")[0]


def problem_of(url: str) -> str:
    """What is wrong with the host, the port or the database of a RabbitMQ or Redis URL; empty if nothing is.

    An invalid port, or a database that is not a number, would cause an error at the first connection, or silently stand
    for another one. Other URLs, such as those of Unix sockets and of other result backends, are not checked.

    :param url: a `sentinel://` URL in kombu's form, with `;` between the sentinels.
    """
    for part in url.split(";") if url.startswith("sentinel://") else [url]:
        if not part.startswith(_REDIS + _AMQP):
            continue
        if _SECOND.search(part):
            return SEVERAL_URLS
        try:
            split = urlsplit(part)
            port = split.port
            if _has_unescaped_user(split):
                raise ValueError(part)
        except ValueError as error:
            return BAD_PORT if "out of range" in str(error) else BAD_URL
        if port == 0:
            return BAD_PORT
        if not can_be_host(split.hostname or ""):
            return BAD_HOST
        if part.startswith(_REDIS) and not _DATABASE.fullmatch(split.path):
            return BAD_DATABASE
    return ""


def http_problem_of(url: str) -> str:
    """The same of a URL of HTTP, which would fail at each request."""
    try:
        split = urlsplit(url)
    except ValueError:
        return BAD_HOST
    try:
        port = split.port
    except ValueError:
        return BAD_PORT
    if not split.hostname or not can_be_host(split.hostname):
        return BAD_HOST
    return BAD_PORT if port == 0 else ""


def _has_unescaped_user(parts: SplitResult) -> bool:
    """Whether a `/`, `?` or `#` in a password has cut off what was meant as user name, password and host."""
    if parts.fragment or "@" in parts.path:
        return True
    return "@" not in parts.netloc and _USER_IN_QUERY.match(parts.query) is not None


def can_be_host(name: str) -> bool:
    """Whether a name can be looked up: for others Python raises errors that libraries do not expect."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
