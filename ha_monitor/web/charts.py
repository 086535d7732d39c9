"""Charts as geometry for the templates: without styles, because the pages allow no inline styles.

A chart is as wide as its page: its panels are stretched, but its texts keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from ha_monitor.web.formatting import count, duration

WIDTH, HEIGHT = 110.0, 20.0
"""Size of a sparkline."""
PANEL, GAP, TOP = 84, 34, 20
"""Heights in a chart, in pixels."""
Values = Sequence[float | None]
_TICKS = (300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MAX_TICKS = 6
_DURATIONS = (
    *(base * 10**power for power in range(-3, 1) for base in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400),
)


class Line(NamedTuple):
    """A line in a panel, in pieces: unknown values leave gaps."""

    name: str
    upper: bool
    """Whether it is the one to set off by dashes and colour."""
    pieces: list[str]
    """The points of each piece."""


class Panel(NamedTuple):
    """One set of values over time."""

    name: str
    top: int
    ticks: list[tuple[float, str]]
    """Positions in pixels below the top of the chart, and their labels."""
    bars: str = ""
    """An SVG path."""
    bad_bars: str = ""
    lines: Sequence[Line] = ()


class Chart(NamedTuple):
    """Panels one below the other, over the same period."""

    height: int
    steps: int
    panels: list[Panel]
    ticks: list[tuple[str, str]]
    """Horizontal positions in percent, and the times there."""
    bottom: int


class Row(NamedTuple):
    """What a panel is to show."""

    name: str
    lines: Sequence[tuple[str, Values]] = ()
    """Names and values; the second line is set off."""
    bars: Values = ()
    bad_bars: Values = ()
    """The part of the bars that is drawn over their feet."""
    form: Callable[[float | None], str] = count


def sparkline(values: Values) -> str:
    """The points of a line from left to right, 0 at the bottom; empty if all values are unknown or 0."""
    known = [value or 0.0 for value in values]
    most = max(known, default=0.0)
    if most <= 0 or len(known) < 2:
        return ""
    step = WIDTH / (len(known) - 1)
    return " ".join(
        f"{_short(at * step)},{_short(HEIGHT - 1 - value / most * (HEIGHT - 2))}" for at, value in enumerate(known)
    )


def chart(rows: Sequence[Row], bounds: Sequence[float]) -> Chart:
    """
    :param bounds: where the steps begin, and where the last one ends: seconds since the epoch.
    """
    steps = len(bounds) - 1
    panels = [_panel(row, TOP + number * (PANEL + GAP)) for number, row in enumerate(rows)]
    bottom = TOP + len(rows) * (PANEL + GAP) - GAP
    return Chart(bottom + 22, steps, panels, _times(bounds), bottom)


def _panel(row: Row, top: int) -> Panel:
    values = [value for _, line in row.lines for value in line if value] + [value for value in row.bars if value]
    most = _nice(max(values, default=0.0), is_duration=row.form is duration)
    ticks = [(top + PANEL * (1 - part), row.form(most * part) if part else "0") for part in (0.0, 1.0)]
    lines = [Line(name, bool(number), _pieces(line, most)) for number, (name, line) in enumerate(row.lines)]
    return Panel(row.name, top, ticks, _bars(row.bars, most), _bars(row.bad_bars, most), lines)


def _bars(values: Values, most: float) -> str:
    heights = [(at, 100 * min(value, most) / most) for at, value in enumerate(values) if value]
    return "".join(f"M{at}.1 100v-{_short(max(height, 1.0))}h.8V100z" for at, height in heights)


def _pieces(values: Values, most: float) -> list[str]:
    points = [(at, value) for at, value in enumerate(values)]
    pieces = []
    for is_known, group in groupby(points, key=lambda one: one[1] is not None):
        if is_known:
            known = [(at, 100 - 100 * min(value or 0.0, most) / most) for at, value in group]
            # A single point would be no line.
            found = [
                (known[0][0] + 0.1, known[0][1]),
                *((at + 0.5, y) for at, y in known),
                (known[-1][0] + 0.9, known[-1][1]),
            ]
            pieces.append(" ".join(f"{_short(x)},{_short(y)}" for x, y in found))
    return pieces


def _nice(most: float, *, is_duration: bool) -> float:
    """A round number that is not smaller."""
    if most <= 0:
        return 1.0
    if is_duration and most <= _DURATIONS[-1]:
        return float(next(one for one in _DURATIONS if one >= most * 0.9999))
    size = 1.0
    while size < most:
        for step in (1, 2, 5):
            if size * step >= most:
                return size * step
        size *= 10
    return size


def _times(bounds: Sequence[float]) -> list[tuple[str, str]]:
    first, last = bounds[0], bounds[-1]
    every = next((one for one in _TICKS if (last - first) / one <= _MAX_TICKS), 86400)
    start = int(first // every + 1) * every
    form = "%H:%M" if every < 86400 and last - first <= 90000 else "%a %H:%M"
    found = []
    for at in range(start, int(last) + 1, every):
        share = 100 * (at - first) / (last - first)
        # The edges have no room for a label.
        if 3 <= share <= 96:
            found.append((f"{share:.2f}%", datetime.fromtimestamp(at, UTC).strftime(form)))
    return found


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
