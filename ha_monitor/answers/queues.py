"""What waits in each queue, for how long, and whether it empties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ha_monitor.answers.result import Result
from ha_monitor.errors import StoreRefused
from ha_monitor.query.language import Pattern, split_values
from ha_monitor.query.queue_items import queue_item
from ha_monitor.query.queues import QueueState, queue_states, rates_since
from ha_monitor.store.queries import Gap, KeptTask, Queries
from ha_monitor.store.queue_flow import base_of
from ha_monitor.store.reader import StoreReader, Workers
from ha_monitor.text.times import local

NOT_REPORTED = "not known: producers send no task-sent"
WITHIN = 600.0
"""Seconds in which a queue should become empty, by default."""
MAX_OPEN_TASKS = 200
"""Open tasks that are checked for whether their queue is known."""
_NAMED = 3
_LAST = float("-inf")
_MAX_ACTIVE = 1_000_000
"""Maximum number of tasks that a worker plausibly runs; larger values are not task counts."""
SORTS: dict[str, Callable[[QueueState, float], Any]] = {
    "oldest": lambda one, _: _LAST if one.wait.oldest is None else -one.wait.oldest,
    "waiting": lambda one, _: one.wait.waiting,
    "in": lambda one, _: one.came,
    "out": lambda one, _: one.left,
    "busy": lambda one, _: one.busy or 0.0,
    "needed": lambda one, within: one.needed(within) or 0,
}


class OneQueue(NamedTuple):
    """A queue; if it is the only one, with the tasks that have waited longest in it."""

    state: QueueState
    oldest: Sequence[KeptTask] | None = None


def queues(
    reader: StoreReader,
    pattern: str | None = None,
    limit: int = 0,
    *,
    sort: str = "oldest",
    reverse: bool = False,
    within: float = WITHIN,
) -> Result:
    """The queues that match a pattern; if only one does, with the tasks that have waited longest.

    :param pattern: several, separated by commas, in which `*` stands for any text; None for all.
    :param limit: how many; 0 for all.
    :param sort: one of `SORTS`.
    :param within: seconds in which a queue should become empty.
    :raises StoreUnavailable: as the reader does.
    """
    queries = reader.queries
    now = queries.now()
    wanted = [Pattern(parts) for parts in split_values("*" if pattern is None else pattern)]
    states = queue_states(queries, now, lambda name: any(one.matches(name) for one in wanted))
    states.sort(key=lambda one: (one.has_producers, SORTS[sort](one, within)), reverse=True)
    if reverse:
        states.reverse()
    shown = states[:limit] if limit else states
    items = [OneQueue(state) for state in shown]
    if pattern is not None and len(items) == 1:
        items = [OneQueue(items[0].state, oldest_tasks(queries, items[0].state, limit or 20))]
    return Result(
        now,
        items,
        lambda one, at: queue_item(one.state, at, within, one.oldest),
        f"what waits now, and what came and left since {local(rates_since(now))[:19]}",
        [*queries.gaps(rates_since(now), now), *_unreported(queries, [one.state for one in items])],
        len(states) > len(shown),
    )


def oldest_tasks(queries: Queries, state: QueueState, count: int) -> list[KeptTask]:
    """The tasks that have waited longest in a queue, across all its priorities."""
    names = [one.name for one in queries.known_queues() if base_of(one.name) == state.name]
    waiting = [one for name in names for one in queries.waiting(name, min(count, state.wait.waiting))]
    waiting.sort(key=lambda one: (one[1], one[0]))
    return [task for task in queries.tasks([task_id for task_id, _ in waiting[:count]]) if task is not None]


def _unreported(queries: Queries, states: Sequence[QueueState]) -> list[Gap]:
    """Tasks that may be waiting unseen: in queues without `task-sent` events, and open tasks without a known queue."""
    gaps = []
    if names := [state.name for state in states if not state.has_producers]:
        more = f" and {len(names) - _NAMED} more queues" if len(names) > _NAMED else ""
        gaps.append(Gap(f"what waits in {', '.join(names[:_NAMED])}{more}, {NOT_REPORTED}", 0, 0))
    tasks = [task for task in queries.tasks(queries.open(MAX_OPEN_TASKS)) if task is not None]
    names = sorted({task.record.name or "no name" for task in tasks if task.record.queue is None})
    if names:
        gaps.append(Gap(f"tasks whose producers send no task-sent, such as {', '.join(names[:_NAMED])}", 0, 0))
    return gaps


class Running(NamedTuple):
    """How many tasks all workers together are running."""

    workers: int
    tasks: int


def running(read: Callable[[], Workers]) -> Running | None:
    """How many tasks all workers are running; None if a worker does not report it, or if it cannot be read, for example
    by a user without the right to run scripts.

    :param read: reads the workers.
    :raises StoreUnavailable: as `read` does.
    """
    try:
        workers = read().entries
    except StoreRefused:
        return None
    there = [one.heartbeat.get("active") for one in workers if one.state in ("online", "late")]
    reported = [int(one) for one in there if isinstance(one, (int, float)) and 0 <= one < _MAX_ACTIVE]
    # An unreported number is not zero.
    return Running(len(there), sum(reported)) if len(reported) == len(there) else None
