"""Queues as JSON, like tasks in `items.py`."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from msgspec import UNSET, Struct, UnsetType

from ha_monitor.query.items import TaskItem, rounded, task_item, time_or_null
from ha_monitor.query.queues import Outlook, QueueState
from ha_monitor.store.queries import KeptTask


class QueueItem(Struct):
    """A queue: what waits in it, how fast tasks come and leave, and how many processes it needs. Where producers do not
    send `task-sent`, everything except the name and the consumers is null.
    """

    queue: str
    told: bool
    """Whether producers send `task-sent`."""
    waiting: int | None
    oldest: str | None
    oldest_age: float | None
    later: int | None
    """Tasks that may not start yet."""
    in_rate: float | None
    """Tasks per second that came in the last five minutes."""
    out_rate: float | None
    outlook: Outlook
    empty_in: float | None
    """Seconds; null if it never becomes empty."""
    run_time: float | None
    """Seconds that a run takes."""
    busy: float | None
    """Number of processes that its runs keep busy."""
    needed_to_keep_up: int | None
    """Number of additional processes."""
    needed_to_empty: int | None
    """Number of additional processes to empty it in time (`--within`)."""
    consumed: str | None
    """When the leader last found a worker that consumes it."""
    oldest_tasks: list[TaskItem] | UnsetType = UNSET


def queue_item(state: QueueState, now: float, within: float, oldest: Sequence[KeptTask] | None = None) -> QueueItem:
    """A queue.

    :param within: seconds in which it must become empty.
    :param oldest: the tasks that have waited longest, if they were asked for.
    """
    told, since = state.has_producers, state.wait.oldest
    return QueueItem(
        queue=state.name,
        told=told,
        waiting=state.wait.waiting if told else None,
        oldest=time_or_null(since),
        oldest_age=None if since is None else rounded(max(0.0, now - since)),
        later=state.wait.later if told else None,
        in_rate=rounded(state.came) if told else None,
        out_rate=rounded(state.left) if told else None,
        outlook=state.outlook,
        empty_in=rounded(state.empty_in),
        run_time=rounded(state.run_time),
        busy=rounded(state.busy) if told else None,
        needed_to_keep_up=state.needed(inf),
        needed_to_empty=state.needed(within),
        consumed=time_or_null(state.consumed_at),
        oldest_tasks=UNSET if oldest is None else [task_item(task, now) for task in oldest],
    )
