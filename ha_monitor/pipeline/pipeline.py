"""The main loop of an instance.

    run ─► cycle ─► cycle ─► … ─► shutdown
             │
             ├─ no store?   try to connect, recover what was not announced      (nothing is acknowledged)
             ├─ tick due?   renew the lease, fetch what became due or was left behind
             ├─ no broker?  try to connect, declare, consume                     (the lease stays alive)
             └─ consume     collect a batch ─► merge ─► announce ─► acknowledge

While Redis merges one batch, the next is collected; several are in flight if Redis is too far away to answer soon
(`in_flight.py`). Errors decide what happens next (see `errors.py`): each is caught in `cycle`, and leaves a state
from which the next cycle continues.
"""

from __future__ import annotations

from ha_monitor.broker.source import Mark, Source, max_requeue_delay
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable, LeaseLost, StoreUnavailable
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.broker_link import Broadcast, BrokerLink
from ha_monitor.pipeline.buffer_limit import BufferLimit
from ha_monitor.pipeline.collector import Collector
from ha_monitor.pipeline.duplicate_names import DuplicateNames
from ha_monitor.pipeline.in_flight import BatchesInFlight, Pause
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.leader import Leader
from ha_monitor.pipeline.merging import Merging
from ha_monitor.pipeline.peers import Peers
from ha_monitor.pipeline.redeliveries import Redeliveries
from ha_monitor.pipeline.rejections import Rejections
from ha_monitor.pipeline.reloadable import Program, Reloadable
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.pipeline.ticker import Ticker
from ha_monitor.pipeline.turn import Steps, Turn
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import SharedRecord
from ha_monitor.supervision import Supervisor
from ha_monitor.threads import Threads

IDLE_WAIT = 0.25
"""Maximum seconds that the loop waits for a message, so that it notices a signal."""


class Pipeline:
    """Moves events from the broker to the outputs, in the main thread. `stop` may be called from a signal handler."""

    def __init__(
        self,
        *,
        config: Config,
        source: Source,
        record: SharedRecord,
        reloadable: Reloadable,
        identity: Identity,
        supervisor: Supervisor,
        stats: Stats,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
        program: Program,
        broadcast: Broadcast,
        investigator: Investigator | None,
        detector: IncidentDetector | None,
        discovery: ScheduleDiscovery | None = None,
        threads: Threads,
    ) -> None:
        """:param investigator:, :param detector: and :param discovery: as for `Leader`."""
        self._config = config
        self._source = source
        self._store = store = record.store
        self._rejections = rejections = Rejections(identity, logger, clock)
        self._supervisor, self._program = supervisor, program
        self._health = telemetry.health
        self._logger, self._clock, self.stats = logger, clock, stats
        self._stopping = self._reload_asked = False
        self._turn = Turn(clock)
        self._steps = Steps(self._turn, self._perform_duties, self._check_peers, self._consume)
        self._collector = collector = Collector(source, reloadable.decoder, config.batch, clock)
        self._buffer_limit = BufferLimit(self._collector, stats, logger, clock)
        self._report = Report(supervisor, self.stats, clock)
        self._leader = Leader(
            record,
            *(config, telemetry, logger, clock),
            stats=stats,
            publishers=broadcast,
            investigator=investigator,
            reconciler=self._collector,
            detector=detector,
            discovery=discovery,
            threads=threads,
        )
        self._watermark = Watermark(clock, source.prefetch_limit, max_requeue_delay(config.broker.heartbeat))
        timely = config.store.tick_every
        self._in_flight = BatchesInFlight(
            store,
            *(collector, stats, rejections, timely),
            timeout=config.store.timeout,
            telemetry=telemetry,
            watermark=self._watermark,
            clock=clock,
        )
        repeats = Repeats(store, None if source.redelivers else self._watermark, clock)
        self._announcements = Announcements(
            store, reloadable.lines, reloadable.handlers, stats=stats, threads=threads, upkeep=self, repeats=repeats
        )
        self._store_link = StoreLink(
            store,
            announcements=self._announcements,
            stats=stats,
            health=self._health,
            report=self._report,
            logger=logger,
            clock=clock,
            identity=identity,
            threads=threads,
            lease=config.store.lease,
        )
        duplicate_names = DuplicateNames(identity, config.store.lease, logger, clock)
        self._broker = BrokerLink(
            source,
            queue=config.queue_name,
            stats=stats,
            health=self._health,
            report=self._report,
            watermark=self._watermark,
            logger=logger,
            clock=clock,
            broadcast=broadcast,
            watcher=self._leader,
            peers=Peers(store, stats, config.node_id, logger, clock, duplicate_names=duplicate_names),
            threads=threads,
        )
        next_tick = Schedule(clock, timely)
        self._merging = Merging(
            self._in_flight,
            collector,
            Redeliveries(record.attempts, identity, stats, logger, clock),
            self._announcements,
            store_link=self._store_link,
            owner=self,
            next_tick=next_tick,
            name_wait=config.store.name_wait,
        )
        self._ticker = Ticker(
            store,
            source,
            turn=self._turn,
            due=next_tick,
            every=timely,
            store_link=self._store_link,
            broker=self._broker,
            leader=self._leader,
            announcements=self._announcements,
            in_flight=self._in_flight,
            merging=self._merging,
            upkeep=self,
            watermark=self._watermark,
            rejections=self._rejections,
            report=self._report,
            stats=stats,
            telemetry=telemetry,
            logger=logger,
            clock=clock,
        )

    def stop(self) -> None:
        """Finish what is in flight and end `run`. Only sets flags; the health probe reports the stop at once."""
        self._stopping = True
        self._health.stopping()

    def reload(self) -> None:
        """Reload the configuration before the next batch. Only sets a flag."""
        self._reload_asked = True

    def run(self) -> None:
        """Run cycles until `stop`. :raises ConfigurationError: if the program cannot run with this configuration."""
        try:
            self.cycle()
            self._supervisor.ready()
            while not self._stopping or self._leader.finish():
                self._program.ensure_running()
                if self._reload_asked:
                    self._reload()
                self.cycle()
                self.made_progress()
        except BaseException:
            # The state is unknown, so leave what remains to the other instances.
            self._shutdown(finish=False)
            raise
        self._shutdown(finish=True)

    def made_progress(self) -> None:
        """Notify probe and watchdog. Also called when a handler returned; a handler that hangs makes no progress."""
        self._health.progress()
        self._supervisor.progress()

    def cycle(self) -> None:
        """Run one cycle. Takes a fraction of a second unless a connection, a call of the store, or a handler blocks."""
        self._turn.begin()
        try:
            if not self._store.connected and not self._connect_store():
                self._wait_for_store()
                return
            if self._store.needs_restore:
                self._merging.finish()
                self._announcements.restore()
            if not self._tick_if_due():
                if self._broker.consuming:
                    self._broker.keep_alive()
                return
            if not self._broker.consuming:
                self._merging.finish_closed()
            if not self._broker.consuming and not self._broker.connect():
                self._wait_for_broker()
                return
            self._broker.keep_alive()
            self._steps.take()
        except StoreUnavailable as error:
            self._store_link.lost(error)
            self._repeat_batches()
        except LeaseLost as error:
            self._store_link.lease_lost(error)
            self._repeat_batches()
        except BrokerUnavailable as error:
            self.broker_lost(error)

    # --- steps -----------------------------------------------------------------------------

    def _perform_duties(self) -> None:
        if self._leader.has_duties and self._may_call():
            self._ticker.perform_duties()
            self._merging.announce()

    def _check_peers(self) -> None:
        if self._broker.should_check_peers and self._may_call():
            with self._in_flight.answering():
                self._broker.check_peers()

    def _may_call(self) -> bool:
        """Whether the store may be called now; if not, the loop starts a new turn first."""
        return self._merging.allows_calls() and not self._turn.is_long

    def _consume(self) -> None:
        if not self._broker.consuming:
            return  # the connection was lost in an earlier step
        full = bool(self._collector)  # then there is no need to collect more
        if not full:
            full = self._in_flight.collect(min(IDLE_WAIT, self._ticker.due.remaining()))
            if self._broker.is_answering:
                self._leader.listening.listened()
        was_idle = not (self._in_flight or self._collector or self._collector.is_open)
        self._merging.finish_answered()
        while self._collector and not self._in_flight.is_full:
            self._merging.send_next()
            if full and not self._collector:
                return  # more messages are available: collect them while Redis merges
            self._merging.finish_answered()
            if self._turn.is_long:
                return
            self.keep_alive()
        if self._collector:
            return
        if (paused_at := self._collector.paused_at) is not None:
            self.stats.nothing_received(self._clock.time())
            self._in_flight.pause(Pause(min(paused_at, self._source.received_until), self._source.arrivals))
        if self._in_flight:
            return  # Redis is far away: new messages need not wait for its answer
        self._merging.announce()
        if was_idle or not self._in_flight.is_far:
            self._store.flush()  # otherwise the next batch reports it, without another answer to wait for

    def acknowledge(self, mark: Mark | None) -> None:
        """See `merging.BrokerOwner`."""
        try:
            if mark is not None:
                self._source.acknowledge(mark)
        except BrokerUnavailable as error:
            # All of it is merged and announced, so its redelivery will be deduplicated.
            self.broker_lost(error)

    # --- time ------------------------------------------------------------------------------

    def _tick_if_due(self) -> bool:
        """Tick if due. Returns False while a due tick waits: it reports what is announced, so batches come first."""
        if not self._ticker.due.is_due() or (self._steps.had_no_time and self._ticker.may_wait()):
            return True
        if not self._may_call():
            return False
        is_far = self._in_flight.is_far
        self.renew_lease()
        self._merging.announce()
        if not (is_far or self._turn.is_long):
            self._store.flush()
        return True

    def keep_alive(self) -> None:
        """Slow work must cost neither the lease nor the broker's heartbeats."""
        self._turn.begin()
        self._merging.receive_answered()
        if not self._in_flight.blocks_calls:  # otherwise, batches in flight come first; callers repeat this meanwhile
            if self._ticker.due.is_due():
                self.renew_lease()
            else:
                self._ticker.perform_duties()
        try:
            self._broker.keep_alive()
        except BrokerUnavailable as error:
            self.broker_lost(error)

    def renew_lease(self) -> bool:
        """Tick, whether due or not. What was merged earlier is announced before what the tick brings."""
        if self._in_flight.blocks_calls and not self._stopping:
            self._ticker.due.hasten()
            return False
        self._ticker.tick()
        return True

    # --- connections -----------------------------------------------------------------------

    def _connect_store(self) -> bool:
        if not self._store_link.connect():
            return False
        self._buffer_limit.report()
        self._merging.announce()
        self._ticker.due.hasten()
        return True

    def _wait_for_store(self) -> None:
        if self._source.redelivers or not (self._broker.consuming or self._broker.connect()):
            self._clock.sleep(min(IDLE_WAIT, self._store_link.remaining()))
            return
        # Keep receiving: a pub/sub broker does not redeliver what it sends now.
        self._broker.keep_alive()
        self._collector.collect(IDLE_WAIT, only_full=True)
        self._buffer_limit.drop()

    def _wait_for_broker(self) -> None:
        """Wait for the next attempt, unless messages of a broker that does not redeliver are left to merge."""
        if self._source.redelivers or not self._collector.close_all():
            self._clock.sleep(min(IDLE_WAIT, self._broker.remaining()))

    def _repeat_batches(self) -> None:
        """Have batches that may not be merged merged again. None of their messages was acknowledged."""
        self._in_flight.give_up()
        if self._source.redelivers:
            self._broker.requeue()
            self._health.batch_requeued()
            self._collector.forget()

    def broker_lost(self, error: BrokerUnavailable) -> None:
        """See `merging.BrokerOwner`."""
        self._broker.lost(error)
        self._collector.broker_lost()

    # --- on request ------------------------------------------------------------------------

    def _reload(self) -> None:
        self._reload_asked = False
        self._supervisor.reloading()
        if (reloadable := self._program.read_again()) is not None:
            # A batch in flight was decoded with the old settings; its lines may be written with the new ones.
            self._collector.decoder = reloadable.decoder
            self._announcements.lines, self._announcements.handlers = reloadable.lines, reloadable.handlers
        self._supervisor.ready()

    def _shutdown(self, *, finish: bool) -> None:
        self._health.stopping()  # in case an error ended `run`
        self._report.stopping()
        left = 0
        try:
            if self._store.connected and self._store_link.registered:
                if finish:
                    if not self._source.redelivers:
                        self._source.close()  # so that only what it already holds must be merged
                    self._merging.finish_closed(is_stopping=True)
                    if self._rejections.samples:
                        self.renew_lease()  # the last tick, so that the samples reach the store
                self._merging.receive_all()
                self._broker.close()  # before the lease ends, so that the others wait for what is requeued
                left = self._store.unregister()
        except (BrokerUnavailable, StoreUnavailable, LeaseLost) as error:
            self._logger.warning("shutdown-incomplete", reason=str(error))
            self._repeat_batches()
        self._broker.close()
        self._store_link.close()
        if not self._source.redelivers:
            self._buffer_limit.drop_all()
        self._rejections.report(at_once=True)
        self._logger.info("instance-stopped", left_to_others=left, **self.stats.totals())
