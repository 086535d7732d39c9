"""`ha-monitor queues`: what waits in each queue, for how long, and whether it empties."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ha_monitor.cli import tasks
from ha_monitor.cli.answers import Answer, Of, Style, Told, add_flags, answered, first_of, write_properties
from ha_monitor.errors import StoreRefused
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out
from ha_monitor.text.terminal import Painted, Terminal
from ha_monitor.text.times import local, parse_duration, short_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_monitor.config.load import Loaded
    from ha_monitor.query.queues import QueueState
    from ha_monitor.store.queries import Gap, KeptTask, Queries
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor queues                     the latest first
  ha-monitor queues mail                one queue, with the tasks that have waited longest
  ha-monitor queues --within 1h --watch how many more processes would empty each within an hour
"""
NOT_KNOWN = "not known"
UNTOLD = f"{NOT_KNOWN}: producers send no task-sent"
WITHIN = 600.0
"""Seconds in which a queue is to be empty, if nothing else is said."""
_NAMED = 3
LOOKED_AT = 200
"""Open tasks of which it is seen whether their queue is known."""
_LAST = float("-inf")
SORTS: dict[str, Callable[[QueueState, float], Any]] = {
    "oldest": lambda one, _: _LAST if one.wait.oldest is None else -one.wait.oldest,
    "waiting": lambda one, _: one.wait.waiting,
    "in": lambda one, _: one.came,
    "out": lambda one, _: one.left,
    "busy": lambda one, _: one.busy or 0.0,
    "needed": lambda one, within: one.needed(within) or 0,
}


class OneQueue(NamedTuple):
    """A queue, and the tasks that have waited longest in it if it is the only one."""

    state: QueueState
    oldest: Sequence[KeptTask] | None = None


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "queues",
        parents=[common],
        help="list the queues: what waits, for how long, whether it empties, what is needed",
        description="Lists the queues of tasks, the latest first: how many tasks wait, since when the oldest could "
        "have started, how many came and left a second in the last five minutes, when it is empty if that goes on, how "
        "many processes its runs keep busy, and how many more it needs. It is known where producers send task-sent. "
        "With a name, in which * stands for any text, only those; of a single one also the tasks that have waited "
        "longest. Exit status 1 if there is none of that name.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("queue", nargs="?", metavar="NAME", help="name of a queue")
    parser.add_argument("--sort", choices=SORTS, default="oldest", help="(default: oldest)")
    parser.add_argument(
        "--within",
        type=_seconds,
        default=WITHIN,
        metavar="DURATION",
        help="in which time a queue is to be empty with the processes that are needed (default: 10m)",
    )
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    try:
        return max(1.0, parse_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> ExitStatus:
    """List queues, and of a single one the tasks that have waited longest."""
    return answered(options, partial(_answer, options), named=options.queue)


def _answer(options: argparse.Namespace, loaded: Loaded, reader: StoreReader) -> Answer:
    from ha_monitor.query.language import Pattern, split_values
    from ha_monitor.query.queue_items import queue_item
    from ha_monitor.query.queues import queue_states, rates_since

    queries = reader.queries
    now = queries.now()
    wanted = [Pattern(parts) for parts in split_values("*" if options.queue is None else options.queue)]
    states = queue_states(queries, now, lambda name: any(pattern.matches(name) for pattern in wanted))
    states.sort(key=lambda one: (one.is_told, SORTS[options.sort](one, options.within)), reverse=True)
    shown, more = first_of(states, options)
    items = [OneQueue(state) for state in shown]
    is_one = options.queue is not None and len(items) == 1
    if is_one:
        items = [OneQueue(items[0].state, oldest_tasks(queries, items[0].state, options.limit or 20))]
    gaps = [*queries.gaps(rates_since(now), now), *_untold(queries, [one.state for one in items])]
    running = _running(loaded, reader) if is_one else ""
    return Answer(
        nouns=("queue", "queues"),
        time=now,
        items=items,
        columns=_columns(options.within),
        id_of=lambda one: str(one.state.name),
        document_of=lambda one: queue_item(one.state, now, options.within, one.oldest),
        searched=f"what waits now, and what came and left since {local(rates_since(now))[:19]}",
        gaps=gaps,
        more=more,
        told=Told(partial(_tell, within=options.within, running=running)) if is_one else None,
    )


def oldest_tasks(queries: Queries, state: QueueState, count: int) -> list[KeptTask]:
    """The tasks that have waited longest in a queue: of all its priorities."""
    from ha_monitor.store.queue_flow import base_of

    names = [one.name for one in queries.known_queues() if base_of(one.name) == state.name]
    waiting = [one for name in names for one in queries.waiting(name, min(count, state.wait.waiting))]
    waiting.sort(key=lambda one: (one[1], one[0]))
    return [task for task in queries.tasks([task_id for task_id, _ in waiting[:count]]) if task is not None]


def _untold(queries: Queries, states: Sequence[QueueState]) -> list[Gap]:
    """Tasks that may wait unseen: in queues of which nobody tells, and if of some open ones nobody told."""
    from ha_monitor.store.queries import Gap

    gaps = []
    if names := [state.name for state in states if not state.is_told]:
        more = f" and {len(names) - _NAMED} more queues" if len(names) > _NAMED else ""
        gaps.append(Gap(f"what waits in {', '.join(names[:_NAMED])}{more}, {UNTOLD}", 0, 0))
    tasks = [task for task in queries.tasks(queries.open(LOOKED_AT)) if task is not None]
    names = sorted({task.record.name or "no name" for task in tasks if task.record.queue is None})
    if names:
        gaps.append(Gap(f"tasks whose producers send no task-sent, such as {', '.join(names[:_NAMED])}", 0, 0))
    return gaps


def _running(loaded: Loaded, reader: StoreReader) -> str:
    """How many tasks all workers run; empty if that cannot be read, as by a user without the right to run scripts."""
    try:
        workers = reader.workers(loaded.config.workers.late_after).entries
    except StoreRefused:
        return ""
    there = [one.heartbeat.get("active") for one in workers if one.state in ("online", "late")]
    told = [int(one) for one in there if isinstance(one, (int, float)) and 0 <= one < _MOST_ACTIVE]
    # What some do not tell is not nothing.
    return f"; all {len(there)} workers run {sum(told)} tasks now" if len(told) == len(there) else ""


_MOST_ACTIVE = 1_000_000
"""Tasks that a worker runs: what says more is no number of tasks."""


def rate(per_second: float) -> str:
    """So many a second, to two digits or three."""
    if per_second == 0 or per_second >= 100:
        return f"{per_second:.0f}"
    return "<0.01" if per_second < 0.01 else f"{per_second:.{1 if per_second >= 10 else 2}f}"


def empty_in(state: QueueState, style: Style) -> Cell:
    """In which time it is empty."""
    from ha_monitor.query.queues import Outlook

    if state.outlook is Outlook.EMPTIES:
        return style.duration(state.empty_in)
    return Painted("never", "31") if state.outlook is Outlook.NEVER else "" if style.seconds else state.outlook


def _in_words(seconds: float) -> str:
    return short_duration(seconds).replace("m0s", "m").replace("h0m", "h")


def needed(state: QueueState, within: float) -> str:
    """How many more processes."""
    count = state.needed(within)
    return NOT_KNOWN if count is None else f"+{count}" if count else "0"


def _if_told(cell: Callable[[QueueState, Style], Cell]) -> Callable[[OneQueue, Style], Cell]:
    return lambda one, style: cell(one.state, style) if one.state.is_told else ""


def _columns(within: float) -> list[Of]:
    def waiting(one: OneQueue, style: Style) -> Cell:
        return str(one.state.wait.waiting) if one.state.is_told else "" if style.seconds else NOT_KNOWN

    def age(state: QueueState, style: Style) -> Cell:
        return style.duration(None if state.wait.oldest is None else max(0.0, style.now - state.wait.oldest))

    def busy(state: QueueState, _style: Style) -> Cell:
        return NOT_KNOWN if state.busy is None else rate(state.busy)

    return [
        Of(Column("QUEUE", 0, 12), lambda one, _: one.state.name),
        Of(Column("WAITING", 1, right=True), waiting),
        Of(Column("OLDEST", 2, right=True), _if_told(age)),
        Of(Column("IN/S", 4, right=True), _if_told(lambda state, _: rate(state.came))),
        Of(Column("OUT/S", 5, right=True), _if_told(lambda state, _: rate(state.left))),
        Of(Column("EMPTY-IN", 3, right=True), _if_told(empty_in)),
        Of(Column("RUN", 9, right=True), _if_told(lambda state, style: style.duration(state.run_time))),
        Of(Column("BUSY", 7, right=True), _if_told(busy)),
        Of(Column("NEEDED", 6, right=True), _if_told(lambda state, _: needed(state, within))),
        Of(Column("LATER", 10, right=True), _if_told(lambda state, _: str(state.wait.later or ""))),
        Of(Column("CONSUMED", 8), lambda one, style: style.time(one.state.consumed_at)),
    ]


def _tell(one: OneQueue, style: Style, output: Terminal, width: int | None, *, within: float, running: str) -> None:
    """Write all about a queue, and the tasks that have waited longest."""
    from math import inf

    state = one.state
    output.row(f"{state.name}")
    rates = f"{rate(state.came)} a second come, {rate(state.left)} leave"
    busy = NOT_KNOWN if state.busy is None else rate(state.busy)
    more = f"{needed(state, inf)} to keep up, {needed(state, within)} to be empty within {_in_words(within)}"
    emptying = empty_in(state, style)
    known: dict[str, str | None] = {"waiting": UNTOLD}
    if state.is_told:
        oldest = state.wait.oldest
        known = {
            "waiting": str(state.wait.waiting),
            "oldest": None if oldest is None else f"{style.time(oldest)}, {short_duration(style.now - oldest)} ago",
            "later": f"{state.wait.later}, whose eta is to come" if state.wait.later else None,
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
