"""What the instances share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from ha_monitor.clock import Clock
from ha_monitor.events.model import Event
from ha_monitor.store.memory.task import MemoryTask
from ha_monitor.store.outbox import Entry, OutboxItem

LEAST_STEP = 1.0
"""Seconds by which the clock must be put back for its deadlines to be looked at."""


class MemoryInstance(Struct):
    """What is kept of one instance."""

    who: dict[str, Any]
    lease_until: float
    """Seconds since the epoch."""
    lease: float
    """Its length in seconds."""
    calls: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    merged_until: float = 0.0
    outbox: list[Entry] = field(default_factory=list)
    behind: int = 0
    """Sequence number of the item that comes next."""
    seen: float = 0.0

    def push(self, entries: Sequence[Entry], *, recovered: int = 0) -> list[OutboxItem]:
        """Append entries. :param recovered: how many of the last ones come from another outbox."""
        first = self.behind
        self.outbox += entries
        self.behind += len(entries)
        own = len(entries) - recovered
        return [OutboxItem(first + number, entry, number >= own) for number, entry in enumerate(entries)]

    def trim(self, announced: int) -> None:
        """Forget what is below a sequence number."""
        self.behind = max(self.behind, announced)
        del self.outbox[: max(0, announced - (self.behind - len(self.outbox)))]


class MemoryServer:
    """The record of one `node_id`. Everything of it is for tests to look at."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.trouble: Callable[[str], None] = lambda _moment: None
        """Is told before and after each call, as in `before tick`; the caller gets what it raises. That is a reply that
        was lost, if it comes after a call.
        """
        self.most_tasks: int | None = None
        """Tasks that one call merges at most, as where their records are large; None for all."""
        self.instances: dict[int, MemoryInstance] = {}
        self.tasks: dict[str, MemoryTask] = {}
        self.others: set[bytes] = set()
        """Ids of events that belong to no task."""
        self.workers: dict[str, tuple[float, str]] = {}
        """When each was last heard of, and the type of its latest event."""
        self.lost_workers: set[str] = set()
        self.lost_events: list[Event] = []
        """What the next look of the leader at what was lost finds."""
        self.queues: list[str] = []
        self.found: dict[str, tuple[str, str, int]] = {}
        """Tasks that were said to be stuck or orphaned, in which phase, and since when."""
        self.leader: int | None = None
        self.retries: list[tuple[float, Entry]] = []
        self.dead_letters: list[bytes] = []
        self.rejected: list[bytes] = []
        self.begun: dict[str, int] = {}
        self.set_aside: list[bytes] = []
        self.requeued_at = float("-inf")
        self.went_back_at = 0
        """When it was last found to have gone back, ms since the epoch; 0 if never."""
        self.ticked_at = float("-inf")
        """When the last tick was, of any instance."""
        self.risks: list[str] = []
        self.last_token = 0

    def state(self) -> dict[str, Any]:
        """All that is kept, as it is now."""
        return copy.deepcopy({name: value for name, value in vars(self).items() if name not in ("clock", "trouble")})

    def go_back(self, state: dict[str, Any]) -> None:
        """Have what `state` has returned, as a Redis that lost the rest."""
        vars(self).update(copy.deepcopy(state))

    def enter(self, instance: MemoryInstance) -> int:
        """Give an instance a new token."""
        self.last_token += 1
        instance.merged_until = instance.merged_until or self.clock.time()  # until now it was given nothing
        self.instances[self.last_token] = instance
        return self.last_token

    def note_rollback(self, known: int, since: float, calls: int) -> list[int] | None:
        """As `lua/rollback.lua`."""
        if self.went_back_at > known:
            return None
        self.went_back_at = max(int(self.clock.time() * 1000), known + 1)
        return [int(since * 1000), calls]

    def tick(self, longest_wait: float) -> float:
        """Bring every deadline back to where it can lie at most, if the clock was put back since the tick before.

        :param longest_wait: seconds for which an announcement waits.
        :returns: the seconds by which it was put back; 0 if it was not.
        """
        now, before = self.clock.time(), self.ticked_at
        self.ticked_at = now
        if before - now < LEAST_STEP:
            return 0.0
        for one in self.instances.values():
            one.lease_until = min(one.lease_until, now + one.lease)
            one.merged_until = min(one.merged_until, 0.0)
        for task in self.tasks.values():
            task.put_clock_back(now, longest_wait)
        self.retries = [(min(at, now), entry) for at, entry in self.retries]
        self.requeued_at = min(self.requeued_at, now)
        self.workers = {name: (min(heard, now), said) for name, (heard, said) in self.workers.items()}
        return before - now

    def merged_by_all(self) -> float:
        """Until when all living instances have merged what they were given, seconds since the epoch; 0 while more of
        it may be delivered again.
        """
        now = self.clock.time()
        living = [one.merged_until for one in self.instances.values() if one.lease_until > now]
        least = min(living, default=0.0)
        return least if least > self.requeued_at else 0.0
