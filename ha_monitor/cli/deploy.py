"""`ha-monitor deploy`: mark a deployment, so that the monitor can say what is new since then."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import Answer, ItemColumn, add_flags, as_typed, ask_and_show, first_of, store_of
from ha_monitor.cli.flags import OF_LISTS, refuse
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Column
from ha_monitor.text.terminal import standard_error
from ha_monitor.text.times import local
from ha_monitor.text.visible import written_out_bytes

if TYPE_CHECKING:
    from msgspec import Struct

    from ha_monitor.store.incidents import Mark
    from ha_monitor.store.reader import StoreReader

MAX_LABEL = 80


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "deploy",
        parents=[common],
        help="mark a deployment, so that new errors can be attributed to it",
        description="mark notes that something is being deployed now, under a label such as a version; without one, "
        "under the time. problems and errors show which errors are new since the last mark. The latest 100 are kept; "
        "list shows them, the newest first.",
        epilog="examples:\n  ha-monitor deploy mark v512\n  ha-monitor deploy list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("mark", "list"), help="mark, or list the marks")
    parser.add_argument("label", nargs="?", metavar="LABEL", help="such as a version")
    add_flags(parser, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Add a mark, or list the marks.

    :raises UsageError: if flags or arguments do not go together.
    """
    if options.what == "list":
        if options.label is not None:
            raise UsageError(f"deploy: list takes no label, such as {as_typed(options.label)}")
        return ask_and_show(options, lambda _, reader: _answer(options, reader))
    refuse(options, *OF_LISTS, beside="mark")
    from ha_monitor.store.incidents import Mark

    with store_of(options) as (_, reader):
        now = reader.queries.now()
        label = written_out_bytes(options.label or "")[:MAX_LABEL]
        mark = Mark(label or local(now)[:16], now)
        reader.incidents.mark(mark)
    standard_error().row(f"marked {as_typed(mark.label)} at {local(now)[:19]}")
    return ExitStatus.OK


def _answer(options: argparse.Namespace, reader: StoreReader) -> Answer:
    items, more = first_of(reader.incidents.marks(), options)
    return Answer(
        nouns=("mark", "marks"),
        time=reader.queries.now(),
        items=items,
        columns=(
            ItemColumn(Column("DEPLOYED", 0), lambda one, style: style.time(one.at)),
            ItemColumn(Column("LABEL", 0, 12), lambda one, _style: one.label),
        ),
        id_of=lambda one: str(one.label),
        document_of=_document,
        searched="the latest 100 marks",
        more=more,
    )


def _document(one: Mark) -> Struct:
    from ha_monitor.query.problem_items import mark_item

    return mark_item(one)
