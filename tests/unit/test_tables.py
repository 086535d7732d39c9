"""One line when a table of the shared record is full."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.config.schema import Metrics
from ha_monitor.metrics.series import Series
from ha_monitor.pipeline.tables import EFFECTS, REPORT_AGAIN_AFTER, TableReport, series_tables
from ha_monitor.store.counts import Counts
from ha_monitor.store.results import Table
from ha_monitor.store.scripts import read_scripts
from tests.unit.builders import TurnedClock


class Lines:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.written.append((event, fields))

    info = warning


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def report(lines: Lines, clock: TurnedClock) -> TableReport:
    return TableReport(lines, clock)  # type: ignore[arg-type]


def workers(refused: int) -> Table:
    return Table("workers", 10_000, 10_000, refused)


def test_a_table_that_is_full_but_turns_nobody_away_is_no_news(report: TableReport, lines: Lines) -> None:
    """Given a table with as many entries as it may have, nothing is said."""
    report.look([workers(0)])

    assert lines.written == []


def test_one_line_a_flood(report: TableReport, lines: Lines, clock: TurnedClock) -> None:
    """Given a flood that goes on for an hour, one line says which table is full, its limit, and what that means."""
    for number in range(3600):
        clock.now += 1
        report.look([workers(number * 50), Table("open", 5, 1_000_000, 0)])

    ((event, fields),) = lines.written
    assert event == "table-full"
    assert (fields["table"], fields["limit"], fields["turned_away"]) == ("workers", 10_000, 50)
    assert "status" in fields["effect"]


def test_a_second_flood_is_said_again(report: TableReport, lines: Lines, clock: TurnedClock) -> None:
    """Given a second flood after a quiet time, there is a second line; also if the count began anew meanwhile."""
    report.look([workers(5)])
    clock.now += REPORT_AGAIN_AFTER + 1
    report.look([workers(5)])
    report.look([workers(0)])
    report.look([workers(3)])

    assert [fields["turned_away"] for _, fields in lines.written] == [5, 3]


def test_series_that_overflow(report: TableReport, lines: Lines) -> None:
    """Given an instance with more series than it may have, what was added up as overflow is what was refused."""
    series = Series(Metrics(max_series=1000))
    fields = {"shop.pay\x1fcelery@a": b"7", "shop.pay\x1f": b"3", "overflow\x1foverflow": b"40"}
    raw = [(f"2\x1f{labels}\x1fcelery\x1f".encode(), number) for labels, number in fields.items()]
    series.load(Counts([piece for pair in raw for piece in pair]), 0.0)

    assert series_tables(series) == [
        Table("worker labels", series.samples, 750, 3),
        Table("series", series.samples, 1000, 40),
    ]
    report.look(series_tables(series))
    assert [fields["table"] for _, fields in lines.written] == ["worker labels", "series"]


def test_the_limits_are_documented_as_they_are() -> None:
    """Given the limits in the scripts, the documentation has the same."""
    source = read_scripts()["watch"].source.split("local MAX_ENTRIES = {")[1].split("\n}")[0]
    limits = dict(re.findall(r"^  (\w+) = (\d+),", source, re.MULTILINE))
    text = (Path(__file__).resolve().parents[2] / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## Table limits")[1].split("\n## ")[0]

    documented = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", section, re.MULTILINE)
    assert {name: int(limit.replace(",", "")) for name, limit in documented} == {
        name: int(limit) for name, limit in limits.items()
    }


def test_every_table_has_its_effect() -> None:
    """Given the tables of the scripts, the line about each says what it means."""
    source = read_scripts()["watch"].source
    names = source.split("local TABLES = {")[1].split("}")[0]

    assert {name.strip(" '\n") for name in names.split(",")} == EFFECTS.keys() - {"series", "worker labels"}
