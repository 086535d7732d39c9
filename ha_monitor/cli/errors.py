"""`ha-monitor errors`: what fails, as error groups; resolves or ignores groups."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    Answer,
    DetailView,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    as_typed,
    ask_and_show,
    store_of,
    write_properties,
)
from ha_monitor.cli.flags import refuse, times_asked
from ha_monitor.cli.id_argument import an_id
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out
from ha_monitor.text.terminal import Painted, Terminal, standard_error
from ha_monitor.text.times import parse_duration, relative

if TYPE_CHECKING:
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.groups import KnownGroup
    from ha_monitor.store.error_groups import ErrorMarks
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor errors --since -1h              what failed in the last hour, the latest first
  ha-monitor errors --sort count             what fails most
  ha-monitor errors 0f3c52a9be               one group: its traceback, and its latest tasks
  ha-monitor errors 0f3c52a9be --resolve     it is fixed: notify me if it recurs
  ha-monitor tasks error=0f3c52a9be -n 0     all tasks of a group
"""
NOUNS = ("group of errors", "groups of errors")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "errors",
        parents=[common],
        help="list what fails, in groups; mark one as resolved or ignored",
        description="Lists error groups, latest error first: failures, and retries for an exception, of one task, one "
        "class of exception and one place in the application. For named groups, also shows the traceback and the "
        "latest tasks. Exit status 1 if a named group does not exist.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", type=an_id, metavar="GROUP", help="id of a group, or its beginning")
    marks = parser.add_mutually_exclusive_group()
    marks.add_argument("--resolve", action="store_true", help="its cause is fixed; if it recurs, it has regressed")
    marks.add_argument("--ignore", type=_duration, metavar="DURATION", help="it does not matter for so long, as in 2h")
    marks.add_argument("--reopen", action="store_true", help="undo resolve or ignore")
    parser.add_argument("--sort", choices=("last", "first", "count", "hour"), default="last", help="(default: last)")
    add_flags(parser)
    parser.set_defaults(run=run)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> ExitStatus:
    """List error groups, or mark some and show them in full.

    :raises UsageError: if no group to mark is named, a time cannot be read, or a flag of lists is given with a group.
    """
    from ha_monitor.query.language import parse_filter

    marks = options.resolve or options.ignore is not None or options.reopen
    if marks and not options.groups:
        raise UsageError("errors: --resolve, --ignore and --reopen need the id of a group")
    if options.groups:
        refuse(options, "sort", "limit", "reverse", "since", "until", beside="the id of a group")
    parse_filter(times_asked(options), time.time())
    missing: list[str] = []
    unmarked: list[str] = []
    if marks:
        with store_of(options) as (_, reader):
            options.groups = _meant(options.groups, reader, unmarked)
            _mark(options, reader.error_marks, options.groups)
        if not options.groups:
            return ExitStatus.FAILURE

    def ask(_: Loaded, reader: StoreReader) -> Answer:
        missing.clear()
        if options.groups:
            return _named(_meant(options.groups, reader, missing), reader)
        return _listed(options, reader)

    status = ask_and_show(options, ask)
    return ExitStatus.FAILURE if missing or unmarked else status


def _mark(options: argparse.Namespace, marks: ErrorMarks, ids: Sequence[str]) -> None:
    for group_id in ids:
        if options.resolve:
            marks.resolve(group_id)
        elif options.reopen:
            marks.reopen(group_id)
        else:
            marks.ignore(group_id, options.ignore)


def _meant(texts: Sequence[str], reader: StoreReader, missing: list[str]) -> list[str]:
    """The ids of the groups that somebody named; names that match none or several are reported."""
    from ha_monitor.answers.errors import group_ids_of

    found: dict[str, None] = {}
    error = standard_error()
    for text in texts:
        ids = group_ids_of(reader, text)
        if len(ids) == 1:
            found[ids[0]] = None
            continue
        missing.append(text)
        said = f"{len(ids)} groups begin so: {', '.join(ids[:10])}" if ids else "no group of errors has this id"
        error.row(f"ha-monitor: {as_typed(text)}: {said}")
    return list(found)


def _listed(options: argparse.Namespace, reader: StoreReader) -> Answer:
    from ha_monitor.answers.errors import errors

    found = errors(reader, times_asked(options), options.limit, sort=options.sort, reverse=options.reverse)
    return answer_of(found, NOUNS, COLUMNS, lambda one: str(one.group.id))


def _named(ids: Sequence[str], reader: StoreReader) -> Answer:
    from ha_monitor.answers.errors import named_errors

    return answer_of(
        named_errors(reader, ids), NOUNS, COLUMNS, lambda one: str(one.group.id), detail_view=DetailView(_write_details)
    )


def _write_details(one: KnownGroup, style: Style, output: Terminal, width: int | None) -> None:
    """Write everything about a group."""
    group = one.group
    output.row(Painted(group.name, "1"), "  ", group.error_class, "  ", style.state(group.state))
    write_properties(_properties(one, style), output, width)
    if one.tasks:
        output.row("")
        header = [Column("  FAILED AT", 0), Column("STATE", 1), Column("WORKER", 2, 10), Column("TASK", 0)]
        times = dict(group.tasks)
        rows: list[list[Cell]] = [
            [
                f"  {style.time(times.get(task.record.task_id))}",
                style.state(task.record.state),
                task.record.worker or "",
                task.record.task_id,
            ]
            for task in one.tasks
        ]
        for row in laid_out(header, rows, output.shown, width=width):
            output.row(*row)
    if group.traceback:
        output.row("")
        output.rows(f"  {line}" for line in group.traceback.splitlines())


def _properties(one: KnownGroup, style: Style) -> dict[str, str]:
    group = one.group
    failures = f"{group.failures} failure{'' if group.failures == 1 else 's'}"
    retries = f", {group.retries} retr{'y' if group.retries == 1 else 'ies'}" if group.retries else ""
    return {
        "group": group.id,
        "place": group.place,
        "message": group.message,
        "errors": f"{failures}{retries}; {group.by_hour[-1]} failed in this hour, {sum(group.by_hour)} in 24 hours",
        "first": f"{style.time(group.first)}{_since_mark(one, style)}",
        "last": style.time(group.last),
        "resolved": style.time(group.resolved_at),
        "ignored": f"until {style.time(group.ignored_until)}" if group.ignored_until else "",
        "workers": ", ".join(one.workers),
    }


def _since_mark(one: KnownGroup, style: Style) -> str:
    return "" if one.mark is None else f", new since {one.mark.label}, {relative(one.mark.at, style.now)}"


def _state(one: KnownGroup, style: Style) -> Cell:
    return style.state(one.group.state, "" if one.mark is None else f" since {one.mark.label}")


COLUMNS = (
    ItemColumn(Column("GROUP", 0), lambda one, _style: one.group.id),
    ItemColumn(Column("STATE", 1), _state),
    ItemColumn(Column("COUNT", 1, right=True), lambda one, _style: str(one.group.failures)),
    ItemColumn(Column("HOUR", 3, right=True), lambda one, _style: str(one.group.by_hour[-1])),
    ItemColumn(Column("DAY", 6, right=True), lambda one, _style: str(sum(one.group.by_hour))),
    ItemColumn(Column("RETRIES", 9, right=True), lambda one, _style: str(one.group.retries), wide=True),
    ItemColumn(Column("FIRST", 5), lambda one, style: style.time(one.group.first)),
    ItemColumn(Column("LAST", 2), lambda one, style: style.time(one.group.last)),
    ItemColumn(Column("NAME", 3, 12), lambda one, _style: one.group.name),
    ItemColumn(Column("ERROR", 2, 12), lambda one, _style: one.group.error_class),
    ItemColumn(Column("PLACE", 4, 16), lambda one, _style: one.group.place),
    ItemColumn(Column("WORKERS", 8, 10), lambda one, _style: ", ".join(one.workers), wide=True),
    ItemColumn(
        Column("EXAMPLE", 7, 9), lambda one, _style: one.group.tasks[0].task_id if one.group.tasks else "", wide=True
    ),
    ItemColumn(Column("MESSAGE", 10, 16), lambda one, _style: one.group.message, wide=True),
)
