"""Finds tasks by the beginning of their ids, as people type them from a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.query.sources import MAX_NAMES_AT_ONCE, EndedBadly
from ha_monitor.store.queries import MAX_NEWEST, TaskQueries
from ha_monitor.text.visible import unescaped

MAX_CANDIDATES = 10
TIME_LIMIT = 2.0
"""Seconds that the search for a prefix may take."""
_TRUNCATION_MARKS = ("…", "...")


class Candidates(NamedTuple):
    """The tasks that somebody may mean."""

    ids: list[str]
    """In alphabetical order; one more than `MAX_CANDIDATES` at most."""
    searched: str
    """Where ids with that prefix were searched; empty if the whole id was known."""


def candidates(text: str, queries: TaskQueries, clock: Clock) -> Candidates:
    """The id that a text is, or the ids that begin with it. A table may have truncated the id, and have escaped
    characters that a terminal does not show.

    :raises StoreUnavailable: as the port does.
    """
    beginning = next((text.removesuffix(end) for end in _TRUNCATION_MARKS if text.endswith(end)), text)
    whole = [text, unescaped(text)]
    for one, task in zip(whole, queries.tasks(whole), strict=True):
        if task is not None:
            return Candidates([one], "")
    seen: set[str] = set()
    alive: list[str] = []
    until = clock.monotonic() + TIME_LIMIT
    wanted = (beginning, unescaped(beginning))
    searched = "the newest tasks of each name, those that failed or were revoked, and the open ones"
    for ids in _pages(queries):
        new = [one for one in dict.fromkeys(ids) if one.startswith(wanted) and one not in seen]
        seen.update(new)
        # An index may name tasks that have expired.
        alive += [one for one, task in zip(new, queries.tasks(new), strict=True) if task is not None]
        if len(alive) > MAX_CANDIDATES or not beginning:
            break
        if clock.monotonic() > until:
            searched += f" (not all: stopped after {TIME_LIMIT:g} s)"
            break
    return Candidates(sorted(alive)[: MAX_CANDIDATES + 1], searched)


def _pages(queries: TaskQueries) -> Iterator[list[str]]:
    names = queries.names()
    for start in range(0, len(names), MAX_NAMES_AT_ONCE):
        yield from queries.newest_of(names[start : start + MAX_NAMES_AT_ONCE], MAX_NEWEST)
    for page in EndedBadly(queries, None, None).pages():
        yield list(page.ids)
    yield from queries.all_open()
