"""A workflow over time: when each task waited and ran, as bars in percent of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import OPEN, first_heard, last_heard, queue_time_of, runtime_of
from ha_monitor.query.tree import Branch, Leg
from ha_monitor.store.queries import KeptTask
from ha_monitor.web.formatting import duration, plural

MAX_ROWS = 200
"""Rows of a large workflow that are shown."""
MAX_DEPTH = 8
_MIN_WIDTH = 0.4
"""Minimum visible width, in percent."""


class Bar(NamedTuple):
    """A part of a row, in percent of the width."""

    kind: str
    """`wait` or `run`, with `bad` for a run that failed."""
    x: str
    width: str


class Row(NamedTuple):
    """A task of a workflow, or several of one name."""

    depth: int
    name: str
    task_id: str
    """Empty if there are several."""
    state: str
    waited: str
    ran: str
    bars: list[Bar]
    said: str
    """What the bars show, in words."""
    is_this: bool
    critical: bool


class Timeline(NamedTuple):
    """The rows of a workflow."""

    rows: list[Row]
    more: int
    """Number of rows that are left out."""
    seconds: float
    """From when the first task was sent to the last end, or to now."""


def timeline(branches: Sequence[Branch], path: Sequence[Leg], this: str, now: float) -> Timeline:
    """
    :param branches: the rows of the tree.
    :param path: its critical path.
    :param this: the id of the task that the page is about.
    :param now: seconds since the epoch.
    """
    tasks = [task for branch in branches for task in branch.tasks]
    begin = min((at for task in tasks if (at := first_heard(task))), default=now)
    end = max([begin + 0.001, *(now if task.state in OPEN else last_heard(task) for task in tasks)])
    critical = {leg.task.task_id for leg in path} if len(path) > 1 else set()
    rows = [_row(branch, (begin, end), now, this, critical) for branch in branches[:MAX_ROWS]]
    return Timeline(rows, max(0, len(branches) - MAX_ROWS), end - begin)


def _row(branch: Branch, whole: tuple[float, float], now: float, this: str, critical: set[str]) -> Row:
    first = branch.tasks[0]
    depth = min(branch.depth, MAX_DEPTH)
    name = first.record.name or "(name unknown)"
    if len(branch.tasks) > 1:
        states: dict[str, int] = {}
        for task in branch.tasks:
            states[task.state] = states.get(task.state, 0) + 1
        counts = ", ".join(f"{number:,} {state}" for state, number in _most_first(states))
        below = f", {plural(branch.below, 'task')} below" if branch.below else ""
        bars = [bar for task in branch.tasks[:20] for bar in _bars(task, whole, now)]
        return Row(depth, f"{name} × {len(branch.tasks):,}{below}", "", counts, "", "", bars, counts, False, False)
    waited, ran = queue_time_of(first, now), runtime_of(first, now)
    said = f"waited {duration(waited)}, ran {duration(ran)}"
    return Row(
        depth,
        name,
        first.task_id,
        first.state,
        duration(waited),
        duration(ran),
        _bars(first, whole, now),
        said,
        first.task_id == this,
        first.task_id in critical,
    )


def _most_first(states: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(states.items(), key=lambda one: (-one[1], one[0]))


def _bars(task: KeptTask, whole: tuple[float, float], now: float) -> list[Bar]:
    """What is known of when it waited and ran: its last run, and the wait from its first event to that."""
    record = task.record
    sent, start = first_heard(task), record.started
    over = now if record.state in OPEN else record.finished or last_heard(task)
    if not sent:
        return []
    sent = max(sent, record.eta or 0.0) if (record.eta or 0.0) < over else sent
    bars = []
    if (until := start if start is not None else over) > sent:
        bars.append(_bar("wait", sent, until, whole))
    if start is not None:
        kind = "run bad" if record.state in (State.FAILURE, State.REJECTED) else "run"
        bars.append(_bar(kind, start, max(start, over), whole))
    return bars or [_bar("none", sent, sent, whole)]


def _bar(kind: str, since: float, until: float, whole: tuple[float, float]) -> Bar:
    begin, end = whole
    x = min(max(0.0, 100 * (since - begin) / (end - begin)), 100 - _MIN_WIDTH)
    width = min(max(_MIN_WIDTH, 100 * (until - since) / (end - begin)), 100 - x)
    return Bar(kind, f"{x:.2f}%", f"{width:.2f}%")
