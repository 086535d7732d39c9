"""What a rule sees, and how it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from ha_monitor.text.visible import visible


class Sighting(NamedTuple):
    """Something is wrong now. Times are in seconds since the epoch."""

    kind: str
    """A name of the catalogue."""
    key: str
    summary: str
    """Without how long ago anything was: that would be another text at each look."""
    size: int = 1
    since: float | None = None
    """When it began, if that is known."""
    facts: Mapping[str, str | int | float | None] = {}
    command: str = ""
    workers: frozenset[str] = frozenset()
    """Those that its tasks were on, if that is all of them; nothing if it is not known."""
    schedules: frozenset[str] = frozenset()
    """What it is about of these."""
    members: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    is_ending: bool = False
    """It is not wrong any more: only the sentence and the facts of an open incident become those of now."""


def count_of(number: int, one: str, several: str = "") -> str:
    """`1 task`, `1,204 tasks`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def names_of(names: Sequence[str], most: int = 2) -> str:
    """Some names, and how many more there are."""
    if len(names) <= most + 1:
        shown = list(map(visible, names))
        return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return f"{', '.join(map(visible, names[:most]))} and {len(names) - most:,} more"


def command_of(*words: str) -> str:
    """A command that a person can copy, whatever is in its words."""
    return " ".join(["ha-monitor", *(quote(visible(word)) for word in words)])
