"""The leader's duties, in addition to its share of the events. At each tick, Redis decides which instance leads."""

from __future__ import annotations

from msgspec import structs

from ha_monitor.broker.source import max_requeue_delay
from ha_monitor.clock import Clock
from ha_monitor.config.schedules import definitions_of
from ha_monitor.config.schema import Config
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.duty import Duty
from ha_monitor.pipeline.incident_detector import IncidentDetector, LatestIncidents
from ha_monitor.pipeline.incidents import IncidentsDuty
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.losses import LossesDuty
from ha_monitor.pipeline.notifications import NotificationsDuty, recipients_of
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.pipeline.schedules import SchedulesDuty
from ha_monitor.pipeline.shared_queue import SharedQueueDuty
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_risks import StoreRisks
from ha_monitor.pipeline.stuck import Reconciler, StuckTaskDuty
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.pipeline.turn import Turn
from ha_monitor.pipeline.watch import Publishers, WatchDuty
from ha_monitor.pipeline.watermark import Listening
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Ticked, Watching
from ha_monitor.threads import Threads


class Leader:
    """Runs the duties while this instance leads. Each duty has a file of its own; to add one, list it in `__init__`."""

    def __init__(
        self,
        record: SharedRecord,
        config: Config,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
        *,
        stats: Stats,
        publishers: Publishers,
        investigator: Investigator | None,
        reconciler: Reconciler,
        threads: Threads,
        detector: IncidentDetector | None = None,
        discovery: ScheduleDiscovery | None = None,
    ) -> None:
        """
        :param publishers: knows whether the broker accepts what workers send.
        :param investigator: asks about candidates; None if the detection of stuck tasks is disabled.
        :param detector: looks for incidents; None to detect no incidents.
        :param discovery: asks for schedules; None not to ask.
        """
        settings = config.workers
        self._store = record.store
        self._record_duties = record.duties
        self._telemetry = telemetry
        self._logger = logger
        self.listening = Listening(clock, settings.late_after)
        """The loop calls its `listened` whenever the instance has received."""
        watching = Watching(settings.late_after, settings.lost_after)
        self._watch = WatchDuty(
            record.duties,
            watching,
            self.listening,
            publishers=publishers,
            telemetry=telemetry,
            tables=TableReport(logger, clock),
            clock=clock,
        )
        self._shared_queue = SharedQueueDuty(
            record.store,
            stats,
            logger,
            clock,
            queue=config.queue_name,
            requeue_delay=max_requeue_delay(config.broker.heartbeat),
        )
        self._duties: list[Duty] = [
            self._watch,
            LossesDuty(record.duties, clock, report=settings.count_losses),
            StoreRisks(record.store, stats, logger, clock),
            self._shared_queue,
        ]
        self._stuck: StuckTaskDuty | None = None
        if investigator is not None:
            self._stuck = StuckTaskDuty(
                record.open_tasks, investigator=investigator, reconciler=reconciler, logger=logger, clock=clock
            )
            self._duties.append(self._stuck)
        self._channels: NotificationsDuty | None = None
        latest = LatestIncidents()
        if config.notify.channels:
            self._channels = NotificationsDuty(
                latest,
                record.deliveries,
                recipients_of(config.notify),
                structs.replace(config.notify, base_url=config.pages_url),
                node_id=config.node_id,
                store=record.store,
                stats=stats,
                logger=logger,
                clock=clock,
                threads=threads,
            )
            self._duties.append(self._channels)
        schedule_sources: SchedulesDuty | None = None
        if discovery is not None:
            schedule_sources = SchedulesDuty(discovery, self._watch, logger, clock)
            self._duties.append(schedule_sources)
        if detector is not None:
            self._duties.append(
                IncidentsDuty(
                    record.duties,
                    record.store,
                    detector=detector,
                    latest=latest,
                    watch=self._watch,
                    shared_queue=self._shared_queue,
                    channels=self._channels,
                    schedule_sources=schedule_sources,
                    schedules=definitions_of(config.schedules),
                    listening=self.listening,
                    settings=settings,
                    stats=stats,
                    telemetry=telemetry,
                    logger=logger,
                    clock=clock,
                )
            )
        self._leads = False
        self._next = 0
        """Index of the duty that comes first at the next call of `perform`."""
        self.has_duties = False
        """Whether this instance leads, and has not performed any duty since the latest tick."""

    def queue_seen(self, depth: int | None, asked_at: float, consumers: int | None = None) -> None:
        """The shared queue was queried.

        :param depth: its length; None if there is no queue.
        :param asked_at: time of the query by the monotonic clock.
        :param consumers: number of its consumers; None if they are not counted.
        """
        self._shared_queue.consumers_seen(consumers)
        if depth:
            return
        self._watch.queue_was_empty(asked_at)
        if self._stuck is not None:
            self._stuck.queue_was_empty(asked_at)

    def delivered(self, at: float) -> None:
        """The broker delivered messages, or proved that it can.

        :param at: time by the monotonic clock.
        """
        self._watch.delivered(at)

    def after_tick(self, ticked: Ticked) -> None:
        """Update whether this instance leads."""
        self.has_duties = ticked.leads
        # It may have been stopped while others led, and not have had a tick at which it did not lead.
        if ticked.leads != self._leads or ticked.followed:
            self._leads = ticked.leads
            self._record_duties.start_anew()
            self._next = 0
            for duty in self._duties:
                duty.start_anew()
            self._logger.info("leadership-acquired" if self._leads else "leadership-lost", token=self._store.token)
        if not ticked.leads:
            self._telemetry.does_not_lead()
        else:
            self._telemetry.leads(self._store.lease_until, followed=ticked.followed)

    def finish(self) -> bool:
        """The instance stops. Whether it has to go on for a while, so that nobody is told a second time of what its
        channels are being told: see `NotificationsDuty.finish`.
        """
        # Also if it does not lead: it may become the leader while it finishes its work.
        if self._channels is None or not self._channels.finish() or not self._leads:
            return False
        self.has_duties = self.has_duties or self._channels.has_outcome
        return True

    def perform(self, turn: Turn) -> list[OutboxItem]:
        """Perform the duties in rotation, until the turn is long. The next call continues with the next duty.

        :returns: the items to announce. Raises as `Duty.run`.
        """
        items: list[OutboxItem] = []
        self.has_duties = False
        for _ in self._duties:
            items += self._duties[self._next].run()
            self._next = (self._next + 1) % len(self._duties)
            if turn.is_long:
                break
        return items
