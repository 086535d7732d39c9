"""The connection to the store: this instance's registration there, and the calls that Redis refuses."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.dialing import Dialed
from ha_monitor.errors import HaMonitorError, LeaseLost, StoreRefused
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.backoff import STABLE_AFTER, Backoff
from ha_monitor.pipeline.link import Link
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.takeovers import report_takeovers
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.results import is_about_foreign_value
from ha_monitor.threads import Threads
from ha_monitor.version import __version__

REFUSED_FOR = STABLE_AFTER
"""Seconds without a refusal after which Redis counts as working again."""
MAX_BACKOFF = 5.0
"""Maximum seconds between two attempts to connect or to register."""
WARN_EVERY = 10.0
"""Minimum seconds between two warnings about writes that Redis refused while the call itself succeeded."""


class StoreLink(Link[None]):
    """The state of the connection, and of this instance's registration in the shared record."""

    def __init__(
        self,
        store: Store,
        *,
        announcements: Announcements,
        stats: Stats,
        health: Health,
        report: Report,
        logger: Logger,
        clock: Clock,
        identity: Identity,
        threads: Threads,
        lease: float,
    ) -> None:
        """:param lease: length of a lease in seconds."""
        super().__init__(
            "Redis",
            "store",
            "store-unavailable",
            first_backoff=0.2,
            # After an outage, the first instance to reconnect takes over the outboxes of those that are not back within
            # a lease. So all must reconnect within that time.
            max_backoff=min(MAX_BACKOFF, lease / 2),
            report=report,
            logger=logger,
            clock=clock,
            thread=threads.calls("store"),
        )
        self._store = store
        self._announcements = announcements
        self._stats = stats
        self._health = health
        self._who = {
            "instance": identity.instance,
            "host": identity.host,
            "pid": identity.pid,
            "version": __version__,
            "started": clock.time(),
        }
        """What `status` shows about this instance."""
        # If the lease is lost again soon after registering, registering again at once does not help.
        self._lease_backoff = Backoff(clock, first=0.2, cap=MAX_BACKOFF, at_once=True)
        self._refused_at: float | None = None
        self._warning = Schedule(clock, WARN_EVERY)
        self.registered = False

    def remaining(self) -> float:
        return max(super().remaining(), self._lease_backoff.remaining())

    def _dial(self) -> Dialed[None]:
        return self._store.dial()

    def _open(self, _connected: None) -> None:
        """Register this instance, or recover its outbox: what is left in it becomes pending.

        :raises StoreUnavailable: if Redis is unavailable. :raises LeaseLost: if another instance has the outbox; the
        next call registers again.
        """
        self._repair()
        if self.registered:
            recovered = self._store.recover()
            report_takeovers(recovered.taken, self._stats, self._logger)
            self._announcements.recover(recovered)
        else:
            self._store.register(self._who)
            self._lease_backoff.succeeded()
            self.registered = True
            self._announcements.start_anew()
        self._report_rollback()
        self._stats.store_connects += 1
        self._health.store(None)
        # A Redis that refuses calls still accepts connections, so a connection does not end the outage.
        if self._refused_at is None:
            self._is_back()

    def _is_back(self) -> None:
        away = self._returned()
        unannounced = len(self._announcements)
        if away is not None:
            self._logger.info("store-connected", token=self._store.token, unannounced=unannounced, **away)

    def answered(self, trouble: str) -> None:
        """Note that a call succeeded.

        :param trouble: the writes that Redis refused; empty if none.
        :raises StoreRefused: if a key that is needed to keep announcements has a foreign value.
        """
        self._report_rollback()
        now = self._clock.monotonic()
        if trouble:
            self._health.store_refused(f"Redis refused: {trouble}", now + REFUSED_FOR)
            if self._warning.is_due():
                self._warning.restart()
                self._logger.warning("store-damaged", reason=trouble)
            if is_about_foreign_value(trouble):
                self._repair()
        elif self._refused_at is not None and now - self._refused_at >= REFUSED_FOR:
            self._refused_at = None
            self._is_back()

    def _report_rollback(self) -> None:
        found = self._store.take_rollback()
        if found is None:
            return
        self._stats.rollbacks += 1
        self._logger.error(
            "store-went-back",
            since=None if found.since is None else iso_time(found.since),
            seconds=found.seconds,
            calls=found.calls,
            reason="Redis has lost confirmed writes (fail-over to a lagging replica, an older file, or deleted keys). "
            "Nothing is concluded from missing data; repeated announcements are marked recovered",
        )

    def _repair(self) -> None:
        for reason in self._store.repair(registered=self.registered):
            self._logger.warning("store-damaged", reason=reason)

    def lost(self, error: HaMonitorError) -> None:
        if isinstance(error, StoreRefused):
            self._refused_at = self._clock.monotonic()
            self._health.store_refused(str(error), self._refused_at + REFUSED_FOR)
        super().lost(error)

    def lease_lost(self, error: LeaseLost) -> None:
        """Have the instance register again: it no longer owns the outbox."""
        self._lease_backoff.failed()
        self._stats.leases_lost += 1
        self._logger.warning("lease-lost", reason=str(error), token=self._store.token)
        self._health.store("the lease was lost")
        self.registered = False
        self.close()

    def _unhealthy(self, problem: str) -> None:
        self._health.store(problem)

    def _close(self) -> None:
        # What is not announced is still in the outbox.
        self._store.close()
        self._announcements.forget()
