"""What came into queues and left them, as it is read (`queries.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

KEPT = 3 * 3600
"""Seconds for which it is kept, by minute."""
PRIORITY = "\x06\x16"
"""What kombu's Redis transport puts between the name of a queue and a priority: all of these are one queue."""

Cell = tuple[float, float, float, float]
"""Of a minute: tasks that came, that left, runs that ended, and their ms."""


class KnownQueue(NamedTuple):
    """A queue of tasks."""

    name: str
    is_told: bool
    """Whether a producer has told that it sent something there: else nothing is known of what waits in it."""
    consumed_at: float | None
    """When the leader last found that a worker consumes it, seconds since the epoch; None if it has not looked, or has
    found none.
    """


class QueueWait(NamedTuple):
    """What waits in a queue."""

    waiting: int
    """Tasks that have not started and may."""
    oldest: float | None
    """Since when the one that has waited longest could have started, seconds since the epoch; None if none waits."""
    later: int
    """Tasks that have not started and may not yet: their eta is still to come."""


class QueueFlow(NamedTuple):
    """What came into a queue and left it in some time."""

    came: int
    """Tasks that were sent, or put back; one with an eta when that came."""
    left: int
    """Runs that began, and tasks that ended without one."""
    ended: int
    """Runs that ended a task, of which is known how long they took."""
    run_time: float
    """Seconds that these took in all."""


def base_of(name: str) -> str:
    """The name of a queue without a priority of kombu's Redis transport."""
    base, mark, priority = name.rpartition(PRIORITY)
    return base if mark and priority.isascii() and priority.isdigit() else name


def flow_from(cells: Iterable[Cell]) -> QueueFlow:
    """The sum of some minutes. None of it is negative, also where a count was moved from what is not kept any more."""
    came, left, ended, run_time = (max(0.0, sum(column)) for column in zip((0.0,) * 4, *cells, strict=True))
    return QueueFlow(int(came), int(left), int(ended), run_time / 1000)
