"""Finds the tasks that match a filter, and says what it searched and what the answer may lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.query.fields import BAD_ENDS, FIELDS, Kind, first_heard, last_heard
from ha_monitor.query.language import Filter
from ha_monitor.query.sources import NOTHING_ELSE, Open, Page, Source, sources_for
from ha_monitor.store.queries import Gap, KeptTask, Queries

TIME_LIMIT = 2.0
"""Seconds that a search may take."""
DETAILS = "arguments, root and parent"
_DETAIL_FIELDS = ("arg", "root", "parent")
_SLACK = 100
"""Tasks that are kept beyond the limit before surplus ones are dropped."""


class Order(NamedTuple):
    """The order in which tasks are listed."""

    field: str = ""
    """A field: largest value first, or texts in alphabetical order; empty for the time, newest first."""
    reverse: bool = False
    after: tuple[float, str] | None = None
    """Only tasks after this one, by its time in seconds since the epoch (`when`) and its id; only if `field` is empty.
    """


BY_TIME = Order()


class Found(NamedTuple):
    """The answer to a question about tasks."""

    time: float
    """When the question was asked, by the store's clock."""
    tasks: list[KeptTask]
    more: bool
    """Whether there are more tasks than were asked for."""
    searched: str
    """For people: `the failures since 02:00`."""
    gaps: list[Gap]
    """What the answer may lack; empty if it is complete. An end of 0 means that the end is not known."""


class Search:
    """One search. It takes its time from the clock, and reads only from the port."""

    def __init__(
        self, queries: Queries, clock: Clock, *, keeps_open: bool = True, time_limit: float = TIME_LIMIT
    ) -> None:
        """:param keeps_open: whether the instances keep the index of open tasks (`stuck.enabled`)."""
        self._queries = queries
        self._keeps_open = keeps_open
        self._clock = clock
        self._time_limit = time_limit

    def find(self, asked: Filter, limit: int, order: Order = BY_TIME) -> Found:
        """The first `limit` matching tasks in that order; 0 for all.

        :raises StoreUnavailable: as the port does.
        """
        until = self._clock.monotonic() + self._time_limit
        now = self._queries.now()
        matches = _Matches(asked, now, limit, order)
        gaps: list[Gap] = []
        searched: list[str] = []
        for source in sources_for(asked, self._queries, now, by_age=matches.may_stop):
            if not self._keeps_open and isinstance(source, Open):
                gaps.append(Gap("open tasks: they are not kept, since stuck.enabled is false", 0, 0))
                break
            searched.append(source.about)
            stopped = self._search(source, matches, until)
            # Gaps older than everything that is listed do not matter.
            gaps += [gap for gap in source.gaps() if not (gap.until and matches.is_enough(gap.until))]
            if stopped:
                gaps.append(Gap(f"{source.about}: only {matches.seen:,} looked at within {self._time_limit:g} s", 0, 0))
            if stopped or source.floor == NOTHING_ELSE or matches.is_enough(source.floor):
                break
        if matches.shrunk:
            tasks_of = "task" if matches.shrunk == 1 else "tasks"
            gaps.append(
                Gap(f"{matches.shrunk:,} {tasks_of} whose {DETAILS} are no longer kept (store.detail_ttl)", 0, 0)
            )
        tasks = matches.first()
        more = limit > 0 and len(tasks) > limit
        tasks = tasks[:limit] if limit else tasks
        lost = self._queries.gaps(_touched(asked, tasks), asked.until if asked.until is not None else now)
        return Found(now, tasks, more, ", ".join(searched) or "nothing, since no task has that name", [*lost, *gaps])

    def _search(self, source: Source, matches: _Matches, until: float) -> bool:
        """Read a source as far as needed. Returns whether the time limit stopped it."""
        for page in source.pages():
            self._read(page, matches)
            if matches.is_enough(page.bound):
                return False
            if self._clock.monotonic() > until:
                return True
        return False

    def _read(self, page: Page, matches: _Matches) -> None:
        new = matches.unseen(page.ids)
        read = self._queries.tasks([one for one in new if one not in page.known], matches.texts)
        known = [page.known[one] for one in new if one in page.known]
        matches.add([task for task in (*known, *read) if task is not None])


def _touched(asked: Filter, tasks: Sequence[KeptTask]) -> float:
    """Since when lost events matter for an answer."""
    if asked.since is not None:
        return asked.since
    return min((first_heard(task) for task in tasks), default=0.0)


class _Matches:
    """The first tasks found so far."""

    def __init__(self, asked: Filter, now: float, limit: int, order: Order) -> None:
        self._asked, self._now, self._limit, self._order = asked, now, limit, order
        self._by_end = asked.states <= BAD_ENDS
        self._seen: set[str] = set()
        self._tasks: list[KeptTask] = []
        self.texts = asked.texts
        """Texts of which a record must contain one."""
        self._wants_details = asked.names(*_DETAIL_FIELDS)
        self.shrunk = 0
        """Tasks that may match, but whose details are no longer kept."""

    @property
    def seen(self) -> int:
        """How many tasks were looked at."""
        return len(self._seen)

    @property
    def may_stop(self) -> bool:
        """Whether only the newest tasks are asked for, so that not all need be read."""
        return self._limit > 0 and not self._order.field and not self._order.reverse

    def unseen(self, ids: Sequence[str]) -> list[str]:
        """The ids that were not looked at before."""
        new = [one for one in dict.fromkeys(ids) if one not in self._seen]
        self._seen.update(new)
        return new

    def add(self, tasks: Sequence[KeptTask]) -> None:
        """Keep the tasks that match."""
        self._tasks += [task for task in tasks if self._is_behind(task) and self._asked.holds(task, self._now)]
        if self._wants_details:
            rest = self._asked.without(*_DETAIL_FIELDS)
            self.shrunk += sum(task.shrunk and rest.holds(task, self._now) for task in tasks)
        if self._limit and len(self._tasks) > 2 * self._limit + _SLACK:
            self._tasks = self.first()[: self._limit + 1]

    def is_enough(self, bound: float | None) -> bool:
        """Whether no task as old as `bound`, or older, can be among the first."""
        if bound is None or not self.may_stop or len(self._tasks) <= self._limit:
            return False
        return self._when(self.first()[self._limit]) >= bound

    def first(self) -> list[KeptTask]:
        """All tasks found so far, in order."""
        if not self._order.field:
            return sorted(self._tasks, key=self._by_time, reverse=not self._order.reverse)
        field = FIELDS[self._order.field]
        known: list[tuple[Any, KeptTask]] = []
        unknown: list[tuple[Any, KeptTask]] = []
        for task in sorted(self._tasks, key=self._by_time, reverse=True):
            value = next((one for one in field.values(task, self._now) if one is not None), None)
            (unknown if value is None else known).append((value, task))
        is_text = field.kind in (Kind.TEXT, Kind.STATE)
        known.sort(key=lambda one: one[0], reverse=is_text is self._order.reverse)
        return [task for _, task in [*known, *unknown]]

    def _is_behind(self, task: KeptTask) -> bool:
        after = self._order.after
        if after is None:
            return True
        return self._by_time(task) > after if self._order.reverse else self._by_time(task) < after

    def _by_time(self, task: KeptTask) -> tuple[float, str]:
        return self._when(task), task.task_id

    def _when(self, task: KeptTask) -> float:
        return when(task, by_end=self._by_end)


def when(task: KeptTask, *, by_end: bool) -> float:
    """The time by which a task is listed: when it ended, or when its first event was sent."""
    return last_heard(task) if by_end else first_heard(task)
