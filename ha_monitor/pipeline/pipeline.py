"""The main loop of an instance.

    run ─► cycle ─► cycle ─► … ─► shutdown
             │
             ├─ no store?   try to connect, recover what was not announced      (nothing is acknowledged)
             ├─ tick due?   renew the lease, fetch what became due or was left behind
             ├─ no broker?  try to connect, declare, consume                     (the lease stays alive)
             └─ consume     collect a batch ─► merge ─► announce ─► acknowledge

While Redis merges one batch, the next is collected; at most one is under way. Errors decide what happens next
(see `errors.py`): each is caught in `cycle` and leaves a state from which the next cycle goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from ha_monitor.broker.source import Mark, Source, longest_held
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable, LeaseLost, StoreUnavailable
from ha_monitor.events.decode import Decoder
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.announcer import Announcer
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.broker_link import BrokerLink
from ha_monitor.pipeline.collector import Collected, Collector
from ha_monitor.pipeline.excess import Excess
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.leader import Leader
from ha_monitor.pipeline.progress import Progress
from ha_monitor.pipeline.redeliveries import Redeliveries
from ha_monitor.pipeline.rejects import Rejects
from ha_monitor.pipeline.replaceable import Settings
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.slices import slices, split
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.pipeline.tables import TableReport, series_table
from ha_monitor.pipeline.takeovers import report_takeovers
from ha_monitor.store.api import SharedRecord
from ha_monitor.supervision import Supervisor
from ha_monitor.threads import Threads

IDLE_WAIT = 0.25
"""Seconds that the loop waits for a message at most, so that it notices a signal."""


class Pipeline:
    """Moves events from the broker to the outputs. One thread; `stop` may be called from a signal handler."""

    def __init__(
        self,
        *,
        config: Config,
        source: Source,
        record: SharedRecord,
        decoder: Decoder,
        announcer: Announcer,
        rejects: Rejects,
        redeliveries: Redeliveries,
        supervisor: Supervisor,
        stats: Stats,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
        who: dict[str, Any],
        greet: Callable[[str], object],
        reread: Callable[[], Settings | None],
        investigator: Investigator | None,
        threads: Threads,
        tend: Callable[[], None],
    ) -> None:
        """
        :param who: what `status` shows of this instance.
        :param greet: asks the workers for a heartbeat, given the broker's URL, and does not wait for it.
        :param reread: reads the configuration again; returns what can change while running, or None if it is wrong.
        :param investigator: asks about tasks that go no further; None if nobody looks for them.
        :param tend: starts what runs beside the loop and does not run; is called once a cycle.
        """
        self._config = config
        self._source = source
        self._store = store = record.store
        self._rejects = rejects
        self._redeliveries = redeliveries
        self._supervisor = supervisor
        self._telemetry = telemetry
        self._health = telemetry.health
        self._logger = logger
        self._clock = clock
        self._reread = reread
        self._tend = tend
        self.stats = stats
        self._stopping = self._reload_asked = False
        self._tick_at = self._sent_at = 0.0
        self._collector = Collector(source, decoder, config.batch, clock)
        self._excess = Excess(self._collector, stats, logger, clock)
        self._report = Report(supervisor, self.stats, clock)
        self._tables = TableReport(logger, clock)
        self._leader = Leader(
            record, config, telemetry, logger, clock, investigator=investigator, reconcile=self._collector.reconcile
        )
        self._progress = Progress(clock, source.most_in_hand, longest_held(config.broker.heartbeat))
        self._under_way: Collected | None = None
        self._counted = True
        self._announcements = Announcements(
            store=store,
            announcer=announcer,
            stats=self.stats,
            threads=threads,
            renew_lease=self._tick,
            keep_alive=self._keep_alive,
            handled=self._made_progress,
        )
        self._store_link = StoreLink(
            store,
            announcements=self._announcements,
            stats=stats,
            health=self._health,
            report=self._report,
            logger=logger,
            clock=clock,
            who=who,
        )
        self._broker = BrokerLink(
            source,
            queue=config.queue_name,
            stats=stats,
            health=self._health,
            report=self._report,
            progress=self._progress,
            logger=logger,
            clock=clock,
            greet=greet,
            depth_seen=self._leader.queue_seen,
        )

    def stop(self) -> None:
        """Finish what is under way and end `run`. Only sets a flag."""
        self._stopping = True

    def reload(self) -> None:
        """Read the configuration again before the next batch. Only sets a flag."""
        self._reload_asked = True

    def run(self) -> None:
        """Go round until `stop`.

        :raises ConfigurationError: if it turns out that the program cannot run as it is configured.
        """
        try:
            self.cycle()
            self._supervisor.ready()
            while not self._stopping:
                self._tend()
                if self._reload_asked:
                    self._reload()
                self.cycle()
                self._made_progress()
        except BaseException:
            # Nobody knows what state this came from: what was not announced is for the others.
            self._shutdown(finish=False)
            raise
        self._shutdown(finish=True)

    def _made_progress(self) -> None:
        # Also said when a handler returned; one that hangs makes none.
        self._health.progress()
        self._supervisor.progress()

    def cycle(self) -> None:
        """Go round once; takes a fraction of a second unless a connection or a handler blocks."""
        try:
            if not self._store_link.connected and not self._connect_store():
                self._wait_for_store()
                return
            self._tick_if_due()
            if not self._broker.consuming:
                self._finish()
            if not self._broker.consuming and not self._broker.connect():
                self._clock.sleep(min(IDLE_WAIT, self._broker.remaining()))
                return
            self._broker.keep_alive()
            self._consume()
        except StoreUnavailable as error:
            self._store_link.lost(error)
            self._repeat_batches()
        except LeaseLost as error:
            self._store_link.lease_lost(error)
            self._repeat_batches()
        except BrokerUnavailable as error:
            self._broker_lost(error)

    # --- consume ---------------------------------------------------------------------------

    def _consume(self) -> None:
        full = self._collector.collect(self._patience())
        self._leader.listened()
        self._finish()
        while self._collector:
            self._send(self._collector.take())
            if full and not self._collector:
                return  # more is at hand: Redis works while it is collected
            self._finish()
            self._keep_alive()
        if self._collector.paused_at is not None:
            self._progress.nothing_in_hand(self._collector.paused_at)
            self.stats.nothing_at_hand(self._clock.time())
        self._announcements.announce()
        self._store.confirm()

    def _patience(self) -> float:
        if self._under_way is not None:
            return 0.0
        return min(IDLE_WAIT, max(0.0, self._tick_at - self._clock.monotonic()))

    def _send(self, collected: Collected) -> None:
        if collected.redelivered:
            self._merge_redelivered(collected)
            return
        self._under_way = collected
        self._sent_at = self._clock.monotonic()
        self._health.batch_began()
        self._store.send_apply(collected.batch)

    def _merge_redelivered(self, collected: Collected) -> None:
        """Merge messages that may be what ended another instance, each step before the next."""
        for batch in self._redeliveries.batches(collected.redelivered, self._collector.decoder):
            for part in slices(batch):
                self._send(Collected(part, None))
                self._finish()
                self._keep_alive()
        self._announcements.announce()
        self._acknowledge(collected.mark)

    def _acknowledge(self, mark: Mark | None) -> None:
        try:
            if mark is not None:
                self._source.acknowledge(mark)
        except BrokerUnavailable as error:
            # All is merged and announced: the redelivery will be recognised.
            self._broker_lost(error)

    def _finish(self) -> None:
        """Wait for the batch under way, announce what it brought, and let the broker forget its messages."""
        while self._under_way is not None and self._finish_call(self._under_way):
            self._keep_alive()
            if self._collector:
                self._send(self._collector.take())

    def _finish_call(self, collected: Collected) -> bool:
        """The same for one call; whether it has left some of the batch, which is first in line then."""
        batch, mark, _ = collected
        applied = self._store.receive_apply()
        self._under_way = None
        is_left = applied.merged < len(batch.tasks)
        if is_left:
            batch, rest = split(batch, applied.merged)
            self._collector.give_back(Collected(rest, mark))
            mark = None
        self._announcements.add(applied.items)
        self.stats.add_batch(
            batch, new=applied.new, repeated=applied.repeated, waiting=applied.waiting, now=self._clock.time()
        )
        self._rejects.add(batch.rejected, batch.rejected_count)
        if applied.waiting:
            self._tick_at = min(self._tick_at, self._clock.monotonic() + self._config.store.name_wait)
        self._announcements.announce()
        self._acknowledge(mark)
        self._health.batch_committed()
        self._telemetry.batch_done(self._clock.monotonic() - self._sent_at)
        self._counted = True
        self._progress.merged(batch.message_count)
        self._store_link.answered(applied.trouble)
        self._made_progress()
        return is_left

    # --- time ------------------------------------------------------------------------------

    def _tick_if_due(self) -> None:
        if self._clock.monotonic() < self._tick_at:
            return
        self._finish()
        self._tick()
        self._announcements.announce()
        self._store.confirm()

    def _keep_alive(self) -> None:
        # What takes its time must cost neither the lease nor the broker's patience.
        if self._clock.monotonic() >= self._tick_at:
            self._tick()
        try:
            self._broker.keep_alive()
        except BrokerUnavailable as error:
            self._broker_lost(error)

    def _tick(self) -> None:
        self.stats.redelivered = self._source.redelivered
        ticked = self._store.tick(
            msgspec.json.encode(self.stats),
            self._rejects.samples,
            fit=self._broker.consuming,
            merged_ago=self._progress.ago(),
            handed_back=self._progress.handed_back,
        )
        # A tick that failed has told nothing of that. What this one brought comes only once: no other call before it.
        self._rejects.samples_stored()
        self._progress.handed_back_told()
        report_takeovers(ticked.taken, self.stats, self._logger)
        due_in = min(self._config.store.lease / 5, math.inf if ticked.next_due is None else ticked.next_due)
        self._tick_at = self._clock.monotonic() + max(0.05, due_in)
        self._announcements.add(ticked.items)
        self._announcements.add(self._leader.after_tick(ticked))
        self._store_link.answered(ticked.trouble)
        self._rejects.report()
        if self._telemetry.counting and (self._counted or ticked.items):
            self._telemetry.counts = self._store.counts()
            self._tables.look([series_table(self._telemetry.counts, self._config.metrics.max_series)])
            self._counted = False
        if self._broker.consuming:
            self._report.consuming()

    # --- connections -----------------------------------------------------------------------

    def _connect_store(self) -> bool:
        if not self._store_link.connect():
            return False
        self._excess.say()
        self._announcements.announce()
        self._tick_at = 0.0
        return True

    def _wait_for_store(self) -> None:
        if self._source.redelivers or not (self._broker.consuming or self._broker.connect()):
            self._clock.sleep(min(IDLE_WAIT, self._store_link.remaining()))
            return
        # What a pub/sub broker sends now it will not send again.
        self._broker.keep_alive()
        self._collector.collect(IDLE_WAIT, only_full=True)
        self._excess.drop()

    def _repeat_batches(self) -> None:
        """Make sure that batches of unknown fate are applied again."""
        if self._source.redelivers:
            # Nothing of it was acknowledged.
            self._broker.hand_back()
            self._health.batch_given_back()
            self._collector.forget()
        elif self._under_way is not None:
            self._collector.give_back(self._under_way)
        self._under_way = None

    def _broker_lost(self, error: BrokerUnavailable) -> None:
        self._broker.lost(error)
        if self._source.redelivers:
            self._collector.forget()
        else:
            self._collector.close_open()

    # --- on request ------------------------------------------------------------------------

    def _reload(self) -> None:
        self._reload_asked = False
        self._supervisor.reloading()
        if (settings := self._reread()) is not None:
            # A batch under way was decoded by the old settings, and its lines may be written by the new ones.
            self._collector.decoder = settings.decoder
            self._announcements.announcer = settings.announcer
        self._supervisor.ready()

    def _shutdown(self, *, finish: bool) -> None:
        self._health.stopping()
        self._report.stopping()
        left = 0
        try:
            if self._store_link.connected and self._store_link.registered:
                if finish:
                    self._finish()
                    while self._collector or (not self._source.redelivers and self._collector.close_all()):
                        self._send(self._collector.take())
                        self._finish()
                    if self._rejects.samples:
                        self._tick()  # no later one would tell of them
                elif self._under_way is not None:
                    self._store.receive_apply()
                left = self._store.leave()
        except (BrokerUnavailable, StoreUnavailable, LeaseLost) as error:
            self._logger.warning("stopped-early", reason=str(error))
            self._repeat_batches()
        self._source.close()
        self._store.close()
        if not self._source.redelivers:
            self._excess.drop_all()
        self._rejects.report(at_once=True)
        self._logger.info("instance-stopped", left_to_others=left, **self.stats.totals())
