"""`ha-monitor queues`: what waits in each queue, for how long, and whether it empties."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from ha_monitor.cli import tasks
from ha_monitor.cli.answers import (
    Answer,
    DetailView,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    ask_and_show,
    write_properties,
)
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out
from ha_monitor.text.terminal import Painted, Terminal
from ha_monitor.text.times import parse_duration, short_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_monitor.answers.queues import OneQueue
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.queues import QueueState
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor queues                     longest waiting first
  ha-monitor queues mail                one queue, with the tasks that have waited longest
  ha-monitor queues --within 1h --watch how many more processes would empty each within an hour
"""
NOT_KNOWN = "not known"
SORTS = ("oldest", "waiting", "in", "out", "busy", "needed")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "queues",
        parents=[common],
        help="list the queues: what waits, for how long, whether it empties, what is needed",
        description="Lists the queues of tasks, longest waiting first: how many tasks wait, since when the oldest "
        "could have started, how many came and left a second in the last five minutes, when it is empty if that goes "
        "on, how many processes its runs keep busy, and how many more it needs. This is known only where producers "
        "send task-sent. With a name, in which * stands for any text, only those; of a single one also the tasks that "
        "have waited longest. Exit status 1 if there is none of that name.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("queue", nargs="?", metavar="NAME", help="name of a queue")
    parser.add_argument("--sort", choices=SORTS, default="oldest", help="(default: oldest)")
    parser.add_argument(
        "--within",
        type=_seconds,
        default=600.0,
        metavar="DURATION",
        help="time in which a queue should become empty with the processes that are needed (default: 10m)",
    )
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    try:
        return max(1.0, parse_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> ExitStatus:
    """List queues; if there is only one, with the tasks that have waited longest."""
    return ask_and_show(options, partial(_answer, options), named=options.queue)


def _answer(options: argparse.Namespace, loaded: Loaded, reader: StoreReader) -> Answer:
    from ha_monitor.answers.queues import queues

    pattern, within = options.queue, options.within
    found = queues(reader, pattern, options.limit, sort=options.sort, reverse=options.reverse, within=within)
    detail_view = None
    if pattern is not None and len(found.items) == 1:
        detail_view = DetailView(partial(_write_details, within=within, running=_running(loaded, reader)))
    return answer_of(
        found, ("queue", "queues"), _columns(within), lambda one: str(one.state.name), detail_view=detail_view
    )


def _running(loaded: Loaded, reader: StoreReader) -> str:
    """How many tasks all workers are running; empty if that is not known."""
    from ha_monitor.answers.queues import running

    known = running(lambda: reader.workers(loaded.config.workers.late_after))
    return "" if known is None else f"; all {known.workers} workers run {known.tasks} tasks now"


def rate(per_second: float) -> str:
    """A rate per second, with two or three digits."""
    if per_second == 0 or per_second >= 100:
        return f"{per_second:.0f}"
    return "<0.01" if per_second < 0.01 else f"{per_second:.{1 if per_second >= 10 else 2}f}"


def empty_in(state: QueueState, style: Style) -> Cell:
    """How long until the queue is empty."""
    from ha_monitor.query.queues import Outlook

    if state.outlook is Outlook.EMPTIES:
        return style.duration(state.empty_in)
    return Painted("never", "31") if state.outlook is Outlook.NEVER else "" if style.seconds else state.outlook


def _in_words(seconds: float) -> str:
    return short_duration(seconds).replace("m0s", "m").replace("h0m", "h")


def needed(state: QueueState, within: float) -> str:
    """The number of additional processes."""
    count = state.needed(within)
    return NOT_KNOWN if count is None else f"+{count}" if count else "0"


def _if_reported(cell: Callable[[QueueState, Style], Cell]) -> Callable[[OneQueue, Style], Cell]:
    return lambda one, style: cell(one.state, style) if one.state.has_producers else ""


def _columns(within: float) -> list[ItemColumn]:
    def waiting(one: OneQueue, style: Style) -> Cell:
        return str(one.state.wait.waiting) if one.state.has_producers else "" if style.seconds else NOT_KNOWN

    def age(state: QueueState, style: Style) -> Cell:
        return style.duration(None if state.wait.oldest is None else max(0.0, style.now - state.wait.oldest))

    def busy(state: QueueState, _style: Style) -> Cell:
        return NOT_KNOWN if state.busy is None else rate(state.busy)

    return [
        ItemColumn(Column("QUEUE", 0, 12), lambda one, _: one.state.name),
        ItemColumn(Column("WAITING", 1, right=True), waiting),
        ItemColumn(Column("OLDEST", 2, right=True), _if_reported(age)),
        ItemColumn(Column("IN/S", 4, right=True), _if_reported(lambda state, _: rate(state.came))),
        ItemColumn(Column("OUT/S", 5, right=True), _if_reported(lambda state, _: rate(state.left))),
        ItemColumn(Column("EMPTY-IN", 3, right=True), _if_reported(empty_in)),
        ItemColumn(Column("RUN", 9, right=True), _if_reported(lambda state, style: style.duration(state.run_time))),
        ItemColumn(Column("BUSY", 7, right=True), _if_reported(busy)),
        ItemColumn(Column("NEEDED", 6, right=True), _if_reported(lambda state, _: needed(state, within))),
        ItemColumn(Column("LATER", 10, right=True), _if_reported(lambda state, _: str(state.wait.later or ""))),
        ItemColumn(Column("CONSUMED", 8), lambda one, style: style.time(one.state.consumed_at)),
    ]


def _write_details(
    one: OneQueue, style: Style, output: Terminal, width: int | None, *, within: float, running: str
) -> None:
    """Write everything about a queue, and the tasks that have waited longest."""
    from math import inf

    from ha_monitor.answers.queues import NOT_REPORTED

    state = one.state
    output.row(f"{state.name}")
    rates = f"{rate(state.came)} a second come, {rate(state.left)} leave"
    busy = NOT_KNOWN if state.busy is None else rate(state.busy)
    more = f"{needed(state, inf)} to keep up, {needed(state, within)} to be empty within {_in_words(within)}"
    emptying = empty_in(state, style)
    known: dict[str, str | None] = {"waiting": NOT_REPORTED}
    if state.has_producers:
        oldest = state.wait.oldest
        known = {
            "waiting": str(state.wait.waiting),
            "oldest": None if oldest is None else f"{style.time(oldest)}, {short_duration(style.now - oldest)} ago",
            "later": f"{state.wait.later}, with an eta in the future" if state.wait.later else None,
            "rates": rates,
            "empty in": emptying.text if isinstance(emptying, Painted) else emptying,
            "a run": None if state.run_time is None else short_duration(state.run_time),
            "busy": f"{busy} processes on average{running}",
            "needed": f"more processes: {more}",
        }
    known["consumed"] = style.time(state.consumed_at) or "not known: the leader has found no worker that consumes it"
    write_properties(known, output, width)
    if not one.oldest:
        return
    output.row("")
    shown = style._replace(times="relative")
    columns = [of for of in tasks.columns(by_end=False) if not of.wide]
    rows = [[of.cell(task, shown) for of in columns] for task in one.oldest]
    for row in laid_out([of.column for of in columns], rows, output.shown, width=width):
        output.row(*row)
