"""Batches that the store was given and has not answered for yet.

A store in the same house answers before the next batch is collected, so there is one. While a distant one answers,
several more are collected and sent: else a round trip would let through no more than a batch.

Redis merges them in the order in which they were handed over. If it merges one in part only, it refuses all those
behind it (`lua/apply.lua`), so that the rest comes first: all go back to the collector, in their order.
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
from ha_monitor.pipeline.latency import NEAR, Latency
from ha_monitor.pipeline.rejections import Rejections
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.results import Applied

LEAST_EVENTS = 50
"""Events of a batch at least, however few one call merges."""


class Pause(NamedTuple):
    """The broker had no more messages."""

    until: float
    """What it had sent until then is in the batches that were handed over; by the monotonic clock."""
    arrivals: int | None
    """`Source.arrivals`."""


class Merged(NamedTuple):
    """What the store has answered."""

    batch: Batch
    """What is merged: the batch, or its first tasks."""
    mark: Mark | None
    """What may be acknowledged once all of it is announced; None if nothing."""
    applied: Applied
    sent_at: float
    """By the monotonic clock."""
    pause: Pause | None
    """The latest one until which everything is merged now, if there was one."""
    was_redelivered: bool = False
    """The broker had delivered its messages before, here or to another instance."""


class _Sent(Struct):
    collected: Collected
    at: float
    pause: Pause | None = None
    """The latest one after it and before the next was collected."""


class HandedOver:
    """The oldest first, and what they have brought that is not acknowledged yet. Used by the loop."""

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
        self._most_events = collector.most_events
        self._latency = Latency(timely, timeout=timeout, clock=clock)
        self.left = 0
        """Batches, or rests of them, that the store has left and that are the next to be sent."""

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        """Whether no more may be under way."""
        return len(self._sent) >= self._latency.most

    def collect(self, wait: float) -> bool:
        """Collect the next batch, as `Collector.collect`. One that may be filled is not closed while another is under
        way: many small calls would cost Redis more than few large ones.

        :param wait: seconds to wait for the first message if there is nothing yet.
        """
        is_busy = bool(self._sent)
        has_some = is_busy or self._collector.is_open
        is_full = self._collector.collect(0.0 if has_some else wait, only_full=is_busy)
        if is_busy and not is_full:
            messages = sum(sent.collected.batch.message_count for sent in self._sent)
            if self._collector.gets_no_more(messages):
                self._collector.close_open()
        return is_full

    def send(self, collected: Collected) -> None:
        """Hand a batch over; what was left before is sent first. Raises as `Store.send_apply` does."""
        self._health.batch_began()
        self._sent.append(_Sent(collected, self._clock.monotonic()))
        self.left = max(0, self.left - 1)
        self._store.send_apply(collected.batch)

    @property
    def is_first(self) -> bool:
        """Whether no other call of the store should be made before it has answered for all: see `Latency`."""
        return bool(self._sent) and self._latency.is_first(self._sent[0].at)

    @property
    def goes_on_meanwhile(self) -> bool:
        """As `Latency.goes_on_meanwhile`."""
        return self._latency.goes_on_meanwhile

    @property
    def is_far(self) -> bool:
        """As `Latency.is_far`."""
        return self._latency.is_far

    def ticked(self, seconds: float) -> None:
        """A tick was answered, and all that were under way before it.

        :param seconds: that it took.
        """
        self._latency.ticked(seconds, len(self._sent))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """The same for what may make other calls."""
        began = self._clock.monotonic()
        yield
        self._latency.called(self._clock.monotonic() - began, len(self._sent))

    @property
    def is_slow(self) -> bool:
        """Whether the store has owed an answer for longer than one does that is near."""
        return bool(self._sent) and self._clock.monotonic() - self._sent[0].at >= NEAR

    def is_answered(self, within: float) -> bool:
        """Whether the store has answered for the oldest; waits up to so many seconds for it. Raises as the store."""
        if not self._sent:
            return False
        if self._store.answers_within(within):
            return True
        self._latency.missed()
        return False

    def pause(self, pause: Pause) -> None:
        """The broker had nothing more than what was handed over, if nothing of it is still collected."""
        if self._collector.is_open:
            return
        if self._sent:
            self._sent[-1].pause = pause
        else:
            self._watermark.nothing_in_flight(*pause)

    def receive(self) -> list[Merged]:
        """Wait until the store has answered for the oldest; if it has left something, until it has answered for all.

        :returns: what is to be announced, and then taken by `take_merged`; nothing if nothing is under way.
        :raises StoreUnavailable: and :raises LeaseLost: as the store; nothing is given up then.
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
                elif batch.event_count >= self._collector.most_events:
                    self._allow_more()
                # A mark covers all messages before it, so those of which something is left as well.
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
        self.left += len(left)
        return merged

    def _receive(self) -> Applied:
        asked_at = self._clock.monotonic()
        applied = self._store.receive_apply()
        self._latency.answered(self._sent[0].at, asked_at)
        return applied

    def _limit_to(self, events: int) -> None:
        """One call merges no more: what is behind it was sent for nothing."""
        if self._sent:
            self._collector.most_events = max(LEAST_EVENTS, min(events, self._collector.most_events) * 3 // 4)

    def _allow_more(self) -> None:
        missing = self._most_events - self._collector.most_events
        self._collector.most_events += -(-missing // 8)

    def _note(self, merged: Merged) -> None:
        self._merged.append(merged)
        batch, applied = merged.batch, merged.applied
        self._stats.add_batch(
            batch, new=applied.new, repeated=applied.repeated, waiting=applied.waiting, now=self._clock.time()
        )
        if batch.rejected_count:
            self._rejections.add(batch.rejected, batch.rejected_count)

    def take_merged(self) -> list[Merged]:
        """All that was received and is announced now: to be acknowledged, and then `done`."""
        merged, self._merged = self._merged, []
        return merged

    def done(self, merged: Merged) -> None:
        """It is merged, announced and acknowledged."""
        self._health.batch_committed()
        if self._sent:
            self._health.batch_began()
        self._batches.observe(self._clock.monotonic() - merged.sent_at)
        self._watermark.merged(merged.batch.message_count)
        if merged.pause is not None:
            self._watermark.nothing_in_flight(*merged.pause)

    def give_up(self) -> None:
        """Nothing is under way any more: what the store may not have merged goes back to the collector."""
        while self._sent:
            self._collector.put_back(self._sent.pop().collected)
        self._merged.clear()
        self._latency.start_anew()
        self.left = 0
