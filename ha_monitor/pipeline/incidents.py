"""The leader's duty for incidents: look every few seconds at what is wrong, store it, and announce which incidents
opened or are resolved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Workers
from ha_monitor.incidents.facts import SurveyedQueue
from ha_monitor.incidents.gather import LeaderView
from ha_monitor.incidents.schedules import ScheduleView
from ha_monitor.incidents.shared_queue import SharedQueue
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.incident_detector import Detection, IncidentDetector, LatestIncidents
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.watermark import Listening
from ha_monitor.schedule import Schedule
from ha_monitor.schedules.model import Definition, Source
from ha_monitor.store.api import LeaderDuties, Store
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Watched
from ha_monitor.store.schedules import KnownSource

LOOK_EVERY = 5.0
"""Seconds between two looks."""
MERGED_WITHIN = 30.0
"""Maximum age of the fleet's watermark, in seconds, at which incidents that depend on events may be judged."""


class Watch(Protocol):
    """Looks at the workers."""

    @property
    def watched(self) -> Watched | None:
        """The result of the latest look; None if this instance has not looked since it leads."""

    @property
    def merged_ago(self) -> float | None:
        """Age of the fleet's watermark in seconds; None if it is not known."""


class ScheduleSources(Protocol):
    """Finds out which schedules exist."""

    @property
    def sources(self) -> Mapping[Source, KnownSource]:
        """The answer of each source since this instance leads."""


class SharedQueueCheck(Protocol):
    """Looks for other consumers of the event queue."""

    @property
    def found(self) -> SharedQueue | None:
        """What it found; None while that is not known."""


class Notifier(Protocol):
    """Delivers messages to the channels."""

    @property
    def failing(self) -> list[str]:
        """Names of the channels with which something is wrong."""

    @property
    def believed(self) -> Collection[str] | None:
        """Ids of the incidents that a channel believes to fire; None while this leader does not know."""


class IncidentsDuty:
    """Advances one step at each `run`: starts a look, and stores its result. Never waits for a look."""

    def __init__(
        self,
        duties: LeaderDuties,
        store: Store,
        *,
        detector: IncidentDetector,
        latest: LatestIncidents,
        watch: Watch,
        shared_queue: SharedQueueCheck,
        channels: Notifier | None,
        schedule_sources: ScheduleSources | None,
        schedules: Sequence[Definition],
        listening: Listening,
        settings: Workers,
        stats: Stats,
        telemetry: Telemetry,
        logger: Logger,
        clock: Clock,
    ) -> None:
        """
        :param latest: receives what was written.
        :param channels: None if no channel is notified of incidents.
        :param schedule_sources: None if schedules are not asked for.
        :param schedules: the schedules in the configuration of this program.
        """
        self._schedule_sources = schedule_sources
        self._schedules = schedules
        self._stats = stats
        self._duties = duties
        self._store = store
        self._detector = detector
        self._latest = latest
        self._watch = watch
        self._shared_queue = shared_queue
        self._channels = channels
        self._listening = listening
        self._settings = settings
        self._telemetry = telemetry
        self._logger = logger
        self._due = Schedule(clock, LOOK_EVERY)
        self._is_outdated = False
        """Whether the look in progress began before the leader changed."""
        self._fails = False
        self._unwritten: Detection | None = None
        """A look whose schedules are stored, and whose incidents must be stored at the next run."""

    def start_anew(self) -> None:
        self._unwritten = None
        self._is_outdated = self._detector.busy
        self._latest.forget()
        self._detector.start_anew()
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if self._unwritten is not None:
            detection, self._unwritten = self._unwritten, None
            return self._write(detection)
        if self._detector.busy:
            return self._take()
        watched = self._watch.watched
        if watched is not None and self._due.is_due():
            self._due.restart()
            self._detector.ask(self._view(watched))
        return []

    def _view(self, watched: Watched) -> LeaderView:
        merged_ago = watched.merged_ago
        queues = self._telemetry.queues()
        survey = None
        if queues is not None:
            survey = [
                SurveyedQueue(one.name, one.length or 0, (one.workers if one.consumers is None else one.consumers) > 0)
                for one in queues
            ]
        return LeaderView(
            watched.workers,
            watched.is_whole,
            survey,
            watched.stuck,
            watched.orphaned,
            self._store.went_back_at,
            [] if self._channels is None else self._channels.failing,
            event_queue=self._shared_queue.found,
            believed=() if self._channels is None else self._channels.believed,
            may_judge=merged_ago is not None
            and merged_ago <= MERGED_WITHIN
            and self._listening.has_lasted(self._settings.lost_after),
            schedules=ScheduleView(
                self._schedules,
                {} if self._schedule_sources is None else self._schedule_sources.sources,
                self._watch.merged_ago,
                self._listening.lasts(),
            ),
        )

    def _take(self) -> list[OutboxItem]:
        detection = self._detector.take()
        if detection is None:
            return []
        if self._is_outdated:
            self._is_outdated = False
            return []
        if detection.problem is not None and not self._fails:
            self._logger.warning("incidents-not-judged", reason=detection.problem)
        self._fails = detection.problem is not None
        if self._fails:
            # Call the store even without changes: it reports and repairs a foreign value in place of the incidents.
            return self._duties.incidents(detection.changes)
        self._telemetry.incidents = [one for one in detection.incidents if one.is_open]
        self._stats.judged = detection.judged_at or self._stats.judged
        self._telemetry.waiting_queues = detection.waiting_queues
        if detection.judged is not None:
            self._telemetry.schedules = detection.judged
        if not detection.schedules.is_empty and self._duties.schedules(detection.schedules):
            self._detector.written(detection.schedules)
            if self._store.is_slow:
                self._unwritten = detection
                return []
        return self._write(detection)

    def _write(self, detection: Detection) -> list[OutboxItem]:
        items = [] if detection.changes.is_empty else self._duties.incidents(detection.changes)
        # Notify of nothing that is not stored: another leader would send another message about it.
        self._latest.written(detection.incidents, has_judged=detection.judged_at is not None)
        return items
