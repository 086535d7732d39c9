"""`ha-monitor tail`: shows what the whole fleet announces, as it happens."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import COLORS, Style, no_instance_text, output_of, store_of
from ha_monitor.errors import StoreUnavailable
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell
from ha_monitor.text.terminal import Painted, Terminal, standard_error
from ha_monitor.text.times import local
from ha_monitor.text.visible import padded, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ha_monitor.store.queries import KeptTask
    from ha_monitor.store.reader import StoreReader
    from ha_monitor.store.tail import Tail, TailEvent, TailGap

EXAMPLES = """\
examples:
  ha-monitor tail
  ha-monitor tail state=FAILURE,RETRY name='shop.*'
  ha-monitor tail worker=celery@app1 -o jsonl | jq .
filters are those of ha-monitor tasks
"""
READ_TIMEOUT = 1.0
"""Seconds that one read waits for events, and between attempts to reach the store."""
COLUMNS = ("TIME", "STATE", "NAME", "WORKER", "ID", "ERROR")
_TIME, _STATE, _GAP = 12, 9, "  "
_MIN_WIDTH = 80
"""Width of a terminal, in columns, below which the last columns of the table are left out."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "tail",
        parents=[common],
        help="show what the whole fleet announces, live",
        description="Shows each event that an instance of the fleet announces, from now on, until it is interrupted: "
        "whichever instance that is, even if instances end. It costs the instances something only while somebody "
        "looks. What it came too late for is said on standard error; so is a store that went away, for which it waits.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="FILTER", help="conditions such as FIELD=VALUE, as for tasks")
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "jsonl", "tsv", "ids"),
        default="table",
        help="a row for each event; jsonl: its line as in the log; ids: that of its task (default: table)",
    )
    parser.add_argument("-n", "--limit", type=_count, metavar="N", help="stop after N events")
    parser.add_argument("--no-legend", action="store_true", help="no headers and no remarks")
    parser.add_argument("--time", choices=("local", "utc"), default="local", help="how times are shown")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(default: auto)")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not int(text):
        raise argparse.ArgumentTypeError("expected a number from 1 on")
    return int(text)


def run(options: argparse.Namespace) -> ExitStatus:
    """Show events until interrupted.

    :raises UsageError: if the filter cannot be read.
    """
    from ha_monitor.query.announced import matches, task_of
    from ha_monitor.query.language import parse_filter
    from ha_monitor.store.tail import TailGap

    wanted = parse_filter(options.words, time.time())
    left = options.limit
    with store_of(options) as (loaded, reader):
        rows = _Rows(options, loaded.config.node_id)
        for one in _events(reader, rows):
            if isinstance(one, TailGap):
                rows.say(gap_text(one))
                continue
            task = task_of(one)
            if not matches(wanted, task, one) or (options.output == "ids" and not task.record.task_id):
                continue
            rows.show(one, task)
            left = None if left is None else left - 1
            if left == 0:
                break
    return ExitStatus.OK


def _events(reader: StoreReader, rows: _Rows) -> Iterator[TailEvent | TailGap]:
    """All events from now on. A store that is unavailable at the start is an error; later it is waited for."""
    from ha_monitor.clock import SystemClock

    tail = reader.tail(SystemClock())
    tail.begin()
    rows.begin(is_used=reader.is_used())
    while True:
        yield from _read(tail, reader, rows)


def _read(tail: Tail, reader: StoreReader, rows: _Rows) -> list[TailEvent | TailGap]:
    try:
        return tail.read(READ_TIMEOUT)
    except StoreUnavailable as error:
        rows.say(f"{error}; waiting for it")
    while True:
        time.sleep(READ_TIMEOUT)
        try:
            reader.connect()
            found = tail.read(READ_TIMEOUT)
        except StoreUnavailable:
            continue
        rows.say("the store is there again")
        return found


def gap_text(gap: TailGap) -> str:
    """A text about the missing events."""
    count = "events" if gap.missing is None else f"{gap.missing:,} event{'' if gap.missing == 1 else 's'}"
    since = f" between {local(gap.since)[:19]} and" if gap.since else " before"
    return f"may lack {count}{since} {local(gap.until)[:19]}: they were trimmed before they could be read"


class _Rows:
    """Writes the rows, as wide as the terminal."""

    def __init__(self, options: argparse.Namespace, node_id: str) -> None:
        self._options = options
        self._node_id = node_id
        self._output: Terminal = output_of(options)

    def begin(self, *, is_used: bool) -> None:
        """Write the header, and a note about what is shown.

        :param is_used: whether an instance has ever written to this store.
        """
        if not is_used:
            self.say(no_instance_text(self._node_id))
        if self._options.no_legend:
            return
        standard_error().row("what the fleet announces from now on; ^C ends it")
        if self._options.output == "tsv":
            self._output.cells([name.lower() for name in COLUMNS])
        elif self._options.output == "table":
            self._row(list(COLUMNS))

    def say(self, text: str) -> None:
        """Write a remark to standard error."""
        standard_error().row(f"ha-monitor: {text}")

    def show(self, shown: TailEvent, task: KeptTask) -> None:
        """Write one event."""
        form = self._options.output
        if form == "jsonl":
            from ha_monitor.query.announced import line_of

            self._output.json(line_of(shown, self._node_id))
        elif form == "ids":
            self._output.row(task.record.task_id)
        elif form == "tsv":
            self._output.cells([cell.text if isinstance(cell, Painted) else cell for cell in self._cells(shown, task)])
        else:
            self._row(self._cells(shown, task))

    def _cells(self, shown: TailEvent, task: KeptTask) -> list[Cell]:
        from ha_monitor.events.catalogue import Code
        from ha_monitor.events.types import TASK_CODES

        event, record = shown.entry.event, task.record
        at = event.time if event.time is not None else shown.at
        style = Style(shown.at, self._options.time)
        moment = style.time(at) if self._options.output == "tsv" or self._options.time == "utc" else local(at)[11:]
        if event.task_id is None:
            return [moment, _level(event.type), event.type, event.worker, "", _reason(event.fields)]
        name = record.name or ""
        if TASK_CODES.get(event.type, Code.OTHER) is Code.OTHER:
            name = f"{event.type} {name}".rstrip()
        return [
            moment,
            style.state(record.state),
            name,
            record.worker or event.worker,
            record.task_id,
            record.exception or "",
        ]

    def _row(self, cells: list[Cell]) -> None:
        shown = [self._output.shown(cell.text if isinstance(cell, Painted) else cell) for cell in cells]
        widths = self._widths()
        parts: list[Cell] = []
        for number, (text, cell) in enumerate(zip(shown, cells, strict=True)):
            width = widths.get(number)
            if width == 0:
                continue
            is_last = number == len(cells) - 1
            cut = shortened(text, width if sys.stdout.isatty() else None, self._output.shown("…"))
            parts.append(_GAP if parts else "")
            parts.append(Painted(cut, cell.color) if isinstance(cell, Painted) else cut)
            if not is_last:
                parts.append(padded(cut, width or 0)[len(cut) :])
        self._output.row(*parts)

    def _widths(self) -> dict[int, int]:
        """How many terminal columns each column has; 0 for one without room."""
        time_width = 24 if self._options.time == "utc" else _TIME
        if not sys.stdout.isatty():
            return {0: time_width, 1: _STATE, 2: 24, 3: 20, 4: 36, 5: 1}
        room = shutil.get_terminal_size().columns
        left = room - time_width - _STATE - 5 * len(_GAP)
        if room < _MIN_WIDTH:
            return {0: time_width, 1: _STATE, 2: max(1, room - time_width - _STATE - 2 * len(_GAP)), 3: 0, 4: 0, 5: 0}
        id_width = 36 if left >= 110 else 9
        name = min(28, (left - id_width) * 7 // 20)
        worker = min(20, (left - id_width) * 7 // 25)
        return {0: time_width, 1: _STATE, 2: name, 3: worker, 4: id_width, 5: left - id_width - name - worker}


def _level(event_type: str) -> Cell:
    """The level of an event that is not about a task."""
    from ha_monitor.events.types import level_of

    level = level_of(event_type).value
    color = {"warning": COLORS["warn"], "error": COLORS["bad"]}.get(level)
    return level if color is None else Painted(level, color)


def _reason(fields: dict[str, Any]) -> str:
    """What such an event says besides its name."""
    parts = [f"{name} {fields[name]}" for name in ("lost", "count") if isinstance(fields.get(name), int)]
    return ", ".join([*parts, fields["reason"]] if isinstance(fields.get("reason"), str) else parts)
