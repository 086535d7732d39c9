"""Fills batches from the stream of deliveries, each so small that one call of the store merges it soon."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ha_monitor.broker.source import Mark, Source
from ha_monitor.clock import Clock
from ha_monitor.config.schema import BatchSettings
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Batch, Decoder, Message
from ha_monitor.events.facts import Fact

MOST_EVENTS = 750
"""Events that one call merges; one of a new worker takes as long as six others."""
WORKER_EVENT = 6
"""The weight of a worker event."""
LARGE_GROUP = 100
"""Events of one task in a batch beyond which each takes longer: it is searched for among all that the record has
seen."""
LARGE_GROUP_EVENT = 3
"""The weight of such an event."""
MOST_BYTES = 1024 * 1024
"""Bytes per call; a single event may be more."""
RECEIVE_AT_ONCE = 100
"""Most messages taken between two checks of the batch's size; fewer if it lacks fewer events."""
DECODE_AT_ONCE = 8
"""Most messages decoded between two such checks: a busy worker puts 24 events into each, and a batch should not need
to be split.
"""
DECODE_BYTES = 256 * 1024
"""Most bytes of these messages, unless a single one has more."""
MOST_KEPT = 100_000
"""Events buffered while the store is unavailable, if the broker does not redeliver."""
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of their messages."""
_encode = msgspec.msgpack.Encoder().encode


class Collected(NamedTuple):
    """A closed batch, or a part of one, and the position in the stream of deliveries after it."""

    batch: Batch
    mark: Mark | None
    """None for a part: the mark of a later one covers its messages."""
    redelivered: Sequence[Message] = ()
    """Redelivered messages, not decoded yet; the batch is empty then."""
    was_redelivered: bool = False
    """The batch is of such messages."""


class Collector:
    """Decodes messages into batches, and keeps those that are not merged yet.

    Messages are decoded when there is room for them in a batch: a few of them may be many events.
    """

    def __init__(self, source: Source, decoder: Decoder, settings: BatchSettings, clock: Clock) -> None:
        self._source = source
        self.decoder = decoder
        self._settings = settings
        self._clock = clock
        self.most_events = settings.events
        """Events that close a batch; fewer than in the settings if one call of the store does not merge so many."""
        self._received: deque[Message] = deque()
        self._before_received: Mark | None = None
        self._last_mark: Mark | None = None
        self._open = Batch()
        self._closed: deque[Collected] = deque()
        # Sums over the closed batches: there may be many small ones.
        self._closed_events = self._closed_bytes = 0
        self.paused_at: float | None = None
        """When the broker was asked and had no more messages; None if there may be more."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def event_count(self) -> int:
        """Events in all batches kept."""
        return self._open.event_count + self._closed_events

    @property
    def byte_count(self) -> int:
        """Bytes of all messages kept."""
        return self._open.byte_count + self._closed_bytes + sum(len(message.body) for message in self._received)

    @property
    def is_open(self) -> bool:
        """Whether a batch is being filled."""
        return bool(self._open.message_count)

    def gets_no_more(self, under_way: int) -> bool:
        """Whether the broker sends no more before something is acknowledged.

        :param under_way: messages that were taken and are not acknowledged.
        """
        limit = self._source.prefetch_limit
        return limit is not None and under_way + self._open.message_count + len(self._received) >= limit

    @property
    def holds_too_much(self) -> bool:
        """Whether the buffer is over its limit, for a broker that does not redeliver."""
        return self.event_count > MOST_KEPT or self.byte_count > MOST_KEPT_BYTES

    def reconcile(self, event: dict[str, Any]) -> Fact:
        """The fact of an event that never arrived, under the current settings."""
        return self.decoder.reconciled(event)

    def collect(self, timeout: float, *, only_full: bool = False) -> bool:
        """Fill a batch until its size or time closes it, or the stream pauses.

        :param timeout: seconds to wait for the first message.
        :param only_full: close it by size only: the next call continues with it.
        :returns: whether the size closed it, so that more is probably available.
        :raises BrokerUnavailable: what was received until then is in the open batch.
        """
        closes_at: float | None = None
        self.paused_at = None
        while not self._is_full():
            now = self._clock.monotonic()
            wait = timeout if closes_at is None else max(0.0, closes_at - now)
            if not self._received and not self._receive(wait):
                # A large message that is still arriving is one that the broker had.
                self.paused_at = None if self._source.is_receiving else now
                break
            if not self._received:
                return False  # they are redelivered
            self._decode()
            if closes_at is None:
                closes_at = self._clock.monotonic() + self._settings.time
            elif self._clock.monotonic() >= closes_at:
                break
        full = self._is_full() or bool(self._received)
        if full or not only_full:
            self.close_open()
        return full

    def close_open(self) -> None:
        """Close the open batch if there is anything in it."""
        self._close_with(self._before_received if self._received else self._source.mark())

    def _close_with(self, mark: Mark | None) -> None:
        if self._open.message_count:
            *parts, last = batch_parts(self._open)
            for collected in (*(Collected(part, None) for part in parts), Collected(last, self._once(mark))):
                self._closed.append(collected)
                self._count(collected, 1)
            self._open = Batch()

    def _once(self, mark: Mark | None) -> Mark | None:
        """A mark, or None if a batch has it already: brokers do not take a second acknowledgement."""
        if mark is None or mark == self._last_mark:
            return None
        self._last_mark = mark
        return mark

    def close_all(self) -> bool:
        """Close a batch of what was received, by the source too if its connection is gone; whether there was any."""
        while not self._is_full() and self._has_received():
            self._decode()
        self.close_open()
        return bool(self._closed)

    def drop_all(self) -> int:
        """Drop everything kept, decoded or not; returns the number of events."""
        while self._has_received():
            self._decode()
        dropped = self.event_count
        self.forget()
        return dropped

    def _has_received(self) -> bool:
        """Whether there are messages to decode. No connection is needed."""
        if not self._received and self._source.holds_messages:
            with suppress(BrokerUnavailable):  # then it was a part of one
                self._receive(0.0)
        return bool(self._received)

    @property
    def next_is_redelivered(self) -> bool:
        """Whether the oldest closed batch is of redelivered messages."""
        return bool(self._closed and self._closed[0].redelivered)

    def take(self) -> Collected:
        """The oldest closed batch. :raises IndexError: if there is none."""
        collected = self._closed.popleft()
        self._count(collected, -1)
        return collected

    def put_back(self, collected: Collected) -> None:
        """Put back at the front a batch that was taken, and is not known to be merged."""
        self._closed.appendleft(collected)
        self._count(collected, 1)

    def _count(self, collected: Collected, sign: int) -> None:
        self._closed_events += sign * collected.batch.event_count
        self._closed_bytes += sign * collected.batch.byte_count

    def broker_lost(self) -> None:
        """The connection is gone: drop what is redelivered; what is not is to be merged without waiting for more."""
        if self._source.redelivers:
            self.forget()
        else:
            self.close_open()

    def forget(self) -> None:
        """Drop everything; only for a broker that redelivers it."""
        self._received.clear()
        self._open = Batch()
        self._closed.clear()
        self._closed_events = self._closed_bytes = 0

    def _is_full(self) -> bool:
        return self._open.event_count >= self.most_events or self._open.byte_count >= MOST_BYTES

    def _receive(self, wait: float) -> bool:
        """Whether there was anything. Redelivered messages are closed at once, after the open batch."""
        mark = self._before_received = self._source.mark()
        most = max(1, min(RECEIVE_AT_ONCE, self.most_events - self._open.event_count))
        messages = self._source.receive(most, wait)
        if messages and messages[0].redelivered:
            self._close_with(mark)
            again = deque(messages)
            while again:
                some = _some_of(again, RECEIVE_AT_ONCE)
                self._closed.append(Collected(Batch(), None if again else self._once(self._source.mark()), some))
        else:
            self._received.extend(messages)
        return bool(messages)

    def _decode(self) -> None:
        self.decoder.decode(_some_of(self._received, DECODE_AT_ONCE), self._open)


def _some_of(received: deque[Message], most: int) -> list[Message]:
    """Take so many messages, or fewer if they are large, but at least one."""
    messages: list[Message] = []
    size = 0
    while received and len(messages) < most:
        if messages and size + received[0].most_bytes > DECODE_BYTES:
            break
        message = received.popleft()
        messages.append(message)
        size += message.most_bytes
    return messages


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
