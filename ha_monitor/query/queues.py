"""How late each queue is, whether it empties, and what it would need for that.

Rates are those of the last minutes, so what follows from them holds only if the next are like these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from math import ceil
from typing import NamedTuple

from ha_monitor.store.queries import QueueQueries
from ha_monitor.store.queue_flow import KEPT, KnownQueue, QueueFlow, QueueWait, base_of

WINDOW = 300.0
"""Seconds over which rates are taken; the minute in which they begin is whole."""


class Outlook(StrEnum):
    """Whether a queue empties."""

    EMPTY = "empty"
    EMPTIES = "empties"
    NEVER = "never"
    UNKNOWN = "not known"


class QueueState(NamedTuple):
    """What is known of a queue. If its producers do not tell what they send, that is next to nothing."""

    name: str
    is_told: bool
    """Whether producers tell what they send there; all below counts nothing otherwise."""
    consumed_at: float | None
    """When the leader last found that a worker consumes it, seconds since the epoch; None if that is not known."""
    wait: QueueWait
    came: float
    """Tasks a second that came."""
    left: float
    """Tasks a second that left."""
    run_time: float | None
    """Seconds that a run takes, the mean of those that ended lately; None if none did."""
    outlook: Outlook
    empty_in: float | None
    """In how many seconds it is empty if it goes on like that; None if it never is."""

    @property
    def busy(self) -> float | None:
        """How many processes its runs keep busy, the mean; None if it is not known how long they take."""
        if self.run_time is None:
            return None if self.left else 0.0
        return self.left * self.run_time

    def needed(self, within: float) -> int | None:
        """How many more processes it needs to keep up, and to be empty in so many seconds; None if that is not known.

        :param within: seconds; infinity for keeping up only.
        """
        if not self.is_told:
            return None
        missing = self.came - self.left + self.wait.waiting / within
        if self.wait.waiting == 0 or missing <= 0:
            return 0
        return None if self.run_time is None else ceil(missing * self.run_time)


def queue_states(queries: QueueQueries, now: float, wanted: Callable[[str], bool]) -> list[QueueState]:
    """The queues whose names are wanted, in the order of the alphabet.

    :param now: by the clock of the store, seconds since the epoch.
    :raises StoreUnavailable: as the port does.
    """
    parts = [one for one in queries.known_queues() if wanted(base_of(one.name))]
    names = [one.name for one in parts]
    since = rates_since(now)
    waits, flows = queries.queue_waits(names), queries.queue_flow(names, since, now)
    whole: dict[str, list[tuple[KnownQueue, QueueWait, QueueFlow]]] = {}
    for found in zip(parts, waits, flows, strict=True):
        whole.setdefault(base_of(found[0].name), []).append(found)
    unmeasured = [name for name, flow in zip(names, flows, strict=True) if not flow.ended]
    longer = dict(zip(unmeasured, queries.queue_flow(unmeasured, now - KEPT, now), strict=True))
    states = []
    for name, of_queue in whole.items():
        runs = [longer.get(part.name, flow) for part, _, flow in of_queue]
        states.append(_state(name, of_queue, runs, now - since))
    return states


def rates_since(now: float) -> float:
    """When the time begins over which rates are taken, seconds since the epoch."""
    return (now - WINDOW) // 60 * 60


def _state(
    name: str, parts: Sequence[tuple[KnownQueue, QueueWait, QueueFlow]], runs: Iterable[QueueFlow], seconds: float
) -> QueueState:
    """
    :param parts: the queue, or those of its priorities.
    :param runs: what is known of how long its runs take.
    :param seconds: over which the flow was taken.
    """
    known, waits, flows = zip(*parts, strict=True)
    is_told = any(one.is_told for one in known)
    waiting = sum(one.waiting for one in waits)
    oldest = min((one.oldest for one in waits if one.oldest is not None), default=None)
    came, left = (sum(getattr(one, what) for one in flows) / seconds for what in ("came", "left"))
    ended, run_time = (sum(column) for column in zip(*((one.ended, one.run_time) for one in runs), strict=True))
    outlook, empty_in = _outlook(waiting, left - came) if is_told else (Outlook.UNKNOWN, None)
    return QueueState(
        name,
        is_told,
        max((one.consumed_at for one in known if one.consumed_at is not None), default=None),
        QueueWait(waiting, oldest, sum(one.later for one in waits)),
        came,
        left,
        run_time / ended if ended else None,
        outlook,
        empty_in,
    )


def _outlook(waiting: int, less: float) -> tuple[Outlook, float | None]:
    """:param less: tasks a second by which it becomes emptier."""
    if waiting == 0:
        return Outlook.EMPTY, 0.0
    return (Outlook.EMPTIES, waiting / less) if less > 0 else (Outlook.NEVER, None)
