"""`ha-monitor workers`: lists the workers, and what they do."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    MIN_ID_LENGTH,
    Answer,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    ask_and_show,
    output_of,
    terminal_width,
)
from ha_monitor.cli.queues import rate as per_second
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out
from ha_monitor.text.terminal import standard_output
from ha_monitor.text.times import duration

if TYPE_CHECKING:
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.workers import SeenWorker
    from ha_monitor.store.reader import StoreReader

RECENT = "-1h"
"""Since when the failures on a worker are listed."""
MAX_SHOWN = 3
"""Ids that are shown per fate of a lost worker's tasks."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "workers",
        parents=[common],
        help="list the workers; for a single worker, also what it runs now, and what failed there",
        description="Lists workers, lost ones first. With a name, in which * stands for any text, only "
        "those; for a single worker, also the tasks that it has, the oldest first, what failed, was rejected or "
        "revoked there in the last hour, and if it is lost, what became of the tasks that it had. Exit status 1 if "
        "there is none of that name.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a nodename, such as celery@app1")
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List workers; if there is only one, with its tasks and failures."""

    def below(answer: Answer) -> None:
        if options.name is not None and len(answer.items) == 1 and options.output in ("table", "wide"):
            _write_tasks(answer.items[0], options)

    return ask_and_show(options, partial(_answer, options), named=options.name, below=below)


def _write_tasks(one: SeenWorker, options: argparse.Namespace) -> None:
    """Write the open tasks of a worker, and those that ended badly there."""
    from ha_monitor.cli import tasks
    from ha_monitor.text.patterns import quoted

    _write_lost_tasks(one, options)
    worker = f"worker={quoted(one.entry.name)}"
    for words, oldest_first in (
        ([worker, "state=RECEIVED,STARTED"], True),
        ([worker, "state=FAILURE,REJECTED,REVOKED", f"since={RECENT}"], False),
    ):
        # Each list is what `ha-monitor tasks` answers, including what it searched.
        more = argparse.Namespace(**{**vars(options), "words": words, "reverse": oldest_first})
        more.since = more.until = more.sort = more.watch = None
        more.follow, more.limit = False, 20
        standard_output().row("")
        tasks.run(more)


def _write_lost_tasks(one: SeenWorker, options: argparse.Namespace) -> None:
    """Write what became of the tasks that a lost worker had."""
    if one.left is None:
        return
    output = output_of(options)
    fates = [(fate, ids) for fate, ids in one.left.items() if ids]
    count = sum(len(ids) for _, ids in fates)
    output.row("")
    if not fates:
        output.row("No task that it had when it was lost is known.")
        return
    output.row(f"Of the {count} tasks that it had when it was lost:" if count > 1 else "Of the task that it had:")
    header = [Column("  FATE", 0), Column("TASKS", 1, right=True), Column("FIRST", 2, MIN_ID_LENGTH)]
    rows: list[list[Cell]] = [[f"  {fate}", str(len(ids)), " ".join(ids[:MAX_SHOWN])] for fate, ids in fates]
    for row in laid_out(header, rows, output.shown, width=terminal_width(), legend=not options.no_legend):
        output.row(*row)


def _answer(options: argparse.Namespace, loaded: Loaded, reader: StoreReader) -> Answer:
    from ha_monitor.answers.workers import workers

    found = workers(reader, loaded.config, options.name, options.limit, reverse=options.reverse)
    return answer_of(found, ("worker", "workers"), COLUMNS, lambda one: str(one.entry.name))


def _state(one: SeenWorker, style: Style) -> Cell:
    entry = one.entry
    return style.state(entry.state, ", no task events" if entry.unsent and not entry.sends else "")


def _field(name: str) -> Any:
    return lambda one, _style: "" if one.entry.heartbeat.get(name) is None else str(one.entry.heartbeat[name])


def _load(one: SeenWorker, _style: Style) -> Cell:
    load = one.entry.heartbeat.get("loadavg")
    return " ".join(map(str, load)) if isinstance(load, list) else ""


def _software(one: SeenWorker, _style: Style) -> Cell:
    fields = one.entry.heartbeat
    return " ".join(str(fields[key]) for key in ("sw_ident", "sw_ver") if fields.get(key))


def _clock(one: SeenWorker, _style: Style) -> Cell:
    skew = one.entry.skew
    return f"{duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}" if skew else ""


COLUMNS = (
    ItemColumn(Column("WORKER", 0, 20), lambda one, _style: one.entry.name),
    ItemColumn(Column("STATE", 1), _state),
    ItemColumn(Column("SEEN", 2), lambda one, style: style.time(style.now - one.entry.silent)),
    ItemColumn(Column("ACTIVE", 3, right=True), _field("active")),
    ItemColumn(Column("DONE/S", 4, right=True), lambda one, _style: per_second(one.rate)),
    ItemColumn(Column("FAILED", 5, right=True), lambda one, _style: str(one.failed)),
    ItemColumn(Column("PROCESSED", 9, right=True), _field("processed")),
    ItemColumn(Column("STARTED", 6), lambda one, style: style.time(one.entry.online)),
    ItemColumn(Column("SOFTWARE", 7), _software),
    ItemColumn(Column("CLOCK", 8), _clock),
    ItemColumn(Column("LOAD", 10), _load),
)
