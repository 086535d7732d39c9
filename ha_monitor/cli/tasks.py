"""`ha-monitor tasks`: lists the tasks that match a filter, newest first."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    Answer,
    Of,
    Style,
    add_flags,
    answered,
    of_result,
    store_of,
    times_asked,
)
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Column
from ha_monitor.text.terminal import standard_error

if TYPE_CHECKING:
    from ha_monitor.config.load import Loaded
    from ha_monitor.query.search import Order
    from ha_monitor.store.queries import KeptTask
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
filters, all of which must hold; values by comma, * for any text:
  state=FAILURE,RETRY  state=open  name='shop.*'  queue=celery  worker='celery@app*'
  error=0f3c52a9be  exception~KeyError  'runtime>5s'  'retries>0'  task_id=… root=… parent=…  arg~order-17
  'queue_time>1m'  'runs>1'  reconciled=yes  incomplete=yes  since=-1h  until=02:00

examples:
  ha-monitor tasks state=FAILURE name='shop.*' --since -1h
  ha-monitor tasks state=STARTED 'runtime>10m' -r      what has been running for long, the oldest first
  ha-monitor tasks state=open -o ids -n 0 | wc -l
"""
FOLLOWED = 200
"""Tasks that are looked at each time while following."""
INTERVAL = 2.0
"""Seconds between two looks while following."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "tasks",
        parents=[common],
        help="list the tasks that match, newest first",
        description="Lists tasks, newest first: by when they ended if only failures, rejections and revocations are "
        "asked for, otherwise by when their first event was sent. A remark below the list says what was searched, and "
        "what may be missing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="FILTER", help="conditions such as FIELD=VALUE, see below")
    parser.add_argument("-f", "--follow", action="store_true", help="keep showing changes until interrupted")
    parser.add_argument("--sort", metavar="FIELD", help="by a field, the largest first")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List tasks.

    :raises UsageError: if the filter cannot be read.
    """
    from ha_monitor.query.language import parse_filter

    words = [*options.words, *times_asked(options)]
    parse_filter(words, time.time())  # report errors in the filter before asking the store
    order = _order(options)
    if options.follow:
        return _follow(options, words)
    return answered(options, lambda loaded, reader: _answer(loaded, reader, words, options.limit, order))


def _order(options: argparse.Namespace) -> Order:
    from ha_monitor.query.fields import Kind
    from ha_monitor.query.language import field_named, sortable
    from ha_monitor.query.search import Order

    if options.sort is None:
        return Order("", options.reverse)
    field = field_named(options.sort, sortable())
    if field.kind is Kind.TIME:
        raise UsageError(f"--sort {options.sort}: the newest come first anyway, with -r the oldest")
    return Order(field.name, options.reverse)


def _answer(loaded: Loaded, reader: StoreReader, words: list[str], limit: int, order: Order) -> Answer:
    from ha_monitor.answers.tasks import tasks
    from ha_monitor.clock import SystemClock
    from ha_monitor.query.fields import BAD_ENDS
    from ha_monitor.query.language import parse_filter

    found = tasks(reader, loaded.config, SystemClock(), words, limit, order=order)
    by_end = parse_filter(words, found.time).states <= BAD_ENDS
    return of_result(found, ("task", "tasks"), columns(by_end=by_end), lambda task: str(task.record.task_id))


def columns(*, by_end: bool) -> list[Of]:
    """The columns of a list of tasks.

    :param by_end: whether the tasks are listed by when they ended.
    """
    from ha_monitor.query.fields import first_heard, last_heard, queue_time_of, runtime_of

    def record(name: str) -> Any:
        return lambda task, _style: str(getattr(task.record, name) or "")

    def state(task: KeptTask, style: Style) -> Any:
        return style.state(task.record.state)

    def count(name: str) -> Any:
        return lambda task, _style: str(getattr(task.record, name) or "")

    ended = Of(Column("ENDED", 2), lambda task, style: style.time(task.record.finished), wide=not by_end)
    sent = Of(Column("SENT", 2), lambda task, style: style.time(first_heard(task)), wide=by_end)
    return [
        Of(Column("ID", 0), record("task_id"), is_id=True),
        Of(Column("STATE", 1), state),
        *([ended, sent] if by_end else [sent, ended]),
        Of(Column("NAME", 3, 12), record("name")),
        Of(Column("RUNTIME", 5, right=True), lambda task, style: style.duration(runtime_of(task, style.now))),
        Of(Column("WAITED", 8, right=True), lambda task, style: style.duration(queue_time_of(task, style.now))),
        Of(Column("RETRIES", 9, right=True), count("retries")),
        Of(Column("QUEUE", 7, 6), record("queue")),
        Of(Column("WORKER", 6, 10), record("worker")),
        Of(Column("EXCEPTION", 4, 16), record("exception")),
        Of(Column("ERROR", 9), record("error_group"), wide=True),
        Of(Column("RUNS", 10, right=True), count("runs"), wide=True),
        Of(Column("HEARD", 11), lambda task, style: style.time(last_heard(task)), wide=True),
        Of(Column("ETA", 12), lambda task, style: style.time(task.record.eta), wide=True),
        Of(Column("ROOT", 13, 9), record("root_id"), wide=True),
        Of(Column("PARENT", 14, 9), record("parent_id"), wide=True),
    ]


def _follow(options: argparse.Namespace, words: list[str]) -> ExitStatus:
    """Show each matching task when its state changes, latest change last, until interrupted."""
    seen: dict[str, str] = {}
    first = True
    while True:
        from ha_monitor.cli.answers import show
        from ha_monitor.query.search import BY_TIME

        with store_of(options) as (loaded, reader):
            answer = _answer(loaded, reader, words, FOLLOWED if not first else options.limit, BY_TIME)
        new = [task for task in reversed(answer.items) if seen.get(task.record.task_id) != task.record.state]
        seen |= {task.record.task_id: task.record.state for task in new}
        if new:
            show(answer._replace(items=new, more=False), options)
        if first and not options.no_legend:
            standard_error().row("following; ^C ends it")
            options.no_legend = True
        first = False
        time.sleep(INTERVAL)
