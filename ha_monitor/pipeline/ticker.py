"""The tick, a regular call of the store: it renews the lease, publishes the counters and fetches what became due."""

from __future__ import annotations

import msgspec

from ha_monitor.broker.source import Source
from ha_monitor.clock import Clock
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.broker_link import BrokerLink
from ha_monitor.pipeline.counting import CountKeeper, Upkeep
from ha_monitor.pipeline.in_flight import BatchesInFlight
from ha_monitor.pipeline.leader import Leader
from ha_monitor.pipeline.merging import Merging
from ha_monitor.pipeline.rejections import Rejections
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.pipeline.takeovers import report_takeovers
from ha_monitor.pipeline.turn import Turn
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store

MIN_TICK_INTERVAL = 0.05
"""Minimum seconds between two ticks, however much is due."""


class Ticker:
    """Ticks: often enough for the lease, and as soon as something becomes due."""

    def __init__(
        self,
        store: Store,
        source: Source,
        *,
        turn: Turn,
        due: Schedule,
        every: float,
        store_link: StoreLink,
        broker: BrokerLink,
        leader: Leader,
        announcements: Announcements,
        in_flight: BatchesInFlight,
        merging: Merging,
        upkeep: Upkeep,
        watermark: Watermark,
        rejections: Rejections,
        report: Report,
        stats: Stats,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
    ) -> None:
        """
        :param due: when the next tick is due; other parts hasten it if something is due earlier.
        :param every: maximum seconds between two ticks, so that the lease is renewed in time.
        """
        self._store = store
        self._source = source
        self._clock = clock
        self._turn = turn
        self._ticked_at = float("-inf")
        self._store_link = store_link
        self._broker = broker
        self._leader = leader
        self._announcements = announcements
        self._in_flight = in_flight
        self._merging = merging
        self._watermark = watermark
        self._rejections = rejections
        self._report = report
        self._stats = stats
        self._telemetry = telemetry
        self._logger = logger
        self._counting = CountKeeper(store, telemetry, TableReport(logger, clock), clock, upkeep=upkeep)
        self.due = due
        self._every = every

    def may_wait(self) -> bool:
        """Whether the lease does not need a tick yet. If a tick is due nevertheless, it is for something to fetch."""
        return self._clock.monotonic() - self._ticked_at < self._every

    def tick(self) -> None:
        """Tick now, and perform the leader's duties unless the turn is long by then. What the tick brings must be
        announced afterwards, after what the batches in flight bring: the store answers them before the tick, so that
        nothing waits for them twice.

        :raises StoreUnavailable: and :raises LeaseLost: as `store/api.py` says.
        """
        self._stats.redelivered = self._source.redelivered
        self._stats.greeting, self._stats.greetings = self._source.greeting, list(self._source.greetings)
        looked_at = self._clock.monotonic()
        age = self._stats.behind = self._watermark.age()
        ticked = self._store.tick(
            msgspec.json.encode(self._stats),
            self._rejections.samples,
            eligible=self._broker.consuming,
            # After the store went back, the batches that it lost still have to be merged again.
            watermark_age=None if self._store.needs_restore else age,
            looked_at=looked_at,
            requeued=self._watermark.requeued,
        )
        self._ticked_at = self._clock.monotonic()
        self._in_flight.ticked(self._ticked_at - looked_at)
        # The samples and the requeue are stored only now. What the tick returned is not returned again: use it before
        # any other call can fail.
        report_takeovers(ticked.taken, self._stats, self._logger)
        self._rejections.samples_stored()
        self._watermark.requeue_stored()
        self._merging.receive_all()
        self.due.restart()
        if ticked.next_due is not None:
            self.due.hasten(max(MIN_TICK_INTERVAL, ticked.next_due))
        self._announcements.add_from_store(ticked.items)
        self._leader.after_tick(ticked)
        if not self._turn.is_long:
            self.perform_duties()
        self._store_link.answered(ticked.trouble)
        if ticked.clock_step:
            self._logger.warning(
                "store-clock-put-back",
                seconds=ticked.clock_step,
                reason="Redis's clock went backwards, or a fail-over moved to a host whose clock is behind: "
                "synchronize the clocks",
            )
        self._rejections.report()
        # Batches that are merged again are counted again. Only after that can it be seen which counts are missing.
        if self._telemetry.counting and not self._store.needs_restore:
            self._counting.look(ticked.label_sets)
        if self._broker.consuming:
            self._report.consuming()

    def perform_duties(self) -> None:
        """Perform the leader's duties if that was not done since the latest tick. What they bring must be announced
        afterwards. Raises as `tick` does.
        """
        if not self._leader.has_duties:
            return
        if self._in_flight.overlaps_calls and self._broker.consuming:
            self._merging.send_more()
        with self._in_flight.answering():
            found = self._leader.perform(self._turn)
        self._merging.receive_all()
        self._announcements.add(found)
