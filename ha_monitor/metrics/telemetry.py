"""State that the loop publishes for the HTTP threads, and the collector that turns it into metrics at a scrape.

The loop replaces whole attributes and never waits; a scrape reads them and does no I/O.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

from msgspec import Struct
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ha_monitor.broker.survey import Survey, TaskQueue
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.http.connections import Refusal
from ha_monitor.http.rate_limited import RateLimited
from ha_monitor.metrics.definitions import (
    BATCH_SECONDS,
    BUILD,
    CONSUMING,
    HTTP_REFUSED,
    LAST_EVENT,
    LEADER,
    LEFT_OUT,
    NODE_ID,
    OWN,
    SERIES,
    SERIES_LIMIT,
    STORE_UP,
    WITHOUT,
    Kind,
)
from ha_monitor.metrics.fleet import fleet_families, incident_family, queue_families, schedule_families
from ha_monitor.metrics.health import Health
from ha_monitor.metrics.lease import LeaderLease
from ha_monitor.metrics.scrapes import Guarded, Labelled
from ha_monitor.metrics.series import Series
from ha_monitor.metrics.task_text import TaskText
from ha_monitor.schedules.model import Judgement
from ha_monitor.store.incidents import Incident
from ha_monitor.store.results import Watched
from ha_monitor.version import __version__

BATCH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

SURVEY_TIME = 10.0
"""Seconds that a survey takes at most, mostly waiting for the workers' answers."""


class ToSurvey(NamedTuple):
    """What the next survey asks about, besides the queues that workers consume now."""

    known: Sequence[str]
    """The queues that a worker consumed lately, under any leader."""
    waiting: Sequence[str]
    """As `Telemetry.waiting_queues`."""
    asked_at: float
    """When the survey begins, by the monotonic clock."""


class Telemetry:
    """Shared state: the loop writes, the scrapes read."""

    def __init__(
        self, config: Config, clock: Clock, stats: Struct, warn: Callable[..., None] = lambda *_, **__: None
    ) -> None:
        """
        :param stats: the loop's own counters, with the attributes that `definitions.OWN` names.
        :param warn: writes a line, given its event and fields.
        """
        self.counting = bool(config.http.listen)
        """Whether metrics are served, so that somebody could ask."""
        self.health = Health(clock, config.http.stalled_after, config.store.lease)
        self.series = Series(config.metrics)
        """What this instance has counted."""
        self.fleet: Watched | None = None
        """The fleet as seen when this instance last performed the leader's duties."""
        self.incidents: Sequence[Incident] = ()
        """Incidents that are not over, as of this instance's last look at what is wrong."""
        self.schedules: Sequence[Judgement] = ()
        """The schedules as last judged."""
        self.waiting_queues: Sequence[str] | None = None
        """Names of the queues in which tasks wait, as producers report or an open incident says; including queues that
        no worker ever consumed. None before this instance's first look at what is wrong since it leads.
        """
        self._leads_since: float | None = None
        """When this instance became the leader, by the monotonic clock; None if it does not lead."""
        self.lease = LeaderLease(clock)
        self.tasks = TaskText(self.series, config.metrics, config.node_id, self.lease)
        """The families of tasks, as text."""
        self._clock = clock
        self._count_losses = config.workers.count_losses
        self._survey_interval = config.metrics.survey_interval
        self.consumed: Mapping[str, str] = {}
        """The only queue that a worker consumes, or an empty text for several, by nodename: as of the last survey."""
        self._survey: tuple[float, Survey] | None = None
        self.not_served: dict[Refusal, int] = dict.fromkeys(Refusal, 0)
        """Refused HTTP clients, by reason."""
        self.left_out = 0
        """Parts left out of scrapes."""
        self._broken = RateLimited(clock, lambda reason, times: warn("metrics-incomplete", reason=reason, times=times))
        self.batches = Histogram(BATCH_SECONDS.name, BATCH_SECONDS.meaning, buckets=BATCH_BUCKETS, registry=None)
        """Seconds from sending a batch until it is merged, announced and acknowledged."""
        self.registry = CollectorRegistry()
        families = _Families(self, stats, config)
        for collector in (ProcessCollector(registry=None), self.batches, *families.collectors()):
            # The label tells two fleets under one Prometheus apart, whatever their jobs are called.
            labelled = Labelled(collector, {NODE_ID: config.node_id})
            self.registry.register(Guarded(labelled, self.broken))

    def broken(self, what: str) -> None:
        """Something was left out of a scrape."""
        self.left_out += 1
        self._broken.report(what)

    def client_not_served(self, why: Refusal) -> None:
        """An HTTP client was refused."""
        self.not_served[why] += 1

    def leads(self, until: float, *, followed: bool) -> None:
        """This instance leads.

        :param until: when its lease expires, by the monotonic clock.
        :param followed: it has just become the leader after another one.
        """
        if followed:
            self._forget_fleet()
        if self._leads_since is None:
            self._leads_since = self._clock.monotonic()
        self.lease.hold(until, followed=followed)

    def watched(self, fleet: Watched) -> None:
        """This instance has performed the leader's duties.

        :param fleet: its state then.
        """
        self.fleet = fleet
        if self._count_losses:
            # Only the leader detects losses.
            self.series.expect((worker.name for worker in fleet.workers), self._clock.monotonic())

    def does_not_lead(self) -> None:
        """This instance does not lead."""
        self.lease.give_up()
        self._forget_fleet()

    def _forget_fleet(self) -> None:
        """What was seen while this instance led before may be outdated."""
        self.fleet = self._survey = self.waiting_queues = self._leads_since = None
        self.incidents = self.schedules = ()

    def is_leader(self) -> bool:
        """Whether this instance certainly leads, by its own clock."""
        return self.lease.holds()

    def to_survey(self) -> ToSurvey | None:
        """What a survey that begins now asks about; None if this instance does not lead, or does not know that yet: a
        survey without it would lack queues.
        """
        fleet, waiting = self.fleet, self.waiting_queues
        if fleet is None or waiting is None or not self.is_leader():
            return None
        return ToSurvey(fleet.queues, waiting, self._clock.monotonic())

    def surveyed(self, survey: Survey, asked_at: float) -> None:
        """The task queues were surveyed.

        :param asked_at: when the survey began, by the monotonic clock.
        """
        self.consumed = {
            worker: next(iter(queues)) if len(queues) == 1 else "" for worker, queues in survey.consumed.items()
        }
        self._survey = asked_at, survey

    def queues(self) -> Sequence[TaskQueue] | None:
        """The latest survey of the task queues; empty if it found none. None if there is no recent one that began since
        this instance leads.
        """
        latest, since = self._survey, self._leads_since
        if latest is None or since is None:
            return None
        asked_at, survey = latest
        is_recent = self._clock.monotonic() - asked_at <= 3 * self._survey_interval + SURVEY_TIME
        return survey.queues if is_recent and asked_at >= since else None

    def surveyed_queues(self) -> list[str]:
        """Names of the queues that a worker consumes."""
        return [queue.name for queue in self.queues() or () if queue.workers]


class _Part(Collector):
    """Families that are generated at each scrape."""

    def __init__(self, name: str, make: Callable[[], Iterator[Metric]]) -> None:
        self._name = name
        self._make = make

    def __str__(self) -> str:
        return self._name

    def collect(self) -> Iterator[Metric]:
        return self._make()


@functools.cache
def _versions() -> tuple[str, str, str]:
    # Celery's is read from a file, which takes as long as all other metrics of the instance.
    return __version__, platform.python_version(), metadata.version("celery")


class _Families:
    """Generates the families at each scrape, in independent parts."""

    def __init__(self, telemetry: Telemetry, stats: Struct, config: Config) -> None:
        self._telemetry = telemetry
        self._stats = stats
        self._settings = config.metrics
        self._versions = _versions()

    def collectors(self) -> Iterator[Collector]:
        """One for each part."""
        yield _Part("instance", self._own)
        yield _Part("fleet", self._fleet)
        yield _Part("queues", self._queues)
        yield _Part("schedules", self._schedules)

    def _fleet(self) -> Iterator[Metric]:
        watched = self._telemetry.fleet
        if not self._telemetry.lease.exports():
            return
        yield GaugeMetricFamily(LEADER.name, LEADER.meaning, value=1)
        if watched is not None:
            depth: int | None = getattr(self._stats, "depth", None)
            yield from fleet_families(watched, depth, self._settings.worker_labels)
        yield incident_family(self._telemetry.incidents)

    def _queues(self) -> Iterator[Metric]:
        if self._telemetry.lease.exports():
            yield from queue_families(self._telemetry.queues() or ())

    def _schedules(self) -> Iterator[Metric]:
        if self._telemetry.lease.exports():
            yield from schedule_families(self._telemetry.schedules)

    def _own(self) -> Iterator[Metric]:
        for attribute, metric in OWN.items():
            value = getattr(self._stats, attribute)
            family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            yield family(metric.name, metric.meaning, value=value)
        yield GaugeMetricFamily(LAST_EVENT.name, LAST_EVENT.meaning, value=getattr(self._stats, "last_event", 0.0))
        series = self._telemetry.series
        yield GaugeMetricFamily(SERIES.name, SERIES.meaning, value=series.samples)
        yield GaugeMetricFamily(SERIES_LIMIT.name, SERIES_LIMIT.meaning, value=series.limit)
        if series.is_known:
            without = CounterMetricFamily(WITHOUT.name, WITHOUT.meaning, labels=WITHOUT.labels)
            for label, count in series.without.items():
                without.add_metric([label], count)
            yield without
        ready = self._telemetry.health.ready().details
        yield GaugeMetricFamily(CONSUMING.name, CONSUMING.meaning, value=float(ready["consuming"]))
        yield GaugeMetricFamily(STORE_UP.name, STORE_UP.meaning, value=float(ready["store"]))
        refused = CounterMetricFamily(HTTP_REFUSED.name, HTTP_REFUSED.meaning, labels=HTTP_REFUSED.labels)
        for why, count in self._telemetry.not_served.items():
            refused.add_metric([why.value], count)
        yield refused
        yield CounterMetricFamily(LEFT_OUT.name, LEFT_OUT.meaning, value=self._telemetry.left_out)
        build = GaugeMetricFamily(BUILD.name, BUILD.meaning, labels=BUILD.labels)
        build.add_metric(self._versions, 1)
        yield build
