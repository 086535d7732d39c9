"""The result: one row a figure, with what it must and what it should be."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One figure."""

    what: str
    measured: str
    must: str = ""
    aim: str = ""
    good: bool = True
    """Whether the must is met."""


def render(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | measured | must | aim | |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = ("ok" if row.good else "**missed**") if row.must else ""
        lines.append(f"| {row.what} | {row.measured} | {row.must} | {row.aim} | {verdict} |")
    return "\n".join(lines)
