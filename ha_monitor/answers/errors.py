"""What fails, as error groups."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.answers.result import Result
from ha_monitor.query.groups import first_groups, groups_in, known_groups
from ha_monitor.query.items import group_item
from ha_monitor.query.language import parse_filter
from ha_monitor.store.error_groups import MAX_TASKS
from ha_monitor.store.reader import StoreReader


def errors(
    reader: StoreReader, times: Sequence[str] = (), limit: int = 20, *, sort: str = "last", reverse: bool = False
) -> Result:
    """The groups with an error in a period.

    :param times: words of a filter, `since=…` and `until=…`.
    :param limit: how many; 0 for all.
    :param sort: one of `query.groups.SORTS`.
    :raises UsageError: if a time cannot be read.
    :raises StoreUnavailable: as the reader does.
    """
    queries = reader.queries
    now = queries.now()
    asked = parse_filter(times, now)
    groups = first_groups(groups_in(queries, asked.since, asked.until), limit, sort, reverse=reverse)
    shown = limit or len(groups)
    return Result(
        now,
        known_groups(queries, groups[:shown], marks=reader.incidents.marks()),
        lambda one, _now: group_item(one),
        "all groups of errors, at most the 2,000 that came last",
        queries.gaps(asked.since or 0.0, now if asked.until is None else asked.until),
        len(groups) > shown,
    )


def named_errors(reader: StoreReader, ids: Sequence[str]) -> Result:
    """Groups by their full ids, with tracebacks; ids of groups that do not exist are skipped.

    :raises StoreUnavailable: as the reader does.
    """
    queries = reader.queries
    now = queries.now()
    groups = [group for group in queries.error_groups(ids) if group is not None]
    return Result(
        now,
        known_groups(queries, groups, MAX_TASKS, reader.incidents.marks()),
        lambda one, _now: group_item(one, with_traceback=True),
        "the groups that were named",
        queries.gaps(min((group.first for group in groups), default=now), now),
    )


def group_ids_of(reader: StoreReader, text: str) -> list[str]:
    """The id of the group if a text is one; otherwise the ids that begin with it.

    :raises StoreUnavailable: as the reader does.
    """
    ids = reader.queries.error_ids(text) if text else []
    return [text] if text in ids else ids
