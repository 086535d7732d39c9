"""The connection to the store: made with growing pauses, and given up when it broke."""

from __future__ import annotations

from typing import Any

from ha_monitor.clock import Clock
from ha_monitor.errors import LeaseLost, StoreRefused, StoreUnavailable
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.pipeline.outage import Outage
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Store
from ha_monitor.store.results import is_about_foreign_value

REFUSED_FOR = 15.0
"""Seconds for which a refusal of Redis is not over: longer than the longest pause between two attempts."""
WARN_EVERY = 10.0
"""Seconds between two warnings about what Redis refused and a call did without."""


class StoreLink:
    """Whether this instance is entered in the shared record, and what is to be done for it."""

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
        who: dict[str, Any],
    ) -> None:
        """:param who: what `status` shows of this instance."""
        self._store = store
        self._announcements = announcements
        self._stats = stats
        self._health = health
        self._report = report
        self._logger = logger
        self._who = who
        self._clock = clock
        self._backoff = Backoff(clock, first=0.2, cap=5.0)
        self._losing = Backoff(clock, first=0.2, cap=5.0)
        self._lease_lost_at = float("-inf")
        self._outage = Outage("store-unavailable", logger, clock)
        self._refused_at: float | None = None
        self._warned_at = float("-inf")
        self.registered = False

    @property
    def connected(self) -> bool:
        return self._store.connected

    def remaining(self) -> float:
        """Seconds until the next attempt to connect; 0 if it is due."""
        return max(self._backoff.remaining(), self._losing.remaining())

    def connect(self) -> bool:
        """Connect, if the time for it has come, and enter this instance or take its outbox up again; whether it did.

        What was not announced before is to be announced now.

        :raises StoreUnavailable: if Redis is away. :raises LeaseLost: if another instance has the outbox; the next call
            enters this one anew.
        """
        if self.remaining():
            return False
        self._store.connect()
        self._mend()
        if self.registered:
            self._announcements.recover(self._store.recover())
        else:
            self._store.register(self._who)
            self.registered = True
            self._announcements.start_anew()
        self._stats.store_connects += 1
        self._health.store(None)
        # One can connect to a Redis that refuses, so that is not its return.
        if self._refused_at is None:
            self._is_back()
        return True

    def _is_back(self) -> None:
        self._backoff.succeeded()
        unannounced = len(self._announcements)
        self._logger.info("store-connected", token=self._store.token, unannounced=unannounced, **self._outage.over())

    def answered(self, trouble: str) -> None:
        """A call went through.

        :param trouble: what of it Redis refused; empty if nothing.
        :raises StoreRefused: if a key holds something foreign without which announcements would be lost.
        """
        now = self._clock.monotonic()
        if trouble:
            self._health.store_refused(f"Redis refused: {trouble}", now + REFUSED_FOR)
            if now - self._warned_at >= WARN_EVERY:
                self._warned_at = now
                self._logger.warning("store-damaged", reason=trouble)
            if is_about_foreign_value(trouble):
                self._mend()
        elif self._refused_at is not None and now - self._refused_at >= REFUSED_FOR:
            self._refused_at = None
            self._is_back()

    def _mend(self) -> None:
        for reason in self._store.mend(registered=self.registered):
            self._logger.warning("store-damaged", reason=reason)

    def lost(self, error: StoreUnavailable) -> None:
        """Give the connection up; what is not announced is still in the outbox."""
        self._outage.failed(str(error), self._backoff.failed())
        self._health.store(str(error))
        if isinstance(error, StoreRefused):
            self._refused_at = self._clock.monotonic()
            self._health.store_refused(str(error), self._refused_at + REFUSED_FOR)
        self._report.waiting("Redis", self._backoff.failing_since, str(error))
        self._store.close()
        self._announcements.forget()

    def lease_lost(self, error: LeaseLost) -> None:
        """Begin anew: another instance has the outbox."""
        now = self._clock.monotonic()
        # Again so soon means that entering it anew is no cure.
        if now - self._lease_lost_at < REFUSED_FOR:
            self._losing.failed()
        else:
            self._losing.succeeded()
        self._lease_lost_at = now
        self._stats.leases_lost += 1
        self._logger.warning("lease-lost", reason=str(error), token=self._store.token)
        self._health.store("the lease was lost")
        self.registered = False
        self._store.close()
        self._announcements.forget()
