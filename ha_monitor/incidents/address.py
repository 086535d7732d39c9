"""The address of the page of one worker, queue, task, name, schedule or group of errors."""

from __future__ import annotations

from urllib.parse import quote

NAMED = "called"
"""The parameter that has the name where a path cannot have it."""
_STEPS = frozenset(["", ".", ".."])


def fits_path(name: str) -> bool:
    """Whether a name may stand in a path. Browsers and proxies resolve `.` and `..`, also if they are encoded, and drop
    what is empty.
    """
    return _STEPS.isdisjoint(name.split("/"))


def address_of(noun: str, name: str) -> str:
    """The path below the pages, and the query if the name must be in it: `queues/mail`, `queues/?called=..`.

    :param name: as it is; a lone surrogate becomes a question mark.
    """
    quoted = quote(name, safe="", errors="replace")
    return f"{noun}/{quoted}" if fits_path(name) else f"{noun}/?{NAMED}={quoted}"
