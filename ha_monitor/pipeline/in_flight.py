"""The batches in flight: sent to the store, and not answered yet.

A store nearby answers before the next batch is collected, so one batch is in flight. While a distant store answers,
several more are collected and sent: otherwise, only one batch would be merged per round trip.

Redis merges batches in the order in which they were sent. If it merges one only in part, it refuses all batches after
it (`lua/apply.lua`), so that the rest is merged first: the rest and the refused batches go back to the collector, in
their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from msgspec import Struct

from ha_monitor.broker.source import Mark
from ha_monitor.clock import Clock
from ha_monitor.events.decode import Batch
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.collector import Collected, Collector, split
from ha_monitor.pipeline.latency import NEARBY_LATENCY, Latency
from ha_monitor.pipeline.rejections import Rejections
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.results import Applied

MIN_BATCH_EVENTS = 50
"""Minimum of `Collector.max_events`, however few events one call merges."""


class Pause(NamedTuple):
    """A moment at which the broker had no more messages."""

    until: float
    """Time by the monotonic clock: what the broker had sent before it is in the batches that were sent to the store."""
    arrivals: int | None
    """`Source.arrivals`."""


class Merged(NamedTuple):
    """A batch that the store has merged, completely or in part."""

    batch: Batch
    """What is merged: the batch, or its first tasks."""
    mark: Mark | None
    """What may be acknowledged once the batch is announced; None if nothing."""
    applied: Applied
    sent_at: float
    """When the batch was sent, by the monotonic clock."""
    pause: Pause | None
    """The latest pause up to which everything is merged now; None if there was none."""
    was_redelivered: bool = False
    """Whether the broker had delivered the messages before, to this instance or another one."""


class _Sent(Struct):
    collected: Collected
    at: float
    pause: Pause | None = None
    """The latest pause after this batch and before the next one was collected."""


class BatchesInFlight:
    """The batches in flight, oldest first, and the merged ones that are not acknowledged yet. Used by the loop."""

    def __init__(
        self,
        store: Store,
        collector: Collector,
        stats: Stats,
        rejections: Rejections,
        timely: float,
        *,
        timeout: float,
        telemetry: Telemetry,
        watermark: Watermark,
        clock: Clock,
    ) -> None:
        """:param timely: and :param timeout: as for `Latency`."""
        self._store = store
        self._collector = collector
        self._stats = stats
        self._rejections = rejections
        self._health, self._batches = telemetry.health, telemetry.batches
        self._watermark = watermark
        self._clock = clock
        self._sent: deque[_Sent] = deque()
        self._merged: list[Merged] = []
        self._max_events = collector.max_events
        self._latency = Latency(timely, timeout=timeout, clock=clock)
        self.unmerged = 0
        """Number of batches, or rests of batches, that the store left unmerged and that must be sent next."""

    def __len__(self) -> int:
        """Number of batches in flight."""
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        """Whether no more batches may be in flight."""
        return len(self._sent) >= self._latency.max_in_flight

    def collect(self, wait: float) -> bool:
        """Collect the next batch, as `Collector.collect`. A batch that can still grow is not closed while another is in
        flight: many small calls would cost Redis more than few large ones.

        :param wait: seconds to wait for the first message if there is nothing yet.
        """
        is_busy = bool(self._sent)
        has_some = is_busy or self._collector.is_open
        is_full = self._collector.collect(0.0 if has_some else wait, only_full=is_busy)
        if is_busy and not is_full:
            messages = sum(sent.collected.batch.message_count for sent in self._sent)
            if self._collector.is_prefetch_reached(messages):
                self._collector.close_open()
        return is_full

    def send(self, collected: Collected) -> None:
        """Send a batch to the store; batches that were left unmerged must come first. Raises as `Store.send_apply`."""
        self._health.batch_began()
        self._sent.append(_Sent(collected, self._clock.monotonic()))
        self.unmerged = max(0, self.unmerged - 1)
        self._store.send_apply(collected.batch)

    @property
    def blocks_calls(self) -> bool:
        """Whether no other call of the store should be made before it has answered all batches: see `Latency`."""
        return bool(self._sent) and self._latency.blocks_calls(self._sent[0].at)

    @property
    def overlaps_calls(self) -> bool:
        """See `Latency.overlaps_calls`."""
        return self._latency.overlaps_calls

    @property
    def is_far(self) -> bool:
        """See `Latency.is_far`."""
        return self._latency.is_far

    def ticked(self, seconds: float) -> None:
        """The store answered a tick, and all batches in flight before it.

        :param seconds: how long the tick took.
        """
        self._latency.ticked(seconds, len(self._sent))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """As `ticked`, around code that may make other calls."""
        began = self._clock.monotonic()
        yield
        self._latency.called(self._clock.monotonic() - began, len(self._sent))

    @property
    def is_slow(self) -> bool:
        """Whether an answer has been outstanding for longer than with a store nearby."""
        return bool(self._sent) and self._clock.monotonic() - self._sent[0].at >= NEARBY_LATENCY

    def is_answered(self, within: float) -> bool:
        """Whether the store has answered the oldest batch; waits up to `within` seconds. Raises as the store."""
        if not self._sent:
            return False
        if self._store.answers_within(within):
            return True
        self._latency.missed()
        return False

    def pause(self, pause: Pause) -> None:
        """Note that the broker had no more messages than those sent to the store. Ignored while a batch is open."""
        if self._collector.is_open:
            return
        if self._sent:
            self._sent[-1].pause = pause
        else:
            self._watermark.nothing_in_flight(*pause)

    def receive(self) -> list[Merged]:
        """Wait until the store has answered the oldest batch; if it left something unmerged, until it has answered all.

        :returns: what must be announced, and then taken with `take_merged`; empty if nothing is in flight.
        :raises StoreUnavailable: and :raises LeaseLost: as the store; no batch is lost then.
        """
        merged: list[Merged] = []
        left: list[_Sent] = []
        try:
            while self._sent and (left or not merged):
                applied = self._receive()
                sent = self._sent.popleft()
                batch, mark = sent.collected.batch, sent.collected.mark
                if applied.is_refused:
                    left.append(sent)
                    continue
                if applied.merged < len(batch.tasks):
                    batch, rest = split(batch, applied.merged)
                    left.append(_Sent(sent.collected._replace(batch=rest), sent.at))
                    self._limit_to(batch.event_count)
                elif batch.event_count >= self._collector.max_events:
                    self._allow_more()
                # A mark covers all messages before it, and so also those of a batch that is not merged completely.
                is_all = not left
                pause = sent.pause if is_all else None
                again = sent.collected.was_redelivered
                merged.append(Merged(batch, mark if is_all else None, applied, sent.at, pause, again))
                self._note(merged[-1])
        except BaseException:
            self._sent.extendleft(reversed(left))
            raise
        for one in reversed(left):
            self._collector.put_back(one.collected)
        self.unmerged += len(left)
        return merged

    def _receive(self) -> Applied:
        asked_at = self._clock.monotonic()
        applied = self._store.receive_apply()
        self._latency.answered(self._sent[0].at, asked_at)
        return applied

    def _limit_to(self, events: int) -> None:
        """Make batches smaller, since one call merges no more events: the batches after it were sent in vain."""
        if self._sent:
            self._collector.max_events = max(MIN_BATCH_EVENTS, min(events, self._collector.max_events) * 3 // 4)

    def _allow_more(self) -> None:
        missing = self._max_events - self._collector.max_events
        self._collector.max_events += -(-missing // 8)

    def _note(self, merged: Merged) -> None:
        self._merged.append(merged)
        batch, applied = merged.batch, merged.applied
        self._stats.add_batch(
            batch, new=applied.new, repeated=applied.repeated, waiting=applied.waiting, now=self._clock.time()
        )
        if batch.rejected_count:
            self._rejections.add(batch.rejected, batch.rejected_count)

    def take_merged(self) -> list[Merged]:
        """All batches that were received and are now announced: acknowledge each, and then call `done`."""
        merged, self._merged = self._merged, []
        return merged

    def done(self, merged: Merged) -> None:
        """The batch is merged, announced and acknowledged."""
        self._health.batch_committed()
        if self._sent:
            self._health.batch_began()
        self._batches.observe(self._clock.monotonic() - merged.sent_at)
        self._watermark.merged(merged.batch.message_count)
        if merged.pause is not None:
            self._watermark.nothing_in_flight(*merged.pause)

    def give_up(self) -> None:
        """Nothing is in flight any longer: batches that the store may not have merged go back to the collector."""
        while self._sent:
            self._collector.put_back(self._sent.pop().collected)
        self._merged.clear()
        self._latency.start_anew()
        self.unmerged = 0
