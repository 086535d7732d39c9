"""The shipped dashboards: their queries, and a picture of them with the data of a real Prometheus.

Grafana itself draws it better, but is not in Debian. The picture has each panel where Grafana puts it, with its query's
real result.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.prometheus import PrivatePrometheus, Series

FOLDER = Path(__file__).resolve().parents[2] / "packaging/grafana"
DASHBOARDS = tuple(FOLDER / f"ha-monitor{part}.json" for part in ("", "-tasks", "-workers"))
"""The overview, by task, and by worker and queue."""
WIDTH, COLUMN, ROW, GAP = 1200, 50, 34, 6
"""Pixels. Grafana's grid has 24 columns."""
COLORS = ("#56a64b", "#3274d9", "#e0b400", "#e02f44", "#a352cc", "#ff780a", "#37872d", "#1f60c4", "#c4162a")
STYLE = """
text { font-family: 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif; font-size: 11px; fill: #52545c }
.panel { fill: #fff; stroke: #dfe1e6 } .title { font-size: 13px; font-weight: 600; fill: #24292e }
.row { font-size: 15px; font-weight: 600; fill: #24292e } .value { font-size: 34px; font-weight: 600; fill: #37872d }
.grid { stroke: #eceef2 } .line { fill: none; stroke-width: 1.6; stroke-linejoin: round } .head { font-weight: 600 }
"""


class Window(NamedTuple):
    """The time that is shown."""

    start: float
    end: float
    """Seconds since the epoch."""
    step: float
    """Seconds between two points."""


class Box(NamedTuple):
    """Where in its panel something is drawn, in pixels."""

    left: float
    right: float
    top: float
    bottom: float


def panels() -> list[dict[str, Any]]:
    """All panels and the headings of the rows, in the order of the files, one dashboard below the other."""
    found: list[dict[str, Any]] = []
    for file in DASHBOARDS:
        below = max((panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found), default=0)
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            found.append({**panel, "gridPos": {**panel["gridPos"], "y": panel["gridPos"]["y"] + below}})
    return found


def variables() -> Iterator[tuple[str, str, str]]:
    """Name, selector and label of every variable that Grafana fills with `label_values(selector, label)`; the overview
    has all of them."""
    for variable in json.loads(DASHBOARDS[0].read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found is not None, variable
            yield variable["name"], found[1], found[2]


def all_chosen() -> dict[str, str]:
    """The value of each variable if all is chosen."""
    return {f"${name}": ".*" for name, _, _ in variables()}


def marks() -> Iterator[tuple[str, str]]:
    """Name and expression of each kind of mark on all panels; they are the same on each dashboard."""
    for one in json.loads(DASHBOARDS[0].read_text(encoding="utf-8"))["annotations"]["list"]:
        yield one["name"], one["expr"]


def filled(expression: str, values: Mapping[str, str]) -> str:
    """An expression as Grafana sends it, with its variables' values."""
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def picture(prometheus: PrivatePrometheus, window: Window, values: Mapping[str, str]) -> str:
    """The dashboards as an SVG file."""
    found = panels()
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found) * ROW + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#f4f5f8"/>',
    ]
    for panel in found:
        parts += _Drawing(panel, prometheus, window, values).draw()
    return "\n".join([*parts, "</svg>\n"])


class _Drawing:
    """One panel."""

    def __init__(
        self, panel: dict[str, Any], prometheus: PrivatePrometheus, window: Window, values: Mapping[str, str]
    ) -> None:
        place = panel["gridPos"]
        self._panel, self._prometheus, self._window, self._values = panel, prometheus, window, values
        self._x, self._y = place["x"] * COLUMN + GAP / 2, place["y"] * ROW + GAP / 2
        self._width, self._height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        self._unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")

    def draw(self) -> list[str]:
        if self._panel["type"] == "row":
            return [self._text(8, 20, self._panel["title"], "row")]
        frame = (
            f'<rect class="panel" x="{self._x}" y="{self._y}" width="{self._width}" height="{self._height}" rx="3"/>'
        )
        title = self._text(10, 19, self._panel["title"], "title")
        return [frame, title, *{"stat": self._stat, "table": self._table}.get(self._panel["type"], self._lines)()]

    def _results(self) -> list[tuple[str, Series]]:
        """Legend and series of every query."""
        results = []
        for target in self._panel["targets"]:
            expression = filled(target["expr"], self._values)
            for labels, points in self._prometheus.query_range(expression, *self._window):
                legend = re.sub(r"\{\{(\w+)\}\}", partial(_label, labels), target["legendFormat"])
                results.append((legend, (labels, [point for point in points if point[1] == point[1]])))
        return results

    def _stat(self) -> list[str]:
        results = self._results()
        if not results or not results[0][1][1]:
            return [self._text(10, 60, "No data")]
        points = results[0][1][1]
        box = Box(10, self._width - 10, self._height * 0.66, self._height - 6)
        spark = self._path(points, max(value for _, value in points) or 1.0, box)
        middle = self._width / 2
        return [
            f'<path class="line" d="{spark}" stroke="{COLORS[0]}" opacity="0.5"/>',
            self._text(middle, self._height * 0.56, shown(points[-1][1], self._unit), "value", anchor="middle"),
        ]

    def _table(self) -> list[str]:
        units = {
            override["matcher"]["options"]: one["value"]
            for override in self._panel["fieldConfig"]["overrides"]
            for one in override["properties"]
            if one["id"] == "unit"
        }
        columns = [target["legendFormat"] or "value" for target in self._panel["targets"]]
        cells: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        for column, target in zip(columns, self._panel["targets"], strict=True):
            for labels, value in self._prometheus.query(filled(target["expr"], self._values)):
                key = tuple(sorted((name, label) for name, label in labels.items() if name not in {"__name__", "job"}))
                if not math.isnan(value):
                    cells.setdefault(key, {})[column] = shown(value, units[column]) if column in units else f"{value:g}"
        if not cells:
            return [self._text(10, 60, "No data")]
        names = sorted({name for key in cells for name, _ in key})
        rows = [
            [*(dict(key).get(name, "") for name in names), *(values.get(column, "") for column in columns)]
            for key, values in cells.items()
        ]
        table = [[*names, *columns], *sorted(rows)]
        widest = [max(len(row[at]) for row in table) + 3 for at in range(len(table[0]))]
        character = min(9.0, (self._width - 20) / sum(widest))
        parts = []
        for number, row in enumerate(table):
            for at, cell in enumerate(row):
                x = 12 + character * sum(widest[:at])
                parts.append(self._text(x, 46 + 20 * number, cell, "head" if number == 0 else ""))
        return parts

    def _lines(self) -> list[str]:
        results = [result for result in self._results() if result[1][1]]
        if not results:
            return [self._text(10, 60, "No data")]
        legends = len(results)
        rows = -(-legends // 2)
        box = left, right, top, bottom = Box(52, self._width - 14, 34, self._height - 34 - 15 * rows)
        highest = nice(max(value for _, (_, points) in results for _, value in points))
        parts = []
        for part in (0, 0.5, 1):
            y = bottom - (bottom - top) * part
            parts.append(self._line(left, y, right, y))
            parts.append(self._text(left - 6, y + 4, shown(highest * part, self._unit), anchor="end"))
        minutes = (self._window.end - self._window.start) / 60
        for minute in range(int(minutes) + 1):
            x = left + (right - left) * minute / minutes
            label = f"{minute} min" if minute in (0, int(minutes)) else str(minute)
            parts.append(self._text(x, bottom + 16, label, anchor="end" if minute == minutes else "middle"))
        column = (self._width - 20) / 2
        for number, (legend, (_, points)) in enumerate(results):
            color = COLORS[number % len(COLORS)]
            path = self._path(points, highest, box)
            parts.append(f'<path class="line" d="{path}" stroke="{color}"/>')
            x, y = 12 + column * (number % 2), bottom + 35 + 15 * (number // 2)
            parts.append(self._line(x, y - 4, x + 12, y - 4, f'stroke="{color}" stroke-width="3"'))
            parts.append(self._text(x + 17, y, f"{legend}  {shown(points[-1][1], self._unit)}"))
        return parts

    def _path(self, points: list[tuple[float, float]], highest: float, box: Box) -> str:
        """The line through the points; it breaks where some are missing."""
        start, end, step = self._window
        path, before = [], float("-inf")
        for at, value in points:
            x = self._x + box.left + (box.right - box.left) * (at - start) / (end - start)
            y = self._y + box.bottom - (box.bottom - box.top) * min(1.0, value / highest)
            path.append(f"{'L' if at - before <= 1.5 * step else 'M'}{x:.1f} {y:.1f}")
            before = at
        return " ".join(path)

    def _text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
        place = f'x="{self._x + x:.1f}" y="{self._y + y:.1f}" text-anchor="{anchor}"'
        return f'<text class="{style}" {place} xml:space="preserve">{escape(text)}</text>'

    def _line(self, left: float, top: float, right: float, bottom: float, look: str = 'class="grid"') -> str:
        ends = f'x1="{self._x + left:.1f}" y1="{self._y + top:.1f}" x2="{self._x + right:.1f}"'
        return f'<line {look} {ends} y2="{self._y + bottom:.1f}"/>'


def _label(labels: Mapping[str, str], found: re.Match[str]) -> str:
    return labels.get(found[1], "")


def nice(value: float) -> float:
    """The next number above that is 1, 2, 5 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    if value >= 1:
        power = 10.0 ** (len(f"{int(value)}") - 1)
    else:
        fraction = f"{value:.9f}".removeprefix("0.")
        power = 10.0 ** -(len(fraction) - len(fraction.lstrip("0")) + 1)
    return next(step * power for step in (1, 2, 5, 10, 20) if step * power >= value)


def shown(value: float, unit: str) -> str:
    """A value with its unit, as short as Grafana shows it."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    return f"{value:.3g}" + ("/s" if unit == "ops" else "")
