"""`ha-monitor dead-letters`: lists handler calls that failed for good; retries or drops them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    Answer,
    DetailView,
    ItemColumn,
    Style,
    add_flags,
    as_typed,
    ask_and_show,
    store_of,
    write_properties,
)
from ha_monitor.cli.flags import OF_LISTS, refuse
from ha_monitor.cli.id_argument import an_id
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Column
from ha_monitor.text.terminal import Painted, Terminal, standard_error

if TYPE_CHECKING:
    from msgspec import Struct

    from ha_monitor.config.load import Loaded
    from ha_monitor.store.dead_letters import KeptLetter
    from ha_monitor.store.reader import StoreReader

TOO_OLD = "an earlier version wrote it, so that it cannot be tried again"


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "dead-letters",
        parents=[common],
        help="list the calls of handlers that failed for good; try them again, or drop them",
        description="Lists the calls of handlers that failed for good, newest first. With ids, or their beginnings, "
        "shows these with their tracebacks. Exit status 1 if there is no such dead letter, or several.",
        epilog="examples:\n"
        "  ha-monitor dead-letters\n"
        "  ha-monitor dead-letters 3f2a\n"
        "  ha-monitor dead-letters 3f2a --retry\n"
        "  ha-monitor dead-letters -n 0 -o ids | xargs ha-monitor dead-letters --drop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ids", nargs="*", type=an_id, metavar="ID", help="id of a dead letter, or its beginning")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--retry", action="store_true", help="call the handler again, with all its attempts")
    what.add_argument("--drop", action="store_true", help="forget them")
    add_flags(parser, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List or show dead letters, or retry or drop some.

    :raises UsageError: if flags or arguments do not go together.
    """
    if options.retry or options.drop:
        refuse(options, *OF_LISTS, beside="--retry" if options.retry else "--drop")
        return _take(options)
    if options.ids:
        refuse(options, "limit", "reverse", beside="an id")
    missing: list[str] = []

    def ask(_loaded: Loaded, reader: StoreReader) -> Answer:
        missing.clear()
        return _answer(options, reader, missing)

    status = ask_and_show(options, ask)
    return ExitStatus.FAILURE if missing else status


def _take(options: argparse.Namespace) -> ExitStatus:
    if not options.ids:
        raise UsageError("name the dead letters: ha-monitor dead-letters -o ids lists them")
    missing: list[str] = []
    with store_of(options) as (_, reader):
        kept = list(reader.dead_letters.newest())
        found = {one.id: one for text in options.ids if (one := _meant(text, kept, missing)) is not None}
        for one in found.values():
            if not _taken(one, options, reader):
                missing.append(one.id)
    return ExitStatus.FAILURE if missing else ExitStatus.OK


def _taken(one: KeptLetter, options: argparse.Namespace, reader: StoreReader) -> bool:
    """Retry or drop a letter, report it, and return whether that worked."""
    said = standard_error()
    of = f"{one.letter.handler or 'no handler'} for {_event(one, 'type')} {_event(one, 'id')}"
    if options.retry and not one.letter.entry:
        said.row(f"ha-monitor: {one.id}: {TOO_OLD}: {of}")
        return False
    if not (reader.dead_letters.retry(one) if options.retry else reader.dead_letters.drop(one)):
        said.row(f"ha-monitor: {one.id}: somebody else has taken it meanwhile")
        return False
    said.row(f"{one.id}: {'will be called again: ' if options.retry else 'dropped: '}{of}")
    return True


def _answer(options: argparse.Namespace, reader: StoreReader, missing: list[str]) -> Answer:
    kept = list(reader.dead_letters.newest())
    more = False
    detail_view = None
    if options.ids:
        shown = [one for text in options.ids if (one := _meant(text, kept, missing)) is not None]
        detail_view = DetailView(_write_details)
    else:
        shown = kept[::-1] if options.reverse else kept
        more = 0 < options.limit < len(shown)
        shown = shown[: options.limit or len(shown)]
    return Answer(
        nouns=("dead letter", "dead letters"),
        time=reader.queries.now(),
        items=shown,
        columns=COLUMNS,
        id_of=lambda one: str(one.id),
        document_of=_document,
        searched="all dead letters that are kept",
        more=more,
        detail_view=detail_view,
    )


def _meant(text: str, kept: Sequence[KeptLetter], missing: list[str]) -> KeptLetter | None:
    """The letter that somebody named; if there is none, or several, report that and return None."""
    found = {one.id: one for one in kept if text and one.id.startswith(text)}
    if len(found) == 1:
        return next(iter(found.values()))
    missing.append(text)
    error, shown = standard_error(), as_typed(text)
    if found:
        error.row(f"ha-monitor: {shown}: {len(found)} dead letters begin so: {' '.join(sorted(found)[:10])}")
    else:
        error.row(f"ha-monitor: {shown}: no dead letter has this id, and none begins so")
    return None


def _document(one: KeptLetter) -> Struct:
    from ha_monitor.query.items import letter_item

    return letter_item(one)


def _event(one: KeptLetter, field: str) -> str:
    event = one.letter.event
    return str(event.get(field) or "") if isinstance(event, dict) else ""


def _name(one: KeptLetter) -> str:
    task = one.letter.task
    return str(task.get("name") or "") if isinstance(task, dict) else ""


def _when(one: KeptLetter) -> float | None:
    try:
        return datetime.fromisoformat(one.letter.time).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _write_details(one: KeptLetter, style: Style, output: Terminal, width: int | None) -> None:
    """Write everything about a letter."""
    letter = one.letter
    output.row(Painted(letter.handler or "(no handler)", "1"), "  ", Painted(letter.error, "31"))
    known = {
        "id": one.id,
        "event": f"{_event(one, 'type')} {_event(one, 'id')}",
        "task": f"{_name(one)} {_event(one, 'task_id')}".strip(),
        "failed": style.time(_when(one)),
        "calls": str(letter.attempts),
        "instance": f"{letter.instance} on {letter.host}",
    }
    write_properties(known, output, width)
    if not letter.entry:
        output.row(f"  {TOO_OLD}")
    output.row("")
    for line in letter.traceback.splitlines():
        output.row(f"  {line}")


COLUMNS = (
    ItemColumn(Column("ID", 0), lambda one, _style: one.id, is_id=True),
    ItemColumn(Column("FAILED", 2), lambda one, style: style.time(_when(one))),
    ItemColumn(Column("HANDLER", 0, 20), lambda one, _style: one.letter.handler),
    ItemColumn(Column("EVENT", 3), lambda one, _style: _event(one, "type")),
    ItemColumn(Column("NAME", 4, 20), lambda one, _style: _name(one)),
    ItemColumn(Column("CALLS", 5, right=True), lambda one, _style: str(one.letter.attempts)),
    ItemColumn(Column("ERROR", 1, 20), lambda one, _style: one.letter.error),
    ItemColumn(Column("TASK", 6), lambda one, _style: _event(one, "task_id"), wide=True),
)
