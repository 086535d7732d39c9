"""Splits a batch into parts that Redis merges in one call each, so that no call blocks it for long."""

from __future__ import annotations

import msgspec

from ha_monitor.events.decode import Batch
from ha_monitor.events.facts import Fact

MOST_EVENTS = 750
"""Events that one call merges; a worker event takes as long as four others, and counts as four."""
WORKER_EVENT = 4
"""The weight of a worker event."""
LARGE_GROUP = 100
"""Events of one task in a batch beyond which each takes longer: it is searched for among all that the record has
seen."""
LARGE_GROUP_EVENT = 3
"""The weight of such an event."""
MOST_BYTES = 1024 * 1024
"""Bytes per call; a single event may be more."""

_encode = msgspec.msgpack.Encoder().encode


def batch_parts(batch: Batch) -> list[Batch]:
    """Split a batch into parts of limited size. The last one carries its messages: with it, all of them are merged."""
    longest = max(map(len, batch.tasks.values()), default=0)
    cost = batch.event_count + (WORKER_EVENT - 1) * len(batch.workers)
    if longest <= LARGE_GROUP and cost <= MOST_EVENTS and batch.byte_count <= MOST_BYTES:
        return [batch]
    cutter = _Cutter(batch.newest)
    for task_id, facts in batch.tasks.items():
        cost = 1 if len(facts) <= LARGE_GROUP else LARGE_GROUP_EVENT
        for fact in facts:
            cutter.part_for(fact, cost).tasks.setdefault(task_id, []).append(fact)
    for fact in batch.workers:
        cutter.part_for(fact, cost=WORKER_EVENT).workers.append(fact)
    for fact in batch.others:
        cutter.part_for(fact).others.append(fact)
    last = cutter.parts[-1]
    # Events that have no fact, such as those rejected.
    last.event_count += batch.event_count - sum(part.event_count for part in cutter.parts)
    last.take_messages_of(batch)
    return cutter.parts


def split(batch: Batch, tasks: int) -> tuple[Batch, Batch]:
    """Split a batch into the merged part, this many tasks and nothing else, and the rest, which carries its
    messages."""
    merged, rest = Batch(), Batch()
    for number, (task_id, facts) in enumerate(batch.tasks.items()):
        (merged if number < tasks else rest).tasks[task_id] = facts
    merged.event_count = sum(map(len, merged.tasks.values()))
    merged.newest = rest.newest = batch.newest
    rest.workers, rest.others = batch.workers, batch.others
    rest.event_count = batch.event_count - merged.event_count
    rest.take_messages_of(batch)
    return merged, rest


class _Cutter:
    """The parts so far."""

    def __init__(self, newest: float) -> None:
        self.parts: list[Batch] = []
        self._newest = newest
        self._bytes = self._cost = 0
        self._begin()

    def part_for(self, fact: Fact, cost: int = 1) -> Batch:
        """The part for a fact; adds the fact's weight to it.

        :param cost: the fact's weight in events.
        """
        weight = len(_encode(fact))
        part = self.parts[-1]
        if part.event_count and (self._cost + cost > MOST_EVENTS or self._bytes + weight > MOST_BYTES):
            part = self._begin()
        part.event_count += 1
        self._cost += cost
        self._bytes += weight
        return part

    def _begin(self) -> Batch:
        part = Batch()
        part.newest = self._newest
        self.parts.append(part)
        self._bytes = self._cost = 0
        return part
