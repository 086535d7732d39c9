"""The leader's duty for workers: find out which are online, and announce which are lost or back."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.pipeline.watermark import FleetWatermark, Listening
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import LeaderDuties
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Watched, Watching

WATCH_EVERY = 0.5
"""Minimum seconds between two looks at the workers: there may be many ticks a second while announcements wait."""
HEARTBEAT_MISSED_AFTER = 4.0
"""Seconds of silence after which a worker has missed a heartbeat. An answer of the broker after that proves something
about the worker."""


MAX_NEW_QUEUES = 500
"""Maximum workers whose queues one look tells the store."""
RESEND_ALL_EVERY = 600.0
"""Seconds after which the store is told the queues of all workers again."""


class Publishers(Protocol):
    """Knows whether the broker accepts what workers publish; otherwise, workers cannot be heard."""

    @property
    def is_blocked(self) -> bool:
        """Whether the broker is known to accept no messages."""

    @property
    def asked_at(self) -> float | None:
        """When the latest attempt to publish began that no alarm delayed, by the monotonic clock."""

    def ask_again(self) -> None:
        """Try to publish. Does not block, never raises."""


class WatchDuty:
    """Looks at the workers, and passes the result to the metrics."""

    def __init__(
        self,
        duties: LeaderDuties,
        watching: Watching,
        listening: Listening,
        *,
        publishers: Publishers,
        telemetry: Telemetry,
        tables: TableReport,
        clock: Clock,
    ) -> None:
        self._duties = duties
        self._watching = watching
        self._listening = listening
        self._telemetry = telemetry
        self._tables = tables
        self._clock = clock
        self._publishers = publishers
        self._proof_lasts = max(1.0, watching.lost_after - HEARTBEAT_MISSED_AFTER)
        self._ask = Schedule(clock, min(watching.late_after, self._proof_lasts / 2))
        self._delivered_at = float("-inf")
        self._watermark = FleetWatermark(clock)
        self._watched: Watched | None = None
        """The result of the latest look."""
        self._due = Schedule(clock, WATCH_EVERY)
        self._stored_queues: dict[str, str] = {}
        """Worker → the queue that the store was told of."""
        self._all_stored_of: Mapping[str, str] | None = None
        self._resend_all = Schedule(clock, RESEND_ALL_EVERY)

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is no shared queue.

        :param at: time by the monotonic clock.
        """
        self._watermark.queue_was_empty(at)

    def delivered(self, at: float) -> None:
        """The broker delivered messages, or proved that it can.

        :param at: time by the monotonic clock.
        """
        self._delivered_at = at

    def start_anew(self) -> None:
        self._resend_all.hasten()
        self._watched = None
        self._due.hasten()

    @property
    def watched(self) -> Watched | None:
        """The result of the latest look; None if this instance has not looked since it leads."""
        return self._watched

    @property
    def merged_ago(self) -> float | None:
        """Age of the fleet's watermark in seconds; None if it is not known."""
        ages = self._watermark.ages()
        return None if ages is None else ages[0]

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        self._due.restart()
        if self._publishers.is_blocked:
            self._listening.interrupted()
        before = self._watched
        together = before is not None and self._fell_silent_together(before)
        asked_at = self._clock.monotonic()
        watched = self._duties.watch(
            self._watching,
            self._telemetry.surveyed_queues(),
            may_declare_lost=before is not None and self._may_declare_lost(before, together=together),
            together=together,
            watermark=self._watermark.ages(),
            consumes=(consumes := self._new_of(self._telemetry.consumed)),
        )
        self._watched = watched
        if watched is None:
            return []
        self._stored_queues.update(consumes)
        if watched.silent.workers and self._ask.is_due():
            self._ask.restart()
            self._publishers.ask_again()
        self._watermark.merged_by_all(None if watched.merged_ago is None else asked_at - watched.merged_ago)
        self._telemetry.watched(watched)
        self._tables.look(watched.tables)
        return watched.items

    def _new_of(self, consumed: Mapping[str, str]) -> dict[str, str]:
        """Worker → queue, for some workers whose queue the store was not told yet. From time to time, all of them are
        told again: the store may have lost them.
        """
        if self._resend_all.is_due():
            self._resend_all.restart()
            self._stored_queues.clear()
            self._all_stored_of = None
        if consumed is self._all_stored_of:
            return {}
        new = ((worker, queue) for worker, queue in consumed.items() if self._stored_queues.get(worker) != queue)
        found = dict(islice(new, MAX_NEW_QUEUES))
        if not found:
            self._all_stored_of = consumed
        return found

    def _may_declare_lost(self, before: Watched, *, together: bool) -> bool:
        """Whether silent workers may be declared lost. Only after this instance has listened for as long as a worker
        may be silent, and if, after the worker fell silent, the broker accepted messages and could deliver. If all
        workers fell silent together, not before the last of them has been silent for long enough.
        """
        lost_after = self._watching.lost_after
        return (
            self._listening.has_lasted(lost_after)
            and self._is_recent(self._publishers.asked_at)
            and self._is_recent(self._delivered_at)
            and not (together and before.silent.least < lost_after)
        )

    def _fell_silent_together(self, watched: Watched) -> bool:
        """Whether several workers fell silent at about the same time and none is online: then it is one common fault,
        not a fault of each worker."""
        silent = watched.silent
        return (
            silent.workers > 1
            and silent.most - silent.least <= self._watching.late_after
            and not any(worker.state == "online" for worker in watched.workers)
        )

    def _is_recent(self, at: float | None) -> bool:
        return at is not None and self._clock.monotonic() - at <= self._proof_lasts
