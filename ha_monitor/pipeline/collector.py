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

RECEIVE_AT_ONCE = 100
"""Most messages taken between two looks at the size of the batch; fewer if it lacks fewer events."""


class Collected(NamedTuple):
    """A closed batch, and the place in the stream of deliveries behind it."""

    batch: Batch
    mark: Mark
    redelivered: Sequence[Message] = ()
    """Messages that had been delivered before, still to be decoded; the batch is empty then."""


class Collector:
    """Decodes messages into batches, and holds those that are not merged yet."""

    def __init__(self, source: Source, decoder: Decoder, settings: BatchSettings, clock: Clock) -> None:
        self._source = source
        self.decoder = decoder
        self._settings = settings
        self._clock = clock
        self._open = Batch()
        self._closed: deque[Collected] = deque()
        self.paused_at: float | None = None
        """When the broker was asked that had nothing more; None if there may be more at hand."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def event_count(self) -> int:
        """Events in all that is held."""
        return self._open.event_count + sum(collected.batch.event_count for collected in self._closed)

    @property
    def byte_count(self) -> int:
        """Bytes of the messages of all that is held."""
        return self._open.byte_count + sum(collected.batch.byte_count for collected in self._closed)

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
        batch = self._open
        closes_at: float | None = None
        self.paused_at = None
        while batch.event_count < self._settings.events:
            now = self._clock.monotonic()
            mark = self._source.mark()
            wait = patience if closes_at is None else max(0.0, closes_at - now)
            messages = self._source.receive(min(RECEIVE_AT_ONCE, self._settings.events - batch.event_count), wait)
            if not messages:
                self.paused_at = now
                break
            if messages[0].redelivered:
                self._close_with(mark)
                self._closed.append(Collected(Batch(), self._source.mark(), messages))
                return False
            self.decoder.decode(messages, batch)
            if closes_at is None:
                closes_at = self._clock.monotonic() + self._settings.time
            elif self._clock.monotonic() >= closes_at:
                break
        full = batch.event_count >= self._settings.events
        if full or not only_full:
            self.close_open()
        return full

    def close_open(self) -> None:
        """Close the open batch if there is anything in it."""
        self._close_with(self._source.mark())

    def _close_with(self, mark: Mark) -> None:
        if self._open.message_count:
            self._closed.append(Collected(self._open, mark))
            self._open = Batch()

    def take(self) -> Collected:
        """The oldest closed batch. :raises IndexError: if there is none."""
        return self._closed.popleft()

    def give_back(self, collected: Collected) -> None:
        """Put a batch taken, and not known to be merged, first in line again."""
        self._closed.appendleft(collected)

    def forget(self) -> None:
        """Drop everything; right only where the broker delivers it again."""
        self._open = Batch()
        self._closed.clear()
