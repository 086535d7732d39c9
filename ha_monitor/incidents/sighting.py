"""What a rule sees, and how it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from ha_monitor.text.visible import visible


class Sighting(NamedTuple):
    """Something that is wrong now. Times are in seconds since the epoch."""

    kind: str
    """A name from the catalogue."""
    key: str
    summary: str
    """Does not say how long ago anything was, because then it would differ at each look."""
    size: int = 1
    since: float | None = None
    """When it began, if that is known."""
    facts: Mapping[str, str | int | float | None] = {}
    command: str = ""
    workers: frozenset[str] = frozenset()
    """The workers that its tasks were on, if all of them are known; otherwise empty."""
    schedules: frozenset[str] = frozenset()
    """The schedules that it is about."""
    members: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    is_ending: bool = False
    """It is no longer wrong: only the summary and the facts of an open incident are updated."""


def count_of(number: int, one: str, several: str = "") -> str:
    """`1 task`, `1,204 tasks`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def names_of(names: Sequence[str], most: int = 2) -> str:
    """Some names, and the number of the others."""
    if len(names) <= most + 1:
        shown = list(map(visible, names))
        return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return f"{', '.join(map(visible, names[:most]))} and {len(names) - most:,} more"


def command_of(*words: str) -> str:
    """A command that a person can copy, whatever characters its words contain. In a word that is a pattern, the caller
    escapes names with `quoted`.
    """
    return " ".join(["ha-monitor", *(quote(visible(word)) for word in words)])
