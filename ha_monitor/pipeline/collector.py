"""Fills batches from the stream of deliveries."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.broker.source import Mark, Source
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Batch as BatchSettings
from ha_monitor.events.decode import Batch, Decoder, Message
from ha_monitor.events.facts import Fact
from ha_monitor.pipeline.slices import MOST_BYTES, slices

RECEIVE_AT_ONCE = 100
"""Most messages taken between two looks at the size of the batch; fewer if it lacks fewer events."""
DECODE_AT_ONCE = 8
"""Most messages decoded between two such looks: a busy worker puts 24 events into each, and what one call merges should
not have to be cut.
"""
DECODE_BYTES = 256 * 1024
"""Most bytes of them, unless a single one has more."""
MOST_KEPT = 100_000
"""Events kept while the store is away and the broker would not deliver them again."""
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of their messages."""


class Collected(NamedTuple):
    """A closed batch, or a part of one, and the place in the stream of deliveries behind it."""

    batch: Batch
    mark: Mark | None
    """None for a part: the mark of a later one covers its messages."""
    redelivered: Sequence[Message] = ()
    """Messages that had been delivered before, still to be decoded; the batch is empty then."""


class Collector:
    """Decodes messages into batches, and holds those that are not merged yet.

    Messages are decoded when there is room for them in a batch: a few of them may be many events.
    """

    def __init__(self, source: Source, decoder: Decoder, settings: BatchSettings, clock: Clock) -> None:
        self._source = source
        self.decoder = decoder
        self._settings = settings
        self._clock = clock
        self._received: deque[Message] = deque()
        self._before_received: Mark | None = None
        self._last_mark: Mark | None = None
        self._open = Batch()
        self._closed: deque[Collected] = deque()
        # Of what is closed, kept up to date: it may be many small batches.
        self._closed_events = self._closed_bytes = 0
        self.paused_at: float | None = None
        """When the broker was asked that had nothing more; None if there may be more at hand."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def event_count(self) -> int:
        """Events in all that is held."""
        return self._open.event_count + self._closed_events

    @property
    def byte_count(self) -> int:
        """Bytes of the messages of all that is held."""
        return self._open.byte_count + self._closed_bytes + sum(len(message.body) for message in self._received)

    @property
    def holds_too_much(self) -> bool:
        """Whether it is more than may be kept where the broker delivers nothing again."""
        return self.event_count > MOST_KEPT or self.byte_count > MOST_KEPT_BYTES

    def reconcile(self, event: dict[str, Any]) -> Fact:
        """The fact of an event that never came, under the settings as they are now."""
        return self.decoder.reconciled(event)

    def collect(self, patience: float, *, only_full: bool = False) -> bool:
        """Fill a batch until its size or its time closes it, or the stream pauses.

        :param patience: seconds to wait for the first message.
        :param only_full: let nothing but its size close it: the next call goes on with it.
        :returns: whether the size closed it, so that more is likely at hand.
        :raises BrokerUnavailable: what was received until then is in the open batch.
        """
        closes_at: float | None = None
        self.paused_at = None
        while not self._is_full():
            now = self._clock.monotonic()
            wait = patience if closes_at is None else max(0.0, closes_at - now)
            if not self._received and not self._receive(wait):
                self.paused_at = now
                break
            if not self._received:
                return False  # what came had been delivered before
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
            *parts, last = slices(self._open)
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
        """Close what there is of messages received, a batch at a time; whether there was any."""
        if self._received:
            self._decode()
        self.close_open()
        return bool(self._closed)

    def drop_all(self) -> int:
        """Drop all that is held, also what is not decoded yet; returns how many events it had."""
        while self._received:
            self._decode()
        dropped = self.event_count
        self.forget()
        return dropped

    def take(self) -> Collected:
        """The oldest closed batch. :raises IndexError: if there is none."""
        collected = self._closed.popleft()
        self._count(collected, -1)
        return collected

    def give_back(self, collected: Collected) -> None:
        """Put a batch taken, and not known to be merged, first in line again."""
        self._closed.appendleft(collected)
        self._count(collected, 1)

    def _count(self, collected: Collected, sign: int) -> None:
        self._closed_events += sign * collected.batch.event_count
        self._closed_bytes += sign * collected.batch.byte_count

    def forget(self) -> None:
        """Drop everything; right only where the broker delivers it again."""
        self._received.clear()
        self._open = Batch()
        self._closed.clear()
        self._closed_events = self._closed_bytes = 0

    def _is_full(self) -> bool:
        return self._open.event_count >= self._settings.events or self._open.byte_count >= MOST_BYTES

    def _receive(self, wait: float) -> bool:
        """Whether there was anything. What had been delivered before is closed at once, behind what is open."""
        mark = self._before_received = self._source.mark()
        most = min(RECEIVE_AT_ONCE, self._settings.events - self._open.event_count)
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
