"""What the leader does beside its share of the events. Which instance leads is decided in Redis at each tick."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Workers
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Ticked, Watching
from ha_monitor.store.store import Store

LOSSES_EVERY = 2.0
"""Seconds: as often as workers send heartbeats."""


class Leader:
    """The duties of this instance while it leads."""

    def __init__(self, store: Store, settings: Workers, telemetry: Telemetry, logger: Logger, clock: Clock) -> None:
        self._store = store
        self._watching = Watching(settings.late_after, settings.lost_after)
        self._telemetry = telemetry
        self._logger = logger
        self._clock = clock
        self._leads = False
        self._losses_at = 0.0
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

    def after_tick(self, ticked: Ticked) -> list[OutboxItem]:
        """Do the duties if this instance leads; returns what is to be announced."""
        if ticked.leads != self._leads:
            self._leads = ticked.leads
            self._logger.info("leading" if self._leads else "not-leading", token=self._store.token)
        if not ticked.leads:
            self._telemetry.does_not_lead()
            return []
        self._telemetry.leads(self._store.lease_until, followed=ticked.followed)
        watched = self._store.watch(self._watching, self._telemetry.surveyed_queues(), may_judge=self._may_judge())
        if watched is None:
            return []
        self._telemetry.fleet = watched
        now = self._clock.monotonic()
        if now < self._losses_at:
            return watched.items
        self._losses_at = now + LOSSES_EVERY
        return watched.items + self._store.losses()

    def _may_judge(self) -> bool:
        now = self._clock.monotonic()
        return (
            now - self._heard_at <= self._watching.late_after
            and now - self._listening_since >= self._watching.lost_after
        )
