"""Where a search looks: the narrowest indexes of the store in which all that match must be, as far as they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import BAD_ENDS, OPEN, first_heard
from ha_monitor.query.language import Filter
from ha_monitor.store.error_groups import MOST_TASKS, ErrorGroup
from ha_monitor.store.queries import (
    MOST_CHILDREN,
    MOST_ENDED,
    MOST_NAMES,
    MOST_NEWEST,
    Gap,
    KeptTask,
    Queries,
    TaskQueries,
)

PAGE = 1000
"""Ids that are looked at together."""
FIRST_NAMES, MOST_AT_ONCE = 10, 100
"""Names whose tasks are read together, at first and at most."""
FIRST_TASKS = 60
"""Tasks that are read after the first of each name, divided among the names; one of a name at least."""
DISORDER = 1.0
"""Seconds by which a task may be newer than the one before it in the list of a name: instances merge side by side."""
UNKNOWN = float("inf")
"""A time that is not known, since a record has expired: anything may be older."""
MOST_WAITING = 100_000
NOTHING_ELSE = float("-inf")
NOTHING_KNOWN: Mapping[str, KeptTask | None] = {}


class Page(NamedTuple):
    """Some of a source's tasks."""

    ids: Sequence[str]
    bound: float | None = None
    """No task of later pages was first heard of, or ended, later than this; None if that is not known."""
    known: Mapping[str, KeptTask | None] = NOTHING_KNOWN
    """Those of the tasks that were read already; None if there is no record."""


class Source(Protocol):
    """An index, or a part of it. Once the pages are read, `lacks` says what may be missing in them."""

    about: str
    """What it holds, for people: `all open tasks`."""

    @property
    def floor(self) -> float | None:
        """Once it was read: all that is not in it, and is in the sources that follow, was first heard of before; None
        if that is not known. `NOTHING_ELSE` if they can add nothing.
        """

    def pages(self) -> Iterator[Page]:
        """All of it.

        :raises StoreUnavailable: as the port does.
        """

    def lacks(self) -> list[Gap]:
        """What is not kept of it."""


class _Plain:
    """A source that says nothing about those that follow it."""

    floor: float | None = None


class ById(_Plain):
    """Tasks that the question names."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.about = "the ids that were named"
        self._ids = ids

    def pages(self) -> Iterator[Page]:
        for start in range(0, len(self._ids), PAGE):
            yield Page(self._ids[start : start + PAGE])

    def lacks(self) -> list[Gap]:
        return []


class OfGroups:
    """The latest tasks of groups of errors."""

    def __init__(self, groups: Sequence[ErrorGroup], unknown: Sequence[str]) -> None:
        """:param unknown: ids of groups that there are not."""
        self.about = "the latest tasks of the groups of errors that were named"
        self._groups = groups
        self._unknown = unknown
        # A group has the latest of its tasks, so that one with fewer has all.
        self.floor: float | None = NOTHING_ELSE
        if any(len(group.tasks) >= MOST_TASKS for group in groups):
            self.floor = None

    def pages(self) -> Iterator[Page]:
        yield Page([task.task_id for group in self._groups for task in group.tasks])

    def lacks(self) -> list[Gap]:
        return [Gap(f"tasks of the group of errors {one}, of which nothing is known", 0, 0) for one in self._unknown]


class OfTrees(_Plain):
    """The tasks of trees, by their roots."""

    def __init__(self, queries: TaskQueries, roots: Sequence[str], parents: Sequence[str] = ()) -> None:
        """:param parents: tasks of which it is not known in which tree they are: each may be a root, or not."""
        self.about = "the trees of the roots that were named"
        self._queries = queries
        self._roots = roots
        self._parents = parents
        self._full: list[str] = []

    def pages(self) -> Iterator[Page]:
        for root in self._roots:
            children = self._queries.children(root, MOST_CHILDREN)
            if len(children) >= MOST_CHILDREN:
                self._full.append(root)
            yield Page([root, *children])

    def lacks(self) -> list[Gap]:
        full = [f"tasks of the root {root} beyond the newest {MOST_CHILDREN}" for root in self._full]
        lost = [f"children of {one}, if that is no root: its own root is not known" for one in self._parents]
        return [Gap(what, 0, 0) for what in (*full, *lost)]


class EndedBadly(_Plain):
    """What failed, was rejected or revoked."""

    def __init__(self, queries: TaskQueries, since: float | None, until: float | None) -> None:
        self.about = "what failed, was rejected or revoked"
        self._queries = queries
        self._since = since or 0.0
        self._until = until
        self._seen = 0
        self._oldest = 0.0

    def pages(self) -> Iterator[Page]:
        # An orphan is in the index by when it was found, and may have ended later or before.
        until = self._until if self._until is not None else self._queries.now() + 86400
        while True:
            found = self._queries.ended_badly(self._since, until, PAGE, self._seen)
            self._seen += len(found)
            if found:
                self._oldest = found[-1].at
                yield Page([one.task_id for one in found], self._oldest)
            if len(found) < PAGE:
                return

    def lacks(self) -> list[Gap]:
        if self._seen < MOST_ENDED:
            return []
        return [Gap(f"failures, rejections and revocations beyond the newest {MOST_ENDED}", 0, self._oldest)]


class Open(_Plain):
    """What is not finished."""

    def __init__(self, queries: TaskQueries, until: float | None, *, running: bool, by_age: bool) -> None:
        """
        :param until: all that match were first heard of before, seconds since the epoch; None if that is not known.
        :param running: whether all that match have started.
        :param by_age: whether the newest are asked for, so that not all need be read.
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

    def lacks(self) -> list[Gap]:
        return []


class Waiting(_Plain):
    """What waits in queues."""

    def __init__(self, queries: TaskQueries, queues: Sequence[str]) -> None:
        self.about = f"what waits in {', '.join(queues)}"
        self._queries = queries
        self._queues = queues
        self._full: list[str] = []

    def pages(self) -> Iterator[Page]:
        for queue in self._queues:
            waiting = self._queries.waiting(queue, MOST_WAITING)
            if len(waiting) >= MOST_WAITING:
                self._full.append(queue)
            for start in range(0, len(waiting), PAGE):
                yield Page([task_id for task_id, _ in waiting[start : start + PAGE]])

    def lacks(self) -> list[Gap]:
        return [Gap(f"tasks in {queue} beyond the {MOST_WAITING} that wait longest", 0, 0) for queue in self._full]


class ByName:
    """The newest tasks of some names, about newest first whatever the name: of each name a few are read, then more of
    the names whose next task may be the newest.
    """

    def __init__(self, queries: TaskQueries, names: Sequence[str], *, nameless: bool, unknown: bool = False) -> None:
        """
        :param nameless: whether tasks without a name are asked for as well.
        :param unknown: whether some have names for which there was no room.
        """
        self.about = (
            f"the newest {MOST_NEWEST} tasks of {names[0] if len(names) == 1 else f'each of {len(names)} names'}"
        )
        self._queries = queries
        self._names = names
        self._unknown = unknown
        self._nothing_else = 0.0 if nameless or unknown else NOTHING_ELSE
        self._oldest: dict[str, float] = {}
        """Names of which as many are kept as there may be, and all were read: when the oldest was first heard of."""
        self._left: list[tuple[float, str, int]] = []
        """A heap of the other names: the time of the last task that was read, negative; how many were read."""
        self._known: dict[str, KeptTask | None] = {}
        """Tasks that were read to see when they were, until their page is handed out."""

    @property
    def floor(self) -> float | None:
        at = max([*self._oldest.values(), self._bound() if self._left else self._nothing_else])
        return None if at == UNKNOWN else at

    def _bound(self) -> float:
        """When the task was first heard of that may be the newest of those that were not read."""
        return -self._left[0][0] + DISORDER

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
                # Of one that was asked for already, more and more; where names are many, few have more of the newest.
                count = min(max(read, least), MOST_NEWEST - read)
                pieces = self._queries.newest_of([name for _, name, _ in alike], count, read)
                ids = {name: piece for (_, name, _), piece in zip(alike, pieces, strict=True)}
                self._note(alike, ids, count)
                if read == 1:
                    found += [heads[name][0] for name in ids]
                found += [task_id for piece in pieces for task_id in piece]
            known = {task_id: self._known.pop(task_id) for task_id in found if task_id in self._known}
            yield Page(found, self._bound() if self._left else None, known)
            names = min(2 * names, MOST_AT_ONCE)

    def _note(self, read: Sequence[tuple[float, str, int]], ids: Mapping[str, list[str]], count: int) -> None:
        """Some names were read further.

        :param ids: what was read of each, of so many that were asked for.
        """
        ends = [piece[-1] for _, name, _ in read if (piece := ids[name])]
        tasks = self._queries.tasks(ends)
        self._known |= zip(ends, tasks, strict=True)
        times = iter(tasks)
        for before, name, offset in read:
            piece = ids[name]
            # A record may have expired.
            at = (_first(next(times)) if piece else 0.0) or -before
            if offset + len(piece) >= MOST_NEWEST:
                self._oldest[name] = at
            elif len(piece) == count:
                heappush(self._left, (-at, name, offset + len(piece)))

    def lacks(self) -> list[Gap]:
        """What came before the oldest ones that are kept."""
        return [*self._older(), *self._other_names()]

    def _other_names(self) -> list[Gap]:
        if not self._unknown:
            return []
        return [Gap(f"tasks of names beyond the first {MOST_NAMES} that were heard of", 0, 0)]

    def _older(self) -> list[Gap]:
        if not self._oldest:
            return []
        names = [*self._oldest]
        of = names[0] if len(names) == 1 else f"{len(names)} names"
        each = "" if len(names) == 1 else " of each"
        return [Gap(f"succeeded tasks of {of} beyond the newest {MOST_NEWEST}{each}", 0, self.floor or 0.0)]


def _first(task: KeptTask | None) -> float:
    return 0.0 if task is None else first_heard(task)


def sources_for(asked: Filter, queries: Queries, now: float, *, by_age: bool = True) -> list[Source]:
    """The narrowest sources that together hold all that a filter asks for, as far as it is kept.

    :param now: seconds since the epoch.
    :param by_age: whether the newest are asked for, so that not all need be read.
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
        unknown = len(known) >= MOST_NAMES and (names is None or not names <= set(known))
        if wanted:
            nameless = asked.may_have("name", "")
            found.append(ByName(queries, wanted, nameless=nameless, unknown=unknown))
    if states & BAD_ENDS:
        found.append(EndedBadly(queries, asked.since, asked.until))
    if states & OPEN:
        queues = asked.exact("queue")
        # Tasks whose queue is not known wait in none of the index.
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
    """The trees in which everything is that a filter asks for; None if it names none."""
    # Tasks that have no root, or no parent, are in no tree that it names.
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
