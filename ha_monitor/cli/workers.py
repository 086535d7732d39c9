"""`ha-monitor workers`: which workers there are, and what they do."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import Answer, Of, Style, add_flags, answered
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column
from ha_monitor.text.terminal import standard_output
from ha_monitor.text.times import duration

if TYPE_CHECKING:
    from msgspec import Struct

    from ha_monitor.config.load import Loaded
    from ha_monitor.store.reader import StoreReader, WorkerEntry

_STATES = ("lost", "late", "online", "offline")
"""Those first that somebody must look at."""
RECENT = "-1h"
"""Since when the failures of a worker are listed."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "workers",
        parents=[common],
        help="list the workers; of one also what it runs now, and what failed there",
        description="Lists workers, those first that are lost. With a name, in which * stands for any text, only "
        "those; of a single one also the tasks that it has, the oldest first, and what failed, was rejected or revoked "
        "there in the last hour. Exit status 1 if there is none of that name.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a nodename, such as celery@app1")
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List workers, and of a single one its tasks and its failures."""
    found: list[WorkerEntry] = []

    def ask(loaded: Loaded, reader: StoreReader) -> Answer:
        answer = _answer(options, loaded, reader)
        found[:] = answer.items
        return answer

    from ha_monitor.cli import tasks

    status = answered(options, ask, named=options.name)
    if options.name is None or len(found) != 1:
        return status
    if options.output in ("table", "wide"):
        from ha_monitor.query.language import quoted

        worker = f"worker={quoted(found[0].name)}"
        for words, oldest_first in (
            ([worker, "state=RECEIVED,STARTED"], True),
            ([worker, "state=FAILURE,REJECTED,REVOKED", f"since={RECENT}"], False),
        ):
            # Each is what `ha-monitor tasks` answers, with what it searched.
            more = argparse.Namespace(**{**vars(options), "words": words, "reverse": oldest_first})
            more.since = more.until = more.sort = None
            more.follow, more.limit = False, 20
            standard_output().row("")
            tasks.run(more)
    return status


def _answer(options: argparse.Namespace, loaded: Loaded, reader: StoreReader) -> Answer:
    from ha_monitor.query.language import Pattern, split_values
    from ha_monitor.store.queries import Gap

    read = reader.workers(loaded.config.workers.late_after)
    entries = read.entries
    if options.name is not None:
        wanted = [Pattern(parts) for parts in split_values(options.name)]
        entries = [one for one in entries if any(pattern.matches(one.name) for pattern in wanted)]
    entries = sorted(entries, key=lambda one: (_STATES.index(one.state) if one.state in _STATES else 0, one.name))
    if options.reverse:
        entries.reverse()
    limit = options.limit or len(entries)
    gaps = [Gap(f"{read.more} workers that have been silent for longer", 0, 0)] if read.more else []
    return Answer(
        nouns=("worker", "workers"),
        time=time.time(),
        items=entries[:limit],
        columns=COLUMNS,
        id_of=lambda entry: str(entry.name),
        document_of=_document,
        searched="all workers that an instance has heard of"
        if not read.more
        else f"the {len(read.entries)} heard of last",
        gaps=gaps,
        more=len(entries) > limit,
    )


def _document(entry: WorkerEntry) -> Struct:
    from ha_monitor.status.workers import worker_of

    return worker_of(entry)


def _state(entry: WorkerEntry, style: Style) -> Cell:
    return style.state(entry.state, ", no task events" if entry.unsent and not entry.sends else "")


def _field(name: str) -> Any:
    return lambda entry, _style: "" if entry.heartbeat.get(name) is None else str(entry.heartbeat[name])


def _load(entry: WorkerEntry, _style: Style) -> Cell:
    load = entry.heartbeat.get("loadavg")
    return " ".join(map(str, load)) if isinstance(load, list) else ""


def _software(entry: WorkerEntry, _style: Style) -> Cell:
    return " ".join(str(entry.heartbeat[key]) for key in ("sw_ident", "sw_ver") if entry.heartbeat.get(key))


def _clock(entry: WorkerEntry, _style: Style) -> Cell:
    if not entry.skew:
        return ""
    return f"{duration(abs(entry.skew))} {'ahead' if entry.skew > 0 else 'behind'}"


COLUMNS = (
    Of(Column("WORKER", 0, 20), lambda entry, _style: entry.name),
    Of(Column("STATE", 1), _state),
    Of(Column("SEEN", 2), lambda entry, style: style.time(style.now - entry.silent)),
    Of(Column("ACTIVE", 3, right=True), _field("active")),
    Of(Column("PROCESSED", 6, right=True), _field("processed")),
    Of(Column("STARTED", 4), lambda entry, style: style.time(entry.online)),
    Of(Column("SOFTWARE", 5), _software),
    Of(Column("CLOCK", 7), _clock),
    Of(Column("LOAD", 8), _load),
)
