"""URL checks that several parts share."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

BAD_DATABASE = "expected a number as the database after the host, such as redis://host:6379/0"
_DATABASE = re.compile(r"/?|/\d{1,9}/?", re.ASCII)


def names_database(url: str) -> bool:
    """Whether there is a number, or nothing, where a Redis URL has the database: all else ends in an error at the first
    connection, or passes for 0. URLs of other kinds are not looked at.

    :param url: `redis://…`, `rediss://…`, or `sentinel://…;sentinel://…` as kombu has it.
    """
    if not url.startswith(("redis://", "rediss://", "sentinel://")):
        return True
    parts = url.split(";") if url.startswith("sentinel://") else [url]
    try:
        return all(_DATABASE.fullmatch(urlsplit(part).path) for part in parts)
    except ValueError:
        return True  # not a URL, which is reported elsewhere
