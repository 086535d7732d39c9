"""Where a search looks: the narrowest indexes of the store that contain all that matches, as far as it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import BAD_ENDS, OPEN, first_heard
from ha_monitor.query.language import Filter
from ha_monitor.store.error_groups import MAX_TASKS, ErrorGroup
from ha_monitor.store.queries import (
    MAX_CHILDREN,
    MAX_ENDED,
    MAX_NAMES,
    MAX_NEWEST,
    Gap,
    KeptTask,
    Queries,
    TaskQueries,
)

PAGE = 1000
"""Ids per page."""
FIRST_NAMES, MAX_NAMES_AT_ONCE = 10, 100
"""Names whose tasks are read at once, initially and at most."""
FIRST_TASKS = 60
"""Tasks that are read after the first of each name, divided among the names; at least one per name."""
MAX_DISORDER = 1.0
"""Seconds by which a task may be newer than the one before it in the list of a name, because instances merge
concurrently."""
UNKNOWN = float("inf")
"""A time that is not known, because a record has expired: anything may be older."""
MAX_WAITING = 100_000
NOTHING_ELSE = float("-inf")
NOTHING_KNOWN: Mapping[str, KeptTask | None] = {}


class Page(NamedTuple):
    """Some of a source's tasks."""

    ids: Sequence[str]
    bound: float | None = None
    """No task of later pages has a first event, or an end, after this time; None if that is not known."""
    known: Mapping[str, KeptTask | None] = NOTHING_KNOWN
    """Tasks of the page that were already read; None for one without a record."""


class Source(Protocol):
    """An index, or a part of it. Once the pages have been read, `gaps` says what they may lack."""

    about: str
    """What it contains, for people: `all open tasks`."""

    @property
    def floor(self) -> float | None:
        """After reading: every task that is only in the following sources had its first event before this time; None if
        that is not known, `NOTHING_ELSE` if they can add nothing.
        """

    def pages(self) -> Iterator[Page]:
        """All its pages.

        :raises StoreUnavailable: as the port does.
        """

    def gaps(self) -> list[Gap]:
        """The parts of it that are not kept."""


class _WithoutFloor:
    """A source that says nothing about the sources after it."""

    floor: float | None = None


class ById(_WithoutFloor):
    """Tasks whose ids the question names."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.about = "the ids that were named"
        self._ids = ids

    def pages(self) -> Iterator[Page]:
        for start in range(0, len(self._ids), PAGE):
            yield Page(self._ids[start : start + PAGE])

    def gaps(self) -> list[Gap]:
        return []


class OfGroups:
    """The latest tasks of error groups."""

    def __init__(self, groups: Sequence[ErrorGroup], unknown: Sequence[str]) -> None:
        """:param unknown: ids of groups that do not exist."""
        self.about = "the latest tasks of the groups of errors that were named"
        self._groups = groups
        self._unknown = unknown
        # A group keeps its latest tasks, so one with fewer than the maximum has all.
        self.floor: float | None = NOTHING_ELSE
        if any(len(group.tasks) >= MAX_TASKS for group in groups):
            self.floor = None

    def pages(self) -> Iterator[Page]:
        yield Page([task.task_id for group in self._groups for task in group.tasks])

    def gaps(self) -> list[Gap]:
        return [Gap(f"tasks of the group of errors {one}, of which nothing is known", 0, 0) for one in self._unknown]


class OfTrees(_WithoutFloor):
    """The tasks of trees, by their roots."""

    def __init__(self, queries: TaskQueries, roots: Sequence[str], parents: Sequence[str] = ()) -> None:
        """:param parents: tasks whose tree is not known: each of them may be a root."""
        self.about = "the trees of the roots that were named"
        self._queries = queries
        self._roots = roots
        self._parents = parents
        self._full: list[str] = []

    def pages(self) -> Iterator[Page]:
        for root in self._roots:
            children = self._queries.children(root, MAX_CHILDREN)
            if len(children) >= MAX_CHILDREN:
                self._full.append(root)
            yield Page([root, *children])

    def gaps(self) -> list[Gap]:
        full = [f"tasks of the root {root} beyond the newest {MAX_CHILDREN}" for root in self._full]
        lost = [f"children of {one}, if that is no root: its own root is not known" for one in self._parents]
        return [Gap(what, 0, 0) for what in (*full, *lost)]


class EndedBadly(_WithoutFloor):
    """Tasks that failed, were rejected or revoked."""

    def __init__(self, queries: TaskQueries, since: float | None, until: float | None) -> None:
        self.about = "what failed, was rejected or revoked"
        self._queries = queries
        self._since = since or 0.0
        self._until = until
        self._seen = 0
        self._oldest = 0.0

    def pages(self) -> Iterator[Page]:
        # The index has an orphan by when it was found; its end may be later or earlier.
        until = self._until if self._until is not None else self._queries.now() + 86400
        while True:
            found = self._queries.ended_badly(self._since, until, PAGE, self._seen)
            self._seen += len(found)
            if found:
                self._oldest = found[-1].at
                yield Page([one.task_id for one in found], self._oldest)
            if len(found) < PAGE:
                return

    def gaps(self) -> list[Gap]:
        if self._seen < MAX_ENDED:
            return []
        return [Gap(f"failures, rejections and revocations beyond the newest {MAX_ENDED}", 0, self._oldest)]


class Open(_WithoutFloor):
    """Tasks that are not finished."""

    def __init__(self, queries: TaskQueries, until: float | None, *, running: bool, by_age: bool) -> None:
        """
        :param until: every match had its first event before this, in seconds since the epoch; None if not known.
        :param running: whether every match has started.
        :param by_age: whether only the newest are asked for, so that not all need be read.
        """
        self.about = "all open tasks"
        self._queries = queries
        self._by_age = by_age
        self._until = until
        self._running = running

    def pages(self) -> Iterator[Page]:
        if not self._by_age:
            yield from map(Page, self._queries.all_open())
            return
        for ids, bound in self._queries.newest_open(self._until, running=self._running):
            yield Page(ids, bound)

    def gaps(self) -> list[Gap]:
        return []


class Waiting(_WithoutFloor):
    """Tasks that wait in queues."""

    def __init__(self, queries: TaskQueries, queues: Sequence[str]) -> None:
        self.about = f"what waits in {', '.join(queues)}"
        self._queries = queries
        self._queues = queues
        self._full: list[str] = []

    def pages(self) -> Iterator[Page]:
        for queue in self._queues:
            waiting = self._queries.waiting(queue, MAX_WAITING)
            if len(waiting) >= MAX_WAITING:
                self._full.append(queue)
            for start in range(0, len(waiting), PAGE):
                yield Page([task_id for task_id, _ in waiting[start : start + PAGE]])

    def gaps(self) -> list[Gap]:
        return [Gap(f"tasks in {queue} beyond the {MAX_WAITING} that wait longest", 0, 0) for queue in self._full]


class ByName:
    """The newest tasks of some names, approximately newest first across names: it reads a few tasks of each name, then
    more of the names whose next task may be the newest.
    """

    def __init__(self, queries: TaskQueries, names: Sequence[str], *, nameless: bool, unknown: bool = False) -> None:
        """
        :param nameless: whether tasks without a name are asked for as well.
        :param unknown: whether some tasks have names for which there was no room.
        """
        self.about = (
            f"the newest {MAX_NEWEST} tasks of {names[0] if len(names) == 1 else f'each of {len(names)} names'}"
        )
        self._queries = queries
        self._names = names
        self._unknown = unknown
        self._nothing_else = 0.0 if nameless or unknown else NOTHING_ELSE
        self._oldest: dict[str, float] = {}
        """Names whose lists are full and were read to the end: when the oldest listed task had its first event."""
        self._left: list[tuple[float, str, int]] = []
        """A heap of the other names: negated time of the last task that was read, name, number of tasks read."""
        self._known: dict[str, KeptTask | None] = {}
        """Tasks that were read for their times, until their page is yielded."""

    @property
    def floor(self) -> float | None:
        at = max([*self._oldest.values(), self._bound() if self._left else self._nothing_else])
        return None if at == UNKNOWN else at

    def _bound(self) -> float:
        """The latest first event that a task that was not read may have."""
        return -self._left[0][0] + MAX_DISORDER

    def pages(self) -> Iterator[Page]:
        heads = {
            name: ids for name, ids in zip(self._names, self._queries.newest_of(self._names, 1), strict=True) if ids
        }
        self._note([(-UNKNOWN, name, 0) for name in heads], heads, 1)
        names = FIRST_NAMES
        least = max(1, FIRST_TASKS // max(1, len(heads)))
        while self._left:
            some = [heappop(self._left) for _ in range(min(names, len(self._left)))]
            found: list[str] = []
            for read in sorted({one[2] for one in some}):
                alike = [one for one in some if one[2] == read]
                # Read more each time a name is chosen; if there are many names, each has few of the newest tasks.
                count = min(max(read, least), MAX_NEWEST - read)
                pieces = self._queries.newest_of([name for _, name, _ in alike], count, read)
                ids = {name: piece for (_, name, _), piece in zip(alike, pieces, strict=True)}
                self._note(alike, ids, count)
                if read == 1:
                    found += [heads[name][0] for name in ids]
                found += [task_id for piece in pieces for task_id in piece]
            known = {task_id: self._known.pop(task_id) for task_id in found if task_id in self._known}
            yield Page(found, self._bound() if self._left else None, known)
            names = min(2 * names, MAX_NAMES_AT_ONCE)

    def _note(self, read: Sequence[tuple[float, str, int]], ids: Mapping[str, list[str]], count: int) -> None:
        """Note that some names were read further.

        :param ids: what was read of each name, out of `count` tasks that were asked for.
        """
        ends = [piece[-1] for _, name, _ in read if (piece := ids[name])]
        tasks = self._queries.tasks(ends)
        self._known |= zip(ends, tasks, strict=True)
        times = iter(tasks)
        for before, name, offset in read:
            piece = ids[name]
            # The record may have expired.
            at = (_first(next(times)) if piece else 0.0) or -before
            if offset + len(piece) >= MAX_NEWEST:
                self._oldest[name] = at
            elif len(piece) == count:
                heappush(self._left, (-at, name, offset + len(piece)))

    def gaps(self) -> list[Gap]:
        """What came before the oldest tasks that are kept."""
        return [*self._older(), *self._other_names()]

    def _other_names(self) -> list[Gap]:
        if not self._unknown:
            return []
        return [Gap(f"tasks of names beyond the first {MAX_NAMES} that were seen", 0, 0)]

    def _older(self) -> list[Gap]:
        if not self._oldest:
            return []
        names = [*self._oldest]
        of = names[0] if len(names) == 1 else f"{len(names)} names"
        each = "" if len(names) == 1 else " of each"
        return [Gap(f"succeeded tasks of {of} beyond the newest {MAX_NEWEST}{each}", 0, self.floor or 0.0)]


def _first(task: KeptTask | None) -> float:
    return 0.0 if task is None else first_heard(task)


def sources_for(asked: Filter, queries: Queries, now: float, *, by_age: bool = True) -> list[Source]:
    """The narrowest sources that together contain everything that a filter matches, as far as it is kept.

    :param now: seconds since the epoch.
    :param by_age: whether only the newest are asked for, so that not all need be read.
    :raises StoreUnavailable: as the port does.
    """
    if (ids := asked.exact("task_id")) is not None:
        return [ById(sorted(ids))]
    if (trees := _trees(asked, queries)) is not None:
        return [trees]
    states, names = asked.states, asked.exact("name")
    found: list[Source] = []
    if (errors := asked.exact("error")) is not None and "" not in errors:
        groups = dict(zip(sorted(errors), queries.error_groups(sorted(errors)), strict=True))
        of_them = [group for group in groups.values() if group is not None]
        found.append(OfGroups(of_them, [one for one, group in groups.items() if group is None]))
        if found[0].floor is not None:
            return found
        names = names or frozenset(group.name for group in of_them)
    if State.SUCCESS in states:
        known = queries.names()
        wanted = [name for name in known if asked.may_have("name", name)] if names is None else sorted(names)
        unknown = len(known) >= MAX_NAMES and (names is None or not names <= set(known))
        if wanted:
            nameless = asked.may_have("name", "")
            found.append(ByName(queries, wanted, nameless=nameless, unknown=unknown))
    if states & BAD_ENDS:
        found.append(EndedBadly(queries, asked.since, asked.until))
    if states & OPEN:
        queues = asked.exact("queue")
        # Tasks whose queue is unknown are not in the index of waiting tasks.
        is_waiting = queues is not None and "" not in queues and states & OPEN <= {State.SENT, State.RECEIVED}
        found.append(Waiting(queries, sorted(queues)) if queues and is_waiting else _open(asked, queries, now, by_age))
    return found


def _open(asked: Filter, queries: TaskQueries, now: float, by_age: bool) -> Open:
    running = asked.states & OPEN <= {State.STARTED}
    until = asked.until
    if running and asked.states <= OPEN and (seconds := asked.longer_than) is not None:
        until = min(now - seconds, now if until is None else until)
    return Open(queries, until, running=running, by_age=by_age)


def _trees(asked: Filter, queries: TaskQueries) -> OfTrees | None:
    """The trees that contain everything that a filter matches; None if it names none."""
    # A task without a root, or without a parent, is in no tree that a filter can name.
    if (roots := asked.exact("root")) is not None:
        return None if "" in roots else OfTrees(queries, sorted(roots))
    if (parents := asked.exact("parent")) is None or "" in parents:
        return None
    ids = sorted(parents)
    known = {
        task.task_id: task.record.root_id
        for task in queries.tasks(ids)
        if task is not None and task.record.root_id is not None
    }
    lost = [one for one in ids if one not in known]
    return OfTrees(queries, sorted({*known.values(), *lost}), lost)
