"""The address of the page of a worker, queue, task, name, schedule or error group."""

from __future__ import annotations

from urllib.parse import quote

NAME_PARAMETER = "called"
"""The query parameter that carries the name when a path cannot."""
_STEPS = frozenset(["", ".", ".."])


def fits_path(name: str) -> bool:
    """Whether a name may stand in a path. Browsers and proxies resolve `.` and `..`, even percent-encoded, and drop
    empty segments.
    """
    return _STEPS.isdisjoint(name.split("/"))


def address_of(noun: str, name: str) -> str:
    """The path below the pages' address, with a query if the name must be in it: `queues/mail`, `queues/?called=..`.

    :param name: unquoted; a lone surrogate becomes a question mark.
    """
    quoted = quote(name, safe="", errors="replace")
    return f"{noun}/{quoted}" if fits_path(name) else f"{noun}/?{NAME_PARAMETER}={quoted}"
