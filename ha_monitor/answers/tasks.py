"""The tasks that match a filter, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from ha_monitor.answers.result import Result
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import UsageError
from ha_monitor.query.fields import BAD_ENDS
from ha_monitor.query.items import task_item
from ha_monitor.query.language import parse_filter
from ha_monitor.query.search import BY_TIME, Order, Search, when
from ha_monitor.query.unknown import unknown_values
from ha_monitor.store.reader import StoreReader


def tasks(
    reader: StoreReader, config: Config, clock: Clock, words: Sequence[str], limit: int = 20, *, order: Order = BY_TIME
) -> Result:
    """The first `limit` tasks that match a filter; 0 for all.

    :raises UsageError: if a word of the filter is not a condition.
    :raises StoreUnavailable: as the reader does.
    """

    def workers() -> list[str] | None:
        read = reader.workers(config.workers.late_after)
        return None if read.more else [one.name for one in read.entries]

    asked = parse_filter(words, reader.queries.now())
    found = Search(reader.queries, clock, keeps_open=config.stuck.enabled).find(asked, limit, order)
    after = ""
    if found.more and not order.field and found.tasks:
        last = found.tasks[-1]
        after = f"{when(last, by_end=asked.states <= BAD_ENDS)!r}:{last.task_id}"
    gaps = found.gaps if found.tasks else [*unknown_values(asked, reader.queries, workers), *found.gaps]
    return Result(found.time, found.tasks, task_item, found.searched, gaps, found.more, after)


def place_of(after: str) -> tuple[float, str] | None:
    """The task after which a list continues, parsed from `Result.after`; None for the beginning of the list.

    :raises UsageError: if the text is not such a place.
    """
    if not after:
        return None
    time, colon, task_id = after.partition(":")
    try:
        at = float(time)
    except ValueError:
        colon = ""
    if not colon or not isfinite(at):
        raise UsageError("after: expected what the list before it ended with")
    return at, task_id
