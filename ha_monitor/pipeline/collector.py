"""Fills batches from the stream of deliveries. Each is so small that one call of the store merges it quickly."""

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

MAX_CALL_WEIGHT = 750
"""Maximum weight of the events that one call merges. An event of a new worker takes as long as six others."""
WORKER_EVENT_WEIGHT = 6
"""The weight of a worker event."""
LARGE_GROUP = 100
"""Number of events of one task in a batch beyond which each takes longer: it is searched for among all the events that
the record has seen."""
LARGE_GROUP_WEIGHT = 3
"""The weight of such an event."""
MAX_CALL_BYTES = 1024 * 1024
"""Maximum bytes per call; a single event may have more."""
RECEIVE_AT_ONCE = 100
"""Maximum messages taken between two checks of the batch's size; fewer if the batch has room for fewer events."""
DECODE_AT_ONCE = 8
"""Maximum messages decoded between two such checks: a busy worker puts 24 events into each, and a batch should not need
to be split.
"""
DECODE_BYTES = 256 * 1024
"""Maximum bytes of these messages, unless a single one has more."""
MAX_BUFFERED_EVENTS = 100_000
"""Maximum events buffered while the store is unavailable, if the broker does not redeliver."""
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
"""Maximum bytes of their messages."""
_encode = msgspec.msgpack.Encoder().encode


class Collected(NamedTuple):
    """A closed batch, or a part of one, and the position in the stream of deliveries after it."""

    batch: Batch
    mark: Mark | None
    """None for a part of a batch: the mark of a later part covers its messages."""
    redelivered: Sequence[Message] = ()
    """Redelivered messages that are not decoded yet; if there are any, the batch is empty."""
    was_redelivered: bool = False
    """Whether the batch holds the events of redelivered messages."""


class Collector:
    """Decodes messages into batches, and keeps those that are not merged yet.

    Messages are decoded only when a batch has room for them: a few messages may hold many events.
    """

    def __init__(self, source: Source, decoder: Decoder, settings: BatchSettings, clock: Clock) -> None:
        self._source = source
        self.decoder = decoder
        self._settings = settings
        self._clock = clock
        self.max_events = settings.events
        """Number of events that closes a batch; less than in the settings if one call of the store merges fewer."""
        self._received: deque[Message] = deque()
        self._before_received: Mark | None = None
        self._last_mark: Mark | None = None
        self._open = Batch()
        self._closed: deque[Collected] = deque()
        # Running sums over the closed batches, of which there may be many small ones.
        self._closed_events = self._closed_bytes = 0
        self.paused_at: float | None = None
        """When the broker had no more messages, by the monotonic clock; None if there may be more."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def event_count(self) -> int:
        """Number of events in all batches that are kept here."""
        return self._open.event_count + self._closed_events

    @property
    def byte_count(self) -> int:
        """Bytes of all messages that are kept here."""
        return self._open.byte_count + self._closed_bytes + sum(len(message.body) for message in self._received)

    @property
    def is_open(self) -> bool:
        """Whether a batch is being filled."""
        return bool(self._open.message_count)

    def is_prefetch_reached(self, in_flight: int) -> bool:
        """Whether the prefetch is reached, so that the broker sends no more before something is acknowledged.

        :param in_flight: number of messages in batches that were taken and not acknowledged yet.
        """
        limit = self._source.prefetch_limit
        return limit is not None and in_flight + self._open.message_count + len(self._received) >= limit

    @property
    def is_over_limit(self) -> bool:
        """Whether the buffer is over its limit, for a broker that does not redeliver."""
        return self.event_count > MAX_BUFFERED_EVENTS or self.byte_count > MAX_BUFFERED_BYTES

    def reconcile(self, event: dict[str, Any]) -> Fact:
        """The fact for an event that never arrived, built with the current settings."""
        return self.decoder.reconciled(event)

    def collect(self, timeout: float, *, only_full: bool = False) -> bool:
        """Fill a batch until its size or time closes it, or the stream pauses.

        :param timeout: seconds to wait for the first message.
        :param only_full: close the batch only if it is full; otherwise, the next call continues to fill it.
        :returns: whether the batch is full, so that more messages are probably available.
        :raises BrokerUnavailable: what was received until then is in the open batch.
        """
        closes_at: float | None = None
        self.paused_at = None
        while not self._is_full():
            now = self._clock.monotonic()
            wait = timeout if closes_at is None else max(0.0, closes_at - now)
            if not self._received and not self._receive(wait):
                # A large message that is still arriving shows that the broker had more.
                self.paused_at = None if self._source.is_receiving else now
                break
            if not self._received:
                return False  # redelivered messages came, which closed the batch
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
        """Close the open batch unless it is empty."""
        self._close_with(self._before_received if self._received else self._source.mark())

    def _close_with(self, mark: Mark | None) -> None:
        if self._open.message_count:
            *parts, last = batch_parts(self._open)
            for collected in (*(Collected(part, None) for part in parts), Collected(last, self._once(mark))):
                self._closed.append(collected)
                self._count(collected, 1)
            self._open = Batch()

    def _once(self, mark: Mark | None) -> Mark | None:
        """The mark, or None if a batch has it already: brokers do not accept a second acknowledgement."""
        if mark is None or mark == self._last_mark:
            return None
        self._last_mark = mark
        return mark

    def close_all(self) -> bool:
        """Close a batch of what was received, including what the source still holds. Returns whether there are closed
        batches.
        """
        while not self._is_full() and self._has_received():
            self._decode()
        self.close_open()
        return bool(self._closed)

    def drop_all(self) -> int:
        """Drop everything that is kept, decoded or not. Returns the number of events."""
        while self._has_received():
            self._decode()
        dropped = self.event_count
        self.forget()
        return dropped

    def _has_received(self) -> bool:
        """Whether there are messages to decode. Needs no connection."""
        if not self._received and self._source.holds_messages:
            with suppress(BrokerUnavailable):  # raised if the source held only a part of a message
                self._receive(0.0)
        return bool(self._received)

    @property
    def next_is_redelivered(self) -> bool:
        """Whether the oldest closed batch consists of redelivered messages."""
        return bool(self._closed and self._closed[0].redelivered)

    def take(self) -> Collected:
        """The oldest closed batch. :raises IndexError: if there is none."""
        collected = self._closed.popleft()
        self._count(collected, -1)
        return collected

    def put_back(self, collected: Collected) -> None:
        """Put back, at the front, a batch that was taken and is not known to be merged."""
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
        """Drop everything. Allowed only if the broker redelivers it, or it will not be merged."""
        self._received.clear()
        self._open = Batch()
        self._closed.clear()
        self._closed_events = self._closed_bytes = 0

    def _is_full(self) -> bool:
        return self._open.event_count >= self.max_events or self._open.byte_count >= MAX_CALL_BYTES

    def _receive(self, wait: float) -> bool:
        """Receive messages. Returns whether there were any. Redelivered messages become closed batches at once, after
        the open batch."""
        mark = self._before_received = self._source.mark()
        most = max(1, min(RECEIVE_AT_ONCE, self.max_events - self._open.event_count))
        messages = self._source.receive(most, wait)
        if messages and messages[0].redelivered:
            self._close_with(mark)
            again = deque(messages)
            while again:
                some = _take_some(again, RECEIVE_AT_ONCE)
                self._closed.append(Collected(Batch(), None if again else self._once(self._source.mark()), some))
        else:
            self._received.extend(messages)
        return bool(messages)

    def _decode(self) -> None:
        self.decoder.decode(_take_some(self._received, DECODE_AT_ONCE), self._open)


def _take_some(received: deque[Message], most: int) -> list[Message]:
    """Take at most `most` messages, fewer if they are large, but at least one if there is any."""
    messages: list[Message] = []
    size = 0
    while received and len(messages) < most:
        if messages and size + received[0].max_bytes > DECODE_BYTES:
            break
        message = received.popleft()
        messages.append(message)
        size += message.max_bytes
    return messages


def batch_parts(batch: Batch) -> list[Batch]:
    """Split a batch into parts of limited size. The last part carries the messages: with it, all of them are merged."""
    longest = max(map(len, batch.tasks.values()), default=0)
    cost = batch.event_count + (WORKER_EVENT_WEIGHT - 1) * len(batch.workers)
    if longest <= LARGE_GROUP and cost <= MAX_CALL_WEIGHT and batch.byte_count <= MAX_CALL_BYTES:
        return [batch]
    cutter = _Cutter(batch.newest)
    for task_id, facts in batch.tasks.items():
        cost = 1 if len(facts) <= LARGE_GROUP else LARGE_GROUP_WEIGHT
        for fact in facts:
            cutter.part_for(fact, cost).tasks.setdefault(task_id, []).append(fact)
    for fact in batch.workers:
        cutter.part_for(fact, cost=WORKER_EVENT_WEIGHT).workers.append(fact)
    for fact in batch.others:
        cutter.part_for(fact).others.append(fact)
    last = cutter.parts[-1]
    # Count events that have no fact, such as rejected ones.
    last.event_count += batch.event_count - sum(part.event_count for part in cutter.parts)
    last.take_messages_of(batch)
    return cutter.parts


def split(batch: Batch, tasks: int) -> tuple[Batch, Batch]:
    """Split a batch into the merged part, which has the first `tasks` tasks and nothing else, and the rest, which
    carries the messages."""
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
    """Cuts facts into parts of limited size."""

    def __init__(self, newest: float) -> None:
        self.parts: list[Batch] = []
        self._newest = newest
        self._bytes = self._cost = 0
        self._begin()

    def part_for(self, fact: Fact, cost: int = 1) -> Batch:
        """The part that a fact must be added to; counts the fact in it.

        :param cost: the fact's weight in events.
        """
        weight = len(_encode(fact))
        part = self.parts[-1]
        if part.event_count and (self._cost + cost > MAX_CALL_WEIGHT or self._bytes + weight > MAX_CALL_BYTES):
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
