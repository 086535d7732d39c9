"""The workflow that a task belongs to, and what took its time.

The edges are the parent and root ids in the events. Real workers produce more than trees: after `self.replace(a | b)`
two tasks are each other's parent, so the parent edge of the one that was sent first is cut; a retried root names itself
as its parent; and tasks whose parent is unknown are placed under the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from ha_monitor.query.fields import OPEN, first_heard
from ha_monitor.store.queries import KeptTask

MAX_NODES = 1000
"""In a larger tree, tasks of one name under one parent are shown as one."""


class Branch(NamedTuple):
    """A row of a drawn tree: one task, or several of one name."""

    depth: int
    tasks: tuple[KeptTask, ...]
    below: int = 0
    """How many tasks are below the tasks that were folded into this row."""


class Leg(NamedTuple):
    """A task on the critical path, and the seconds from the end of the previous leg (or from when the root was sent) to
    its own end.
    """

    task: KeptTask
    before: float
    """Until it was sent; negative if its parent was still running, as is usual."""
    waited: float | None
    """From then, or from a later eta, to its start or until now; None if that is not known."""
    ran: float | None
    """From its start to its end or until now; None if it has not started, or that is not known."""


class Tree(NamedTuple):
    """A root and all its descendants."""

    root_id: str
    tasks: dict[str, KeptTask]
    parents: dict[str, str | None]
    """The parent of each task in the tree; None if it has none."""


def build(root_id: str, tasks: Sequence[KeptTask]) -> Tree:
    """The tree of a root, from the tasks that name it: without cycles, and in one piece if the root is known."""
    known = {one.record.task_id: one for one in tasks}
    parents: dict[str, str | None] = {name: _parent(root_id, name, known) for name in known}
    done: set[str] = set()
    for name in known:
        path: dict[str, None] = {}
        at: str | None = name
        while at is not None and at not in done and at not in path:
            path[at] = None
            at = parents[at]
        if at in path:
            way = list(path)
            circle = way[way.index(str(at)) :]
            first = min(circle, key=lambda one: (first_heard(known[one]), one))
            parents[first] = root_id if root_id in known else None
        done.update(path)
    return Tree(root_id, known, parents)


def _parent(root_id: str, task_id: str, known: dict[str, KeptTask]) -> str | None:
    if task_id == root_id:
        return None
    parent = known[task_id].record.parent_id
    if parent is not None and parent != task_id and parent in known:
        return parent
    return root_id if root_id in known else None


def branches(tree: Tree) -> list[Branch]:
    """The rows of the tree, depth first, ordered by when tasks were sent."""
    children: dict[str | None, list[KeptTask]] = {}
    for name, parent in tree.parents.items():
        children.setdefault(parent, []).append(tree.tasks[name])
    folds = len(tree.tasks) > MAX_NODES
    rows: list[Branch] = []
    todo = [(0, group) for group in reversed(_groups(children.get(None, []), folds=folds))]
    while todo:
        depth, group = todo.pop()
        if len(group) > 1:
            rows.append(Branch(depth, group, _below(group, children)))
            continue
        rows.append(Branch(depth, group))
        below = children.get(group[0].record.task_id, [])
        todo += [(depth + 1, one) for one in reversed(_groups(below, folds=folds))]
    return rows


def _groups(tasks: list[KeptTask], *, folds: bool) -> list[tuple[KeptTask, ...]]:
    ordered = sorted(tasks, key=lambda one: (first_heard(one), one.record.task_id))
    if not folds:
        return [(one,) for one in ordered]
    by_name = sorted(ordered, key=_name)
    groups = [tuple(group) for _, group in groupby(by_name, key=_name)]
    return sorted(groups, key=lambda group: first_heard(group[0]))


def _name(task: KeptTask) -> str:
    return task.record.name or ""


def _below(group: tuple[KeptTask, ...], children: dict[str | None, list[KeptTask]]) -> int:
    count, todo = 0, [one.record.task_id for one in group]
    while todo:
        below = [one.record.task_id for one in children.get(todo.pop(), [])]
        count += len(below)
        todo += below
    return count


def critical_path(tree: Tree, now: float) -> list[Leg]:
    """The chain of tasks from the root to the task that ended last; if the tree is not finished, to the open task that
    was sent first.

    :param now: seconds since the epoch, for tasks that are not finished.
    """
    if not tree.tasks:
        return []
    chain, at = [], _last(tree)
    while at is not None:
        chain.append(tree.tasks[at])
        at = tree.parents[at]
    legs, before = [], None
    for task in reversed(chain):
        legs.append(_leg(task, before, now))
        before = task.record.finished
    return legs


def _last(tree: Tree) -> str | None:
    under_way = [one for one in tree.tasks.values() if one.record.state in OPEN]
    if under_way:
        return min(under_way, key=lambda one: (first_heard(one), one.record.task_id)).record.task_id
    return max(tree.tasks.values(), key=lambda one: (one.record.finished or 0.0, one.record.task_id)).record.task_id


def _leg(task: KeptTask, before: float | None, now: float) -> Leg:
    record = task.record
    sent = first_heard(task)
    start = record.started
    end = record.finished if record.finished is not None else now if record.state in OPEN else None
    could = max(sent, record.eta or 0.0)
    waited = None if not sent else max(0.0, (start if start is not None else end or could) - could)
    ran = None if start is None or end is None else max(0.0, end - start)
    return Leg(task, sent - before if before and sent else 0.0, waited, ran)
