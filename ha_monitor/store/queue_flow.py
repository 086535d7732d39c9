"""What came into queues and left them, as it is read (`queries.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

KEPT = 3 * 3600
"""Seconds for which it is kept, by minute."""
PRIORITY = "\x06\x16"
"""What kombu's Redis transport puts between a queue's name and a priority: all of these are one queue."""

Cell = tuple[float, float, float, float]
"""For a minute: tasks that came, tasks that left, runs that ended, and their total run time in ms."""


class KnownQueue(NamedTuple):
    """A queue of tasks."""

    name: str
    has_producers: bool
    """Whether a producer has reported that it sent a task there: otherwise it is not known what waits in it."""
    consumed_at: float | None
    """When the leader last found that a worker consumes it, seconds since the epoch; None if it has not looked, or
    found none.
    """


class QueueWait(NamedTuple):
    """What waits in a queue."""

    waiting: int
    """Tasks that have not started and may."""
    oldest: float | None
    """Since when the task that has waited longest could have started, seconds since the epoch; None if none waits."""
    later: int
    """Tasks that have not started and may not yet, because their eta is in the future."""


class QueueFlow(NamedTuple):
    """What came into a queue and left it in some period."""

    came: int
    """Tasks that were sent or requeued; one with an eta when the eta came."""
    left: int
    """Runs that began, and tasks that ended without one."""
    ended: int
    """Runs that ended a task and whose run time is known."""
    run_time: float
    """The sum of these run times, in seconds."""


def base_of(name: str) -> str:
    """The name of a queue without a priority from kombu's Redis transport."""
    base, mark, priority = name.rpartition(PRIORITY)
    return base if mark and priority.isascii() and priority.isdigit() else name


def flow_from(cells: Iterable[Cell]) -> QueueFlow:
    """The sum of some minutes. Never negative, even if a count was moved from a minute that is no longer kept."""
    came, left, ended, run_time = (max(0.0, sum(column)) for column in zip((0.0,) * 4, *cells, strict=True))
    return QueueFlow(int(came), int(left), int(ended), run_time / 1000)
