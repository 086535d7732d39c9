"""What an instance has counted for its metrics, in the form of `lua/counting.lua`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

SEPARATOR = "\x1f"
MAX_COUNT = 1 << 53
"""No count grows larger; `counting.lua` ensures that."""
SINGLE = frozenset({"l", "s", "S", "z"})
"""Kinds with one label only, which may contain anything."""


class Count(NamedTuple):
    """One number, and what it counts."""

    kind: str
    """What is counted, as `counting.lua` names it."""
    parts: list[str]
    """The label values that tell one count of a kind from another."""
    number: int


class LabelSet(NamedTuple):
    """Labels under which an instance counts events of tasks."""

    text: bytes
    """Name of the task, worker and queue, with `SEPARATOR` between."""
    added: float
    """When it was added, in ms since the epoch; each later than all before."""


class Counts:
    """Everything that an instance has counted."""

    def __init__(self, raw: Sequence[bytes] = (), label_sets: Sequence[LabelSet] = ()) -> None:
        """
        :param raw: field, number, field, number, …
        :param label_sets: the label sets of all instances.
        """
        self.raw = raw
        self.label_sets = label_sets

    def __len__(self) -> int:
        """The number of counts."""
        return len(self.raw) // 2

    def __iter__(self) -> Iterator[Count]:
        """Leaves out what cannot be read."""
        for field, number in self._pairs():
            if (count := count_in(number)) is not None:
                kind, _, values = field.decode("utf-8", "replace").partition(SEPARATOR)
                yield Count(kind, [values] if kind in SINGLE else values.split(SEPARATOR), count)

    def fields(self) -> Sequence[bytes]:
        """The names of all fields."""
        return self.raw[::2]

    def less_than(self, before: Mapping[bytes, int]) -> dict[bytes, int]:
        """Counts that are lower here than before, or missing, with their old values, by field: counts never fall."""
        found = {field: count_in(number) for field, number in self._pairs()}
        return {field: number for field, number in before.items() if number > (found.get(field) or 0)}

    def _pairs(self) -> Iterator[tuple[bytes, bytes]]:
        pairs = iter(self.raw)
        return zip(pairs, pairs, strict=False)


def count_in(raw: bytes) -> int | None:
    """A count as the store holds it; None if it is not one."""
    try:
        count = int(raw)
    except ValueError:
        return None
    return count if 0 <= count <= MAX_COUNT else None
