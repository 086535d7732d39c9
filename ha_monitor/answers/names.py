"""The runs by name, compared with the same period of the day before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ha_monitor.answers.result import Result
from ha_monitor.query.items import name_item
from ha_monitor.query.language import Pattern, parse_filter, split_values
from ha_monitor.query.statistics import DAY, compared
from ha_monitor.query.unknown import unknown_patterns
from ha_monitor.store.name_statistics import KEPT, NameStatistic
from ha_monitor.store.queries import MAX_NAMES, Gap
from ha_monitor.store.reader import StoreReader
from ha_monitor.text.times import local

HOUR = 3600.0
SORTS: dict[str, Callable[[NameStatistic], Any]] = {
    "failed": lambda one: (one.failed, one.runs),
    "runs": lambda one: one.runs,
    "retried": lambda one: one.retried,
    "p50": lambda one: one.runtime.quantile(0.5) or 0.0,
    "p95": lambda one: one.runtime.quantile(0.95) or 0.0,
    "waited": lambda one: one.waiting.quantile(0.95) or 0.0,
}


def names(
    reader: StoreReader,
    pattern: str | None = None,
    times: Sequence[str] = (),
    limit: int = 20,
    *,
    sort: str = "failed",
    reverse: bool = False,
) -> Result:
    """The names that match a pattern, with their runs; in the last hour if no period is asked for.

    :param pattern: several, separated by commas, in which `*` stands for any text; None for all.
    :param times: words of a filter, `since=…` and `until=…`.
    :param limit: how many; 0 for all.
    :param sort: one of `SORTS`.
    :raises UsageError: if a time cannot be read.
    :raises StoreUnavailable: as the reader does.
    """
    queries = reader.queries
    now = queries.now()
    asked = parse_filter(times, now)
    until = now if asked.until is None else min(asked.until, now)
    since = until - HOUR if asked.since is None else asked.since
    known = queries.names()
    wanted = [Pattern(parts) for parts in split_values("*" if pattern is None else pattern)]
    matching = [name for name in known if any(one.matches(name) for one in wanted)]
    most = limit + 1 if limit else None
    found = compared(queries, matching, since, until, sort=SORTS[sort], reverse=reverse, limit=most)
    gaps = [*queries.gaps(since, until), *unknown_patterns("runs of the name", wanted, known)]
    if len(known) >= MAX_NAMES:
        gaps.append(Gap(f"runs of names beyond the first {MAX_NAMES} that were seen", 0, 0))
    if since - DAY < now - KEPT:
        gaps.append(Gap("runs", 0, now - KEPT))
    shown = limit or len(found)
    return Result(
        now,
        found[:shown],
        lambda one, _now: name_item(one),
        f"what was run between {local(since)[:19]} and {local(until)[:19]}, and a day before",
        gaps,
        len(found) > shown,
    )
