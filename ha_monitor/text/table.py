"""Tables for people: as wide as the terminal, and not a column wider.

If there is no room for all columns, the least important ones are left out, and texts are cut in those columns that
allow it. Rows are never wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ha_monitor.text.terminal import Painted
from ha_monitor.text.visible import columns, shortened

Cell = str | Painted
_GAP = "  "
_LEGIBLE = 3
"""Halves of its minimum width that a column gets, to be legible, before a less important one gets room."""


class Column(NamedTuple):
    """A column of a table."""

    header: str
    rank: int = 0
    """How unimportant it is: columns with the highest rank are left out first."""
    least: int | None = None
    """The width in terminal columns to which its texts may be cut; None if they may not be cut."""
    right: bool = False
    """Whether its texts are right-aligned, as numbers are."""
    grows_last: bool = False
    """Whether all other columns get room first, because its minimum width is enough."""


def laid_out(
    header: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    shown: Callable[[str], str],
    *,
    width: int | None = None,
    legend: bool = True,
) -> list[list[Cell]]:
    """The rows, each as parts that are to be written one after the other.

    :param shown: converts a text into what will be displayed.
    :param width: columns of the terminal; None for no limit: then all columns are there, and no text is cut.
    :param legend: whether the first row has the headers.
    """
    texts = [[shown(text_of(cell)) for cell in row] for row in rows]
    heads = [[column.header for column in header]] if legend else []
    natural = [max(map(columns, cells), default=0) for cells in zip(*heads, *texts, strict=True)] or [0] * len(header)
    used = list(range(len(header)))
    if width is not None:
        # An empty column would take room from those that are not.
        used = [number for number in used if not texts or any(row[number] for row in texts)]
    widths = _widths(header, natural, used, width)
    end = shown("…")
    painted = [*[[*line] for line in heads], *rows]
    return [_row(line, texts_of, header, widths, end) for line, texts_of in zip(painted, [*heads, *texts], strict=True)]


def _widths(header: Sequence[Column], natural: Sequence[int], used: Sequence[int], width: int | None) -> dict[int, int]:
    """The widths of the columns that have room, by number."""
    if width is None:
        return {number: natural[number] for number in used}
    least = {number: min(natural[number], header[number].least or natural[number]) for number in used}
    wanted = {
        number: least[number] if header[number].grows_last else min(natural[number], _LEGIBLE * least[number] // 2)
        for number in used
    }
    by_rank = sorted(used, key=lambda number: header[number].rank)
    # A text in a more important column is not cut to its minimum width to make room for a less important column.
    while len(by_rank) > 1:
        *others, last = by_rank
        if sum(wanted[one] for one in others) + least[last] + len(_GAP) * len(others) <= width:
            break
        by_rank.pop()
    room = width - len(_GAP) * (len(by_rank) - 1) - sum(least[one] for one in by_rank)
    found: dict[int, int] = {}
    for number in sorted(by_rank, key=lambda number: header[number].grows_last):
        more = min(natural[number] - least[number], max(0, room))
        room -= more
        found[number] = min(least[number] + more, width)
    return {number: found[number] for number in sorted(found)}


def _row(
    line: Sequence[Cell], texts: Sequence[str], header: Sequence[Column], widths: dict[int, int], end: str
) -> list[Cell]:
    parts: list[Cell] = []
    for number, width in widths.items():
        text = shortened(texts[number], width, end)
        blank = " " * (width - columns(text))
        cell = line[number]
        if parts:
            parts.append(_GAP)
        if header[number].right:
            parts.append(blank)
        parts.append(Painted(text, cell.color) if isinstance(cell, Painted) else text)
        if not header[number].right:
            parts.append(blank)
    while parts and not text_of(parts[-1]).strip():
        parts.pop()
    return parts


def unique_beginning(texts: Sequence[str], least: int) -> int:
    """How many characters distinguish all of these texts; at least `least`."""
    ordered = sorted(set(texts))
    longest = 0
    for one, other in pairwise(ordered):
        same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))
        longest = max(longest, same)
    return max(least, longest + 1)


def text_of(cell: Cell) -> str:
    return cell.text if isinstance(cell, Painted) else cell


def plain(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Rows without colours."""
    return ["".join(map(text_of, row)).rstrip() for row in rows]
