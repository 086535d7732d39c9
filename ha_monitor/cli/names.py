"""`ha-monitor names`: the runs of each task name: how many, how many failed, how fast, compared with a day before."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import Answer, ItemColumn, add_flags, answer_of, ask_and_show
from ha_monitor.cli.flags import times_asked
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Column

if TYPE_CHECKING:
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor names                           the last hour, most failures first
  ha-monitor names 'shop.*' --sort p95       which are slow
  ha-monitor names --since 02:00 --until 03:00
"""
SORTS = ("failed", "runs", "retried", "p50", "p95", "waited")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "names",
        parents=[common],
        help="list what is run by name: runs, failures, run times, waiting, and a day before",
        description="Lists the runs of each task name in the last hour, or in the time that is asked for, compared "
        "with the same period of the day before. Run times are those of runs that succeeded; they, and what tasks "
        "waited before their latest start, are accurate to a tenth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="only these names; * stands for any text")
    parser.add_argument("--sort", choices=SORTS, default="failed", help="(default: failed)")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List names.

    :raises UsageError: if a time cannot be read.
    """
    from ha_monitor.query.language import parse_filter

    parse_filter(times_asked(options), time.time())
    return ask_and_show(options, lambda _, reader: _answer(options, reader))


def _answer(options: argparse.Namespace, reader: StoreReader) -> Answer:
    from ha_monitor.answers.names import names

    times = times_asked(options)
    found = names(reader, options.pattern, times, options.limit, sort=options.sort, reverse=options.reverse)
    return answer_of(found, ("name", "names"), COLUMNS, lambda one: str(one.now.name))


def _count(name: str) -> Any:
    return lambda one, _style: str(getattr(one.now, name))


def _count_before(name: str) -> Any:
    return lambda one, _style: str(getattr(one.day_before, name))


COLUMNS = (
    ItemColumn(Column("NAME", 0, 16), lambda one, _style: one.now.name),
    ItemColumn(Column("RUNS", 1, right=True), _count("runs")),
    ItemColumn(Column("FAILED", 1, right=True), _count("failed")),
    ItemColumn(Column("RETRIED", 4, right=True), _count("retried")),
    ItemColumn(Column("P50", 3, right=True), lambda one, style: style.duration(one.now.runtime.quantile(0.5))),
    ItemColumn(Column("P95", 2, right=True), lambda one, style: style.duration(one.now.runtime.quantile(0.95))),
    ItemColumn(Column("WAIT-P50", 6, right=True), lambda one, style: style.duration(one.now.waiting.quantile(0.5))),
    ItemColumn(Column("WAIT-P95", 4, right=True), lambda one, style: style.duration(one.now.waiting.quantile(0.95))),
    ItemColumn(Column("RUNS-1D", 5, right=True), _count_before("runs")),
    ItemColumn(Column("FAILED-1D", 5, right=True), _count_before("failed")),
    ItemColumn(
        Column("P95-1D", 7, right=True), lambda one, style: style.duration(one.day_before.runtime.quantile(0.95))
    ),
    ItemColumn(
        Column("WAIT-1D", 8, right=True), lambda one, style: style.duration(one.day_before.waiting.quantile(0.95))
    ),
)
