"""`ha-monitor tasks`: lists the tasks that match a filter, newest first."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import (
    Answer,
    ItemColumn,
    Style,
    add_flags,
    answer_of,
    ask_and_show,
    noting_no_instance,
    store_of,
)
from ha_monitor.cli.flags import refuse, times_asked
from ha_monitor.cli.sentence import gaps_text
from ha_monitor.errors import StoreUnavailable, UsageError
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
FOLLOW_LIMIT = 200
"""Tasks that are looked at each time while following."""
INTERVAL = 2.0
"""Seconds between two looks while following."""
MAX_REMEMBERED = 10_000
"""Tasks whose states are remembered while following."""


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

    :raises UsageError: if the filter cannot be read, or flags do not go together.
    """
    from ha_monitor.query.language import parse_filter

    words = [*options.words, *times_asked(options)]
    parse_filter(words, time.time())  # report errors in the filter before asking the store
    order = _order(options)
    if options.follow:
        refuse(options, "sort", "reverse", "watch", "fail_if_any", "fail_if_none", beside="--follow")
        return _follow(options, words)
    return ask_and_show(options, lambda loaded, reader: _answer(loaded, reader, words, options.limit, order))


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
    return answer_of(found, ("task", "tasks"), columns(by_end=by_end), lambda task: str(task.record.task_id))


def columns(*, by_end: bool) -> list[ItemColumn]:
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

    ended = ItemColumn(Column("ENDED", 2), lambda task, style: style.time(task.record.finished), wide=not by_end)
    sent = ItemColumn(Column("SENT", 2), lambda task, style: style.time(first_heard(task)), wide=by_end)
    return [
        ItemColumn(Column("ID", 0), record("task_id"), is_id=True),
        ItemColumn(Column("STATE", 1), state),
        *([ended, sent] if by_end else [sent, ended]),
        ItemColumn(Column("NAME", 3, 12), record("name")),
        ItemColumn(Column("RUNTIME", 5, right=True), lambda task, style: style.duration(runtime_of(task, style.now))),
        ItemColumn(Column("WAITED", 8, right=True), lambda task, style: style.duration(queue_time_of(task, style.now))),
        ItemColumn(Column("RETRIES", 9, right=True), count("retries")),
        ItemColumn(Column("QUEUE", 7, 6), record("queue")),
        ItemColumn(Column("WORKER", 6, 10), record("worker")),
        ItemColumn(Column("EXCEPTION", 4, 16), record("exception")),
        ItemColumn(Column("ERROR", 9), record("error_group"), wide=True),
        ItemColumn(Column("RUNS", 10, right=True), count("runs"), wide=True),
        ItemColumn(Column("HEARD", 11), lambda task, style: style.time(last_heard(task)), wide=True),
        ItemColumn(Column("ETA", 12), lambda task, style: style.time(task.record.eta), wide=True),
        ItemColumn(Column("ROOT", 13, 9), record("root_id"), wide=True),
        ItemColumn(Column("PARENT", 14, 9), record("parent_id"), wide=True),
    ]


class ChangeFinder:
    """Finds what changed from one look at a list to the next."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        """Task → its state at the latest look; the least recently seen first."""
        self._has_looked = False
        self.skips = False
        """Whether tasks may have been missed between the two latest looks: all tasks of the latest one were new."""

    def changed(self, tasks: Sequence[KeptTask], *, more: bool) -> list[KeptTask]:
        """The tasks whose state differs from the previous look, the newest last.

        :param tasks: the tasks of this look, the newest first.
        :param more: whether there are more tasks than these.
        """
        self.skips = more and self._has_looked and all(one.task_id not in self._states for one in tasks)
        self._has_looked = True
        new = [one for one in reversed(tasks) if self._states.get(one.task_id) != one.state]
        for one in tasks:
            self._states.pop(one.task_id, None)
            self._states[one.task_id] = one.state
        for task_id in list(self._states)[: -max(MAX_REMEMBERED, len(tasks))]:
            del self._states[task_id]
        return new


def _follow(options: argparse.Namespace, words: list[str]) -> ExitStatus:
    """Show each matching task when its state changes, latest change last, until interrupted."""
    from ha_monitor.cli.answers import show
    from ha_monitor.query.fields import BAD_ENDS
    from ha_monitor.query.language import parse_filter
    from ha_monitor.query.search import BY_TIME

    def look(limit: int) -> Answer:
        with store_of(options) as (loaded, reader):
            return noting_no_instance(_answer(loaded, reader, words, limit, BY_TIME), loaded, reader)

    def say(text: str) -> None:
        standard_error().row(f"ha-monitor: {text}")

    most, limit, followed = max(FOLLOW_LIMIT, options.limit), options.limit, ChangeFinder()
    answer = look(most if limit else 0)
    followed.changed(answer.items, more=answer.more)
    shown = answer.items[:limit] if limit else answer.items
    show(answer._replace(items=shown[::-1], more=answer.more or len(answer.items) > len(shown)), options)
    if not options.no_legend:
        standard_error().row("following; ^C ends it")
    options.no_legend = True
    # Tasks that ended badly are listed by their ends, so all changes are among the newest.
    says_most = not parse_filter(words, answer.time).states <= BAD_ENDS
    lacks, away = bool(answer.gaps), False
    while True:
        if says_most and (answer.more or len(answer.items) > most):
            say(f"only the {most:,} newest of these tasks are followed; ha-monitor tail shows what becomes of any")
            says_most = False
        time.sleep(INTERVAL)
        try:
            answer = look(most)
        except StoreUnavailable as error:
            if not away:
                say(f"{error}; waiting for it")
            away = True
            continue
        if away:
            say("the store is there again")
        away = False
        if new := followed.changed(answer.items, more=answer.more):
            show(answer._replace(items=new, more=False), options)
        if followed.skips:
            say(f"more than {most:,} tasks came since the look before; the oldest of them may not be shown")
        if answer.gaps and not lacks:
            say(gaps_text(answer.gaps, Style(answer.time, "local").time))
        lacks = bool(answer.gaps)
