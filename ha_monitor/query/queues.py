"""How late each queue is, whether it empties, and what it would need for that.

Rates are those of the last minutes, so the conclusions hold only if the next minutes are similar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from math import ceil
from typing import NamedTuple

from ha_monitor.store.queries import QueueQueries
from ha_monitor.store.queue_flow import KEPT, KnownQueue, QueueFlow, QueueWait, base_of

WINDOW = 300.0
"""Seconds over which rates are computed; extended to a whole minute at the beginning."""


class Outlook(StrEnum):
    """Whether a queue empties."""

    EMPTY = "empty"
    EMPTIES = "empties"
    NEVER = "never"
    UNKNOWN = "not known"


class QueueState(NamedTuple):
    """What is known of a queue. If its producers do not report what they send, that is almost nothing."""

    name: str
    has_producers: bool
    """Whether producers report what they send to it; if not, the fields about waiting and rates mean nothing."""
    consumed_at: float | None
    """When the leader last saw a worker consume it, in seconds since the epoch; None if that is not known."""
    wait: QueueWait
    came: float
    """Tasks per second that came."""
    left: float
    """Tasks per second that left."""
    run_time: float | None
    """Mean seconds per run, of the runs that ended lately; None if none did."""
    outlook: Outlook
    empty_in: float | None
    """Seconds until it is empty at these rates; None if it never becomes empty."""

    @property
    def busy(self) -> float | None:
        """Mean number of processes that its runs keep busy; None if their duration is not known."""
        if self.run_time is None:
            return None if self.left else 0.0
        return self.left * self.run_time

    def needed(self, within: float) -> int | None:
        """How many more processes it needs to keep up, and to become empty within a time; None if that is not known.

        :param within: seconds; infinity for keeping up only.
        """
        if not self.has_producers:
            return None
        missing = self.came - self.left + self.wait.waiting / within
        if self.wait.waiting == 0 or missing <= 0:
            return 0
        return None if self.run_time is None else ceil(missing * self.run_time)


def queue_states(queries: QueueQueries, now: float, wanted: Callable[[str], bool]) -> list[QueueState]:
    """The queues whose names are wanted, in alphabetical order.

    :param now: by the store's clock, in seconds since the epoch.
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
    """Since when rates are computed, in seconds since the epoch."""
    return (now - WINDOW) // 60 * 60


def _state(
    name: str, parts: Sequence[tuple[KnownQueue, QueueWait, QueueFlow]], runs: Iterable[QueueFlow], seconds: float
) -> QueueState:
    """
    :param parts: the queue, or the queues of its priorities.
    :param runs: flows from which the duration of its runs is taken.
    :param seconds: duration of the flow in `parts`.
    """
    known, waits, flows = zip(*parts, strict=True)
    has_producers = any(one.has_producers for one in known)
    waiting = sum(one.waiting for one in waits)
    oldest = min((one.oldest for one in waits if one.oldest is not None), default=None)
    came, left = (sum(getattr(one, what) for one in flows) / seconds for what in ("came", "left"))
    ended, run_time = (sum(column) for column in zip(*((one.ended, one.run_time) for one in runs), strict=True))
    outlook, empty_in = _outlook(waiting, left - came) if has_producers else (Outlook.UNKNOWN, None)
    return QueueState(
        name,
        has_producers,
        max((one.consumed_at for one in known if one.consumed_at is not None), default=None),
        QueueWait(waiting, oldest, sum(one.later for one in waits)),
        came,
        left,
        run_time / ended if ended else None,
        outlook,
        empty_in,
    )


def _outlook(waiting: int, less: float) -> tuple[Outlook, float | None]:
    """:param less: by how many tasks per second it shrinks."""
    if waiting == 0:
        return Outlook.EMPTY, 0.0
    return (Outlook.EMPTIES, waiting / less) if less > 0 else (Outlook.NEVER, None)
