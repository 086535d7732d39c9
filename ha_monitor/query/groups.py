"""Error groups: which there were in a period, and what is known of their latest tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ha_monitor.incidents.changes import new_since
from ha_monitor.store.error_groups import ErrorGroup, GroupState
from ha_monitor.store.incidents import Mark
from ha_monitor.store.queries import ErrorQueries, KeptTask, Queries

PAGE = 100
"""Groups that are read at once."""
LATEST = 5
"""Tasks per group that a list reads, to name the workers."""
SORTS: dict[str, Callable[[ErrorGroup], Any]] = {
    "last": lambda group: group.last,
    "first": lambda group: group.first,
    "count": lambda group: (group.failures, group.last),
    "hour": lambda group: (group.by_hour[-1], group.last),
}
"""Sort keys of a list of groups, largest first."""


class KnownGroup(NamedTuple):
    """A group, and those of its latest tasks whose records still exist, latest first."""

    group: ErrorGroup
    tasks: tuple[KeptTask, ...]
    mark: Mark | None = None
    """The latest deployment before the group, if the group is new."""

    @property
    def workers(self) -> list[str]:
        """The workers that last had these tasks."""
        return list(dict.fromkeys(task.record.worker for task in self.tasks if task.record.worker))


def groups_in(queries: ErrorQueries, since: float | None, until: float | None) -> Iterator[ErrorGroup]:
    """The groups with an error at or after `since` whose first error was not after `until`; latest error first. They
    are read lazily.

    :param since: seconds since the epoch, as `until`; None for no limit.
    :raises StoreUnavailable: as the port does.
    """
    ids = queries.error_ids()
    for start in range(0, len(ids), PAGE):
        for group in queries.error_groups(ids[start : start + PAGE]):
            if group is None or (until is not None and group.first > until):
                continue
            if since is not None and group.last < since:
                return
            yield group


def first_groups(found: Iterator[ErrorGroup], count: int, sort: str, *, reverse: bool) -> list[ErrorGroup]:
    """The first `count` groups in an order of `SORTS`, and one more if there are more; 0 for all."""
    most = count + 1 if count else None
    if sort == "last" and not reverse:
        return list(islice(found, most))
    return sorted(found, key=SORTS[sort], reverse=not reverse)[:most]


def known_groups(
    queries: Queries, groups: Sequence[ErrorGroup], latest: int = LATEST, marks: Sequence[Mark] = ()
) -> list[KnownGroup]:
    """Groups with up to `latest` of their latest tasks each.

    :param marks: the latest deployments, newest first.
    :raises StoreUnavailable: as the port does.
    """
    ids = [task.task_id for group in groups for task in group.tasks[:latest]]
    tasks = iter(queries.tasks(ids))
    return [
        KnownGroup(
            group,
            tuple(task for task in islice(tasks, len(group.tasks[:latest])) if task is not None),
            _mark_before(group, marks) if group.state is GroupState.NEW else None,
        )
        for group in groups
    ]


def _mark_before(group: ErrorGroup, marks: Sequence[Mark]) -> Mark | None:
    change = new_since(marks, (), group.first)
    return None if change is None else change.mark
