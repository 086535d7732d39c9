"""What became of one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.answers.result import Result
from ha_monitor.config.schema import Config
from ha_monitor.query.fields import OPEN, first_heard, last_heard
from ha_monitor.query.items import TaskItem, branch_items, leg_items, step_items, task_item
from ha_monitor.query.story import remarks_on
from ha_monitor.query.tree import Leg, Tree, build, critical_path
from ha_monitor.store.queries import MAX_CHILDREN, Gap, KeptTask
from ha_monitor.store.reader import StoreReader


class OneTask(NamedTuple):
    """All that is known of a task."""

    task: KeptTask
    remarks: list[str]
    tree: Tree | None = None
    """Only if it was asked for."""
    path: Sequence[Leg] = ()
    """The critical path of the tree."""


def task_stories(reader: StoreReader, config: Config, found: Sequence[KeptTask], *, with_tree: bool) -> Result:
    """The stories of tasks.

    :param with_tree: also the workflow of each.
    :raises StoreUnavailable: as the reader does.
    """
    now = reader.queries.now()
    items: list[OneTask] = []
    gaps: list[Gap] = []
    for task in found:
        one, more = _story(task, reader, config, now, with_tree=with_tree)
        items.append(one)
        gaps += more
    searched = "the records of the tasks" + (" and the trees of their roots" if with_tree else "")
    return Result(now, items, story_item, searched, gaps)


def story_item(one: OneTask, now: float) -> TaskItem:
    """A task, its story and its tree."""
    more: dict[str, Any] = {"story": step_items(one.task), "remarks": one.remarks}
    if one.tree is not None:
        more |= {"tree": branch_items(one.tree), "critical_path": leg_items(one.path)}
    return task_item(one.task, now, **more)


def _story(
    task: KeptTask, reader: StoreReader, config: Config, now: float, *, with_tree: bool
) -> tuple[OneTask, list[Gap]]:
    record = task.record
    is_open = record.state in OPEN
    worker_state = None
    if is_open and record.worker:
        entries = reader.workers(config.workers.late_after).entries
        worker_state = next((one.state for one in entries if one.name == record.worker), None)
    gaps = reader.queries.gaps(first_heard(task), now if is_open else last_heard(task))
    remarks = remarks_on(task, now, worker_state, config.store.shrinks_after)
    if not with_tree:
        return OneTask(task, remarks), gaps
    root = record.root_id or record.task_id
    ids = reader.queries.children(root, MAX_CHILDREN)
    if len(ids) >= MAX_CHILDREN:
        gaps.append(Gap(f"tasks of the root {root} beyond the newest {MAX_CHILDREN}", 0, 0))
    known = [one for one in reader.queries.tasks([root, *ids]) if one is not None]
    tree = build(root, [task, *known])
    shrunk = sum(one.shrunk for one in tree.tasks.values())
    if shrunk:
        of_them = f"{shrunk:,} task{'' if shrunk == 1 else 's'}"
        gaps.append(Gap(f"the parents of {of_them}, which are no longer kept (store.detail_ttl)", 0, 0))
    return OneTask(task, remarks, tree, critical_path(tree, now)), gaps
