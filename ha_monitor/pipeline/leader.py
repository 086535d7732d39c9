"""What the leader does beside its share of the events. Which instance leads is decided in Redis at each tick."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.stuck import Reconcile, StuckDuty
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Ticked, Watching

WATCH_EVERY = 0.5
"""Seconds at least between two looks at the workers: there may be many ticks a second while announcements wait."""
LOSSES_EVERY = 2.0
"""Seconds: as often as workers send heartbeats."""


class Leader:
    """The duties of this instance while it leads."""

    def __init__(
        self,
        record: SharedRecord,
        config: Config,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
        *,
        investigator: Investigator | None,
        reconcile: Reconcile,
    ) -> None:
        """
        :param investigator: asks about tasks that go no further; None if nobody looks for them.
        :param reconcile: makes a fact of an event that never came.
        """
        settings = config.workers
        self._store = record.store
        self._duties = record.duties
        self._tables = TableReport(logger, clock)
        self._watching = Watching(settings.late_after, settings.lost_after)
        self._count_losses = settings.count_losses
        self._telemetry = telemetry
        self._logger = logger
        self._clock = clock
        self._stuck: StuckDuty | None = None
        if investigator is not None:
            self._stuck = StuckDuty(
                record.open_tasks, investigator=investigator, reconcile=reconcile, logger=logger, clock=clock
            )
        self._leads = False
        self._watch_at = self._losses_at = 0.0
        self._heard_at = float("-inf")
        self._listening_since = clock.monotonic()

    def listened(self) -> None:
        """The instance has just received what the broker had for it, if anything."""
        now = self._clock.monotonic()
        if now - self._heard_at > self._watching.late_after:
            # It was deaf: no broker, no store, or a handler that took long. What the workers sent meanwhile is yet to
            # come, so their silence means nothing.
            self._listening_since = now
        self._heard_at = now

    def queue_seen(self, depth: int | None, asked_at: float) -> None:
        """The broker said how many messages wait in the shared queue; None if there is no queue.

        :param asked_at: when it was asked, by the monotonic clock.
        """
        if not depth and self._stuck is not None:
            self._stuck.queue_was_empty(asked_at)

    def after_tick(self, ticked: Ticked) -> list[OutboxItem]:
        """Do the duties if this instance leads; returns what is to be announced."""
        if ticked.leads != self._leads:
            self._leads = ticked.leads
            self._duties.start_anew()
            self._watch_at = 0.0
            self._logger.info("leading" if self._leads else "not-leading", token=self._store.token)
        if not ticked.leads:
            self._telemetry.does_not_lead()
            return []
        self._telemetry.leads(self._store.lease_until, followed=ticked.followed)
        items: list[OutboxItem] = []
        now = self._clock.monotonic()
        if now >= self._watch_at:
            self._watch_at = now + WATCH_EVERY
            items += self._watch()
        if now >= self._losses_at:
            items += self._duties.losses(report=self._count_losses)
            self._losses_at = now + (LOSSES_EVERY if self._duties.all_accounted else WATCH_EVERY)
        return items if self._stuck is None else items + self._stuck.proceed()

    def _watch(self) -> list[OutboxItem]:
        watched = self._duties.watch(self._watching, self._telemetry.surveyed_queues(), may_judge=self._may_judge())
        if watched is None:
            return []
        self._telemetry.fleet = watched
        self._tables.look(watched.tables)
        return watched.items

    def _may_judge(self) -> bool:
        now = self._clock.monotonic()
        return (
            now - self._heard_at <= self._watching.late_after
            and now - self._listening_since >= self._watching.lost_after
        )
