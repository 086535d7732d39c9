"""`ha-monitor schedules`: what celery beat should run, and whether it did."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    FORMATS,
    MIN_ID_LENGTH,
    Answer,
    DetailView,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    ask_and_show,
    first_of,
    is_unknown,
    output_of,
    store_of,
    write_properties,
)
from ha_monitor.cli.flags import refuse
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out
from ha_monitor.text.terminal import standard_error
from ha_monitor.text.times import duration, short_duration

if TYPE_CHECKING:
    from ha_monitor.answers.result import Result
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.schedules import SeenSchedule
    from ha_monitor.schedules.model import Occurrence
    from ha_monitor.store.reader import StoreReader
    from ha_monitor.text.terminal import Terminal

EXAMPLES = """\
examples:
  ha-monitor schedules                       what did not run, first
  ha-monitor schedules 'nightly report'      its latest due times, and what came of each
  ha-monitor schedules -o toml               as the configuration takes them, to be edited
  ha-monitor schedules --learned             tasks that run regularly, but that no source defines
"""
TOML = "toml"
NOUNS = ("schedule", "schedules")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "schedules",
        parents=[common],
        help="list what celery beat should run, when, and whether it did",
        description="Lists the schedules of celery beat, as workers, RedBeat and the configuration tell them or as "
        "they were learned from runs, those first that did not run: the task, when it is due, when it ran "
        "last and is due next, and the state. With a name, in which * stands for any text, only those; of "
        "a single one also its latest 50 due times, with the run that came of each and how late it was. "
        "Exit status 1 if there is none of that name.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("schedule", nargs="?", metavar="NAME", help="name of a schedule, such as 'nightly report'")
    parser.add_argument(
        "--learned",
        action="store_true",
        help="propose schedules for tasks that run regularly and have none, as the configuration takes them: until "
        "they are in it, a miss is a warning at most",
    )
    add_flags(parser, limit=0, times=False, formats=(*FORMATS, TOML))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List schedules; if there is only one, with its due times.

    :raises UsageError: if learned schedules are asked for in another form than TOML, or TOML with --watch.
    """
    if options.learned:
        refuse(options, "watch", beside="--learned")
        return _propose(options)
    if options.output == TOML:
        refuse(options, "watch", beside=f"-o {TOML}")
        return _write_toml(options)
    return ask_and_show(options, partial(_answer, options), named=options.schedule)


def _found(options: argparse.Namespace, reader: StoreReader) -> Result:
    from ha_monitor.answers.schedules import schedules

    return schedules(reader, options.schedule, options.limit, reverse=options.reverse)


def _write_toml(options: argparse.Namespace) -> ExitStatus:
    """Write the definitions as TOML configuration."""
    from ha_monitor.schedules.toml import written

    with store_of(options) as (_, reader):
        shown = _found(options, reader).items
    output_of(options).rows(written([one.judgement.definition for one in shown]).splitlines())
    unknown = is_unknown(options.schedule, shown, NOUNS)
    refused = options.fail_if_any if shown else options.fail_if_none or unknown
    return ExitStatus.FAILURE if refused else ExitStatus.OK


def _propose(options: argparse.Namespace) -> ExitStatus:
    """Write the schedules that no source defines, for somebody to confirm."""
    from ha_monitor.answers.schedules import learned
    from ha_monitor.schedules.toml import proposed

    if options.output not in ("table", TOML):
        raise UsageError(f"--learned is written as {TOML}, not as {options.output}")
    with store_of(options) as (_, reader):
        found = learned(reader, options.schedule)
    shown, more = first_of(found, options)
    output_of(options).rows(proposed(shown).splitlines())
    if not options.no_legend:
        what = {0: "no task runs", 1: "1 task runs"}.get(len(found), f"{len(found):,} tasks run")
        only = f", of which the first {len(shown):,} are here (-n 0: all)" if more else ""
        standard_error().row(
            f"{what} regularly without a schedule that is known{only}. Searched: the newest runs of each name."
        )
    refused = options.fail_if_any if found else options.fail_if_none
    return ExitStatus.FAILURE if refused else ExitStatus.OK


def _answer(options: argparse.Namespace, _loaded: Loaded, reader: StoreReader) -> Answer:
    found = _found(options, reader)
    detail_view = DetailView(_write_details) if options.schedule is not None and len(found.items) == 1 else None
    return answer_of(found, NOUNS, COLUMNS, lambda one: str(one.judgement.definition.name), detail_view=detail_view)


def _write_details(seen: SeenSchedule, style: Style, output: Terminal, width: int | None) -> None:
    """Write everything about a schedule, and the outcomes of its latest due times."""
    one, definition = seen.judgement, seen.judgement.definition
    output.row(definition.name, "  ", _state(seen, style))
    total = one.history.missed_total
    grace = definition.grace
    known: dict[str, str | None] = {
        "task": definition.task,
        "due": seen.due,
        "source": seen.source,
        "last": _last_in_words(seen, style),
        "next": None
        if seen.next_due is None
        else f"{style.time(seen.next_due)[:19]}, {_relative(seen.next_due, style)}",
        "grace": None if grace is None else duration(grace),
        "ends": None if definition.must_end_within is None else f"within {duration(definition.must_end_within)}",
        "missed": f"{one.missed} in a row, {total} since it is watched" if total else None,
        "sent by": " and ".join(one.producers),
        "why": seen.why,
        "differs": definition.differs,
    }
    write_properties(known, output, width)
    if not seen.occurrences:
        return
    output.row("")
    used = [of for of in DUE_TIMES if of.column.header != "AGAIN" or any(found.again for found in seen.occurrences)]
    rows = [[of.cell(found, style) for of in used] for found in seen.occurrences]
    for row in laid_out([of.column for of in used], rows, output.shown, width=width):
        output.row(*row)


def _relative(at: float, style: Style) -> str:
    return f"in {duration(at - style.now)}" if at >= style.now else f"{duration(style.now - at)} ago"


def _last_in_words(seen: SeenSchedule, style: Style) -> str | None:
    last = seen.judgement.last
    if last is None or last.run is None:
        return None
    at = last.run.at or last.due
    return f"{style.time(at)[:19]}, {_relative(at, style)}"


def _state(seen: SeenSchedule, style: Style) -> Cell:
    one = seen.judgement
    more = f" {one.missed}" if one.missed > 1 and one.state == "missed" else ""
    return style.state(one.state.value, more)


def _last(seen: SeenSchedule, style: Style) -> Cell:
    last = seen.judgement.last
    return style.time(None if last is None or last.run is None else last.run.at)


def _delay(one: Occurrence | None, style: Style) -> str:
    delay = None if one is None else one.delay
    if delay is None or style.seconds:
        return style.duration(delay)
    return short_duration(delay) if delay >= 0 else f"-{short_duration(-delay)}"


def _run_time(one: Occurrence, style: Style) -> Cell:
    run = one.run
    if run is None or run.started is None or run.ended is None:
        return ""
    return style.duration(max(0.0, run.ended - run.started))


COLUMNS = (
    ItemColumn(Column("NAME", 0, 14), lambda one, _style: one.judgement.definition.name),
    ItemColumn(Column("TASK", 4, 12), lambda one, _style: one.judgement.definition.task),
    ItemColumn(Column("EVERY", 2, 10), lambda one, _style: one.judgement.definition.timetable),
    ItemColumn(Column("LAST", 3), _last),
    ItemColumn(Column("NEXT", 1), lambda one, style: style.time(one.next_due)),
    ItemColumn(Column("STATE", 0), _state),
    ItemColumn(Column("SOURCE", 5), lambda one, _style: one.source),
    ItemColumn(Column("DELAY", 6, right=True), lambda one, style: _delay(one.judgement.last, style), wide=True),
    ItemColumn(Column("MISSED", 7, right=True), lambda one, _style: str(one.judgement.history.missed_total), wide=True),
    ItemColumn(Column("ZONE", 8), lambda one, _style: one.judgement.definition.zone, wide=True),
    ItemColumn(Column("WHY", 9, 12), lambda one, _style: one.why or one.judgement.definition.differs, wide=True),
)
DUE_TIMES = (
    ItemColumn(Column("  DUE", 0), lambda one, style: f"  {style.time(one.due)[:19]}"),
    ItemColumn(Column("STATE", 1), lambda one, style: style.state(one.state.value)),
    ItemColumn(Column("DELAY", 2, right=True), _delay),
    ItemColumn(Column("RAN", 4, right=True), _run_time),
    ItemColumn(Column("TASK-STATE", 5), lambda one, style: "" if one.run is None else style.state(one.run.state)),
    ItemColumn(Column("TASK", 3, MIN_ID_LENGTH), lambda one, _style: "" if one.run is None else one.run.task_id),
    ItemColumn(Column("AGAIN", 6, MIN_ID_LENGTH), lambda one, _style: " ".join(run.task_id for run in one.again)),
)
