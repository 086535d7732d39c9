"""`ha-monitor task`: what became of a task."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ha_monitor.cli import tasks
from ha_monitor.cli.answers import (
    MIN_ID_LENGTH,
    Answer,
    DetailView,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    as_typed,
    ask_and_show,
    write_properties,
)
from ha_monitor.cli.id_argument import an_id
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out, unique_beginning
from ha_monitor.text.terminal import Painted, Terminal, standard_error
from ha_monitor.text.times import short_duration

if TYPE_CHECKING:
    from ha_monitor.answers.task import OneTask
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.story import Step
    from ha_monitor.query.tree import Branch, Leg, Tree
    from ha_monitor.store.queries import KeptTask
    from ha_monitor.store.reader import StoreReader

ALONE = (
    "The tree is known by the parents that events name. A group or chord that a client sent has none: each of its "
    "tasks is a root of its own."
)


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "task",
        parents=[common],
        help="show the history of a task: each event, its run, what it waits for",
        description="Tells what became of tasks: each event with the time from the one before, deliveries, runs and "
        "retries, and what an open one waits for. The beginning of an id is enough if no other begins so. Exit status "
        "1 if there is no such task, or several.",
    )
    parser.add_argument("ids", nargs="+", type=an_id, metavar="ID", help="id of a task, or its beginning")
    parser.add_argument(
        "--tree", action="store_true", help="also the workflow that it is a part of, and what took its time"
    )
    add_flags(parser, limit=None, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Show the stories of tasks."""
    missing: list[str] = []

    def ask(loaded: Loaded, reader: StoreReader) -> Answer:
        missing.clear()
        return _answer(options, loaded, reader, missing)

    status = ask_and_show(options, ask)
    return ExitStatus.FAILURE if missing else status


def _answer(options: argparse.Namespace, loaded: Loaded, reader: StoreReader, missing: list[str]) -> Answer:
    from ha_monitor.answers.task import task_stories

    meant: list[KeptTask] = []
    for text in options.ids:
        task = _meant(text, reader)
        if task is None:
            missing.append(text)
        else:
            meant.append(task)
    found = task_stories(reader, loaded.config, meant, with_tree=options.tree)
    columns = [of._replace(cell=_of_task(of)) for of in tasks.columns(by_end=False)]
    detail_view = DetailView(_write_details, ALONE if options.tree else "")
    return answer_of(
        found, ("task", "tasks"), columns, lambda one: str(one.task.record.task_id), detail_view=detail_view
    )


def _of_task(of: ItemColumn) -> Any:
    return lambda one, style: of.cell(one.task, style)


def _meant(text: str, reader: StoreReader) -> KeptTask | None:
    """The task that somebody named; if there is none, or several, report that and return None."""
    from ha_monitor.clock import SystemClock
    from ha_monitor.query.id_prefix import MAX_CANDIDATES, candidates

    found = candidates(text, reader.queries, SystemClock())
    if len(found.ids) == 1:
        return reader.queries.tasks(found.ids)[0]
    error, shown = standard_error(), as_typed(text)
    if not found.ids:
        error.row(
            f"ha-monitor: {shown}: no task has this id, and none begins so among {found.searched}; "
            "for all others the full id is needed"
        )
        return None
    more = len(found.ids) > MAX_CANDIDATES
    error.row(f"ha-monitor: {shown}: {'more than ' if more else ''}{len(found.ids) - more} tasks begin so:")
    for task in reader.queries.tasks(found.ids[:MAX_CANDIDATES]):
        if task is not None:
            error.row(f"  {task.record.task_id}  {task.record.state}  {task.record.name or ''}")
    return None


def _write_details(one: OneTask, style: Style, output: Terminal, width: int | None) -> None:
    """Write everything about a task."""
    from ha_monitor.query.story import steps_of

    record = one.task.record
    output.row(Painted(record.name or "(name unknown)", "1"), "  ", style.state(record.state))
    write_properties(_properties(one.task, style), output, width)
    output.row("")
    steps: list[list[Cell]] = [
        [style.time(step.time), _after(step.after), step.type, _note(step)] for step in steps_of(one.task)
    ]
    header = [Column("  TIME", 0), Column("AFTER", 1, right=True), Column("EVENT", 0), Column("", 2)]
    _write(header, [[f"  {step[0]}", *step[1:]] for step in steps], output, width)
    for remark in one.remarks:
        output.row(f"  {remark}")
    if one.tree is not None:
        _tell_tree(one.tree, one.path, style, output, width)


def _properties(task: KeptTask, style: Style) -> dict[str, str | None]:
    from ha_monitor.query.fields import queue_time_of, runtime_of

    record = task.record
    root = record.root_id if record.root_id != record.task_id else None
    retries = "1 retry" if record.retries == 1 else f"{record.retries} retries"
    runs = "1 run" if record.runs == 1 else f"{record.runs} runs"
    return {
        "id": record.task_id,
        "exception": record.exception,
        "error": record.error_group,
        "queue": record.queue,
        "worker": record.worker,
        "waited": style.duration(queue_time_of(task, style.now)),
        "ran": style.duration(runtime_of(task, style.now)),
        "eta": style.time(record.eta),
        "again": f"{retries}, {runs}" if record.retries or record.runs > 1 else "",
        "root": root,
        "parent": record.parent_id,
        "args": record.args,
        "kwargs": record.kwargs,
    }


def _note(step: Step) -> str:
    return ", ".join(filter(None, (step.note, f"error {step.error}" if step.error else "")))


def _after(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{'-' if seconds < 0 else '+'}{short_duration(abs(seconds))}"


def _write(header: Sequence[Column], rows: Sequence[Sequence[Cell]], output: Terminal, width: int | None) -> None:
    for row in laid_out(header, rows, output.shown, width=width):
        output.row(*row)


def _tell_tree(tree: Tree, path: Sequence[Leg], style: Style, output: Terminal, width: int | None) -> None:
    from ha_monitor.query.tree import branches

    output.row("")
    output.row(Painted(f"The tree of {tree.root_id}: {len(tree.tasks)} task{'' if len(tree.tasks) == 1 else 's'}", "1"))
    least = 1 + unique_beginning(list(tree.tasks), MIN_ID_LENGTH)
    ids = Column("ID", 1, least)
    header = [
        Column("  NAME", 0, 20),
        Column("STATE", 0),
        Column("WAITED", 3, right=True),
        Column("RAN", 2, right=True),
        ids,
    ]
    _write(header, [_branch(branch, style) for branch in branches(tree)], output, width)
    if len(path) < 2:
        return
    waited, ran = sum(leg.waited or 0.0 for leg in path), sum(leg.ran or 0.0 for leg in path)
    output.row("")
    output.row(
        Painted("The critical path", "1"),
        f": {len(path)} tasks, which waited {short_duration(waited)} and ran {short_duration(ran)}",
    )
    header = [
        Column("  NAME", 0, 20),
        Column("STATE", 0),
        Column("WAITED", 0, right=True),
        Column("RAN", 0, right=True),
        ids,
    ]
    _write(header, [_leg(leg, style) for leg in path], output, width)


def _branch(branch: Branch, style: Style) -> list[Cell]:
    from ha_monitor.query.fields import queue_time_of, runtime_of

    first = branch.tasks[0]
    name = f"{'  ' * (branch.depth + 1)}{first.record.name or '(name unknown)'}"
    if len(branch.tasks) == 1:
        waited, ran = queue_time_of(first, style.now), runtime_of(first, style.now)
        state = style.state(first.record.state)
        return [name, state, style.duration(waited), style.duration(ran), first.record.task_id]
    states = Counter(str(one.record.state) for one in branch.tasks)
    below = f", {branch.below} below" if branch.below else ""
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return [f"{name} x {len(branch.tasks)}{below}", counts, "", "", ""]


def _leg(leg: Leg, style: Style) -> list[Cell]:
    record = leg.task.record
    name = f"  {record.name or '(name unknown)'}"
    return [name, style.state(record.state), style.duration(leg.waited), style.duration(leg.ran), record.task_id]
