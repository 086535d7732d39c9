"""What an instance has counted for its metrics, as `lua/counting.lua` keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

SEPARATOR = "\x1f"
MOST_COUNT = 1 << 53
"""No count grows larger, as `counting.lua` sees to."""
SINGLE = frozenset({"l", "s", "S", "z"})
"""Kinds with one value only, which may contain anything."""


class Count(NamedTuple):
    """One number, and what it is about."""

    kind: str
    """What is counted, as `counting.lua` names it."""
    parts: list[str]
    """The values that tell one count of a kind from another."""
    number: int


class Counts:
    """All that an instance has counted. They are read when somebody asks, not by the loop."""

    def __init__(self, raw: Sequence[bytes] = ()) -> None:
        """:param raw: field, number, field, number, …"""
        self._raw = raw

    def __len__(self) -> int:
        """How many there are."""
        return len(self._raw) // 2

    def __iter__(self) -> Iterator[Count]:
        """What cannot be read is left out."""
        for field, number in self._pairs():
            if (count := _number(number)) is not None:
                kind, _, values = field.decode("utf-8", "replace").partition(SEPARATOR)
                yield Count(kind, [values] if kind in SINGLE else values.split(SEPARATOR), count)

    def fallen_in(self, later: Counts) -> dict[bytes, int]:
        """What is less in later counts, or missing, as it is here, by field; they never fall by themselves."""
        found = {field: _number(number) for field, number in later._pairs()}
        before = ((field, _number(number)) for field, number in self._pairs())
        return {field: number for field, number in before if number and number > (found.get(field) or 0)}

    def of_label(self, value: str) -> int:
        """The sum of all counts of which one of the values, but not the last, is the given one."""
        mark = f"{SEPARATOR}{value}{SEPARATOR}".encode()
        return sum(_number(number) or 0 for field, number in self._pairs() if mark in field)

    def _pairs(self) -> Iterator[tuple[bytes, bytes]]:
        pairs = iter(self._raw)
        return zip(pairs, pairs, strict=False)


def _number(raw: bytes) -> int | None:
    """A count as the store keeps it; None if it is none."""
    try:
        count = int(raw)
    except ValueError:
        return None
    return count if 0 <= count <= MOST_COUNT else None
