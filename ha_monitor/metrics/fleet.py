"""The fleet-wide gauges, which only the leader exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from ha_monitor.broker.survey import TaskQueue
from ha_monitor.config.schema import WorkerLabels
from ha_monitor.metrics import definitions
from ha_monitor.metrics.labels import label_names, worker_values
from ha_monitor.schedules.model import Judgement, Source
from ha_monitor.store.incidents import Incident, Phase
from ha_monitor.store.results import Watched

SHOWN_OFFLINE = 600.0
"""Seconds for which a worker that sent worker-offline is exported: it was stopped on purpose, so no alert may stay."""


def fleet_families(watched: Watched, event_queue: int | None, worker_labels: WorkerLabels) -> Iterator[Metric]:
    """The leader's latest view of the store."""
    for metric, value in (
        (definitions.INSTANCES, watched.instances),
        (definitions.WAITING, watched.waiting),
        (definitions.RETRIES, watched.retries),
        (definitions.DEAD_LETTERS_KEPT, watched.dead_letters),
        (definitions.EVENT_QUEUE, event_queue),
        (definitions.SILENT, sum(worker.is_silent for worker in watched.workers)),
        (definitions.STUCK, watched.stuck),
        (definitions.ORPHANED, watched.orphaned),
    ):
        if value is not None:
            yield GaugeMetricFamily(metric.name, metric.meaning, value=value)
    for metric, attribute in (
        (definitions.TABLE_SIZE, "size"),
        (definitions.TABLE_LIMIT, "limit"),
        (definitions.TABLE_TURNED_AWAY, "refused"),
    ):
        values = {(table.name,): getattr(table, attribute) for table in watched.tables}
        yield _gauge(metric, {k: v for k, v in values.items() if v is not None}, worker_labels)
    up: dict[tuple[str, ...], int] = {}
    active: dict[tuple[str, ...], int] = {}
    skew: dict[tuple[str, ...], float] = {}
    states = dict.fromkeys(("online", "late", "lost", "offline"), 0)
    for worker in watched.workers:
        states[worker.state] = states.get(worker.state, 0) + 1
        if worker.state == "offline" and worker.silent_for > SHOWN_OFFLINE:
            continue
        labels = worker_values(worker.name, worker_labels)
        up[labels] = up.get(labels, 0) + (worker.state in ("online", "late"))
        if worker.active is not None:
            active[labels] = active.get(labels, 0) + worker.active
        # If workers are not told apart, the one whose clock is wrong by most.
        skew[labels] = max(skew.get(labels, 0.0), worker.skew, key=abs)
    yield _gauge(definitions.WORKER_UP, up, worker_labels)
    yield _gauge(definitions.WORKER_ACTIVE, active, worker_labels)
    yield _gauge(definitions.WORKER_SKEW, skew, worker_labels)
    yield _gauge(definitions.WORKERS, {(state,): count for state, count in states.items()}, worker_labels)


def incident_family(incidents: Iterable[Incident]) -> Metric:
    """Firing incidents, by kind and severity."""
    found = Counter[tuple[str, ...]]((one.kind, one.severity.value) for one in incidents if one.phase is Phase.FIRING)
    return _gauge(definitions.INCIDENTS, found, WorkerLabels.NODENAME)


def schedule_families(judgements: Iterable[Judgement]) -> Iterator[Metric]:
    """The schedules, as the leader last judged them: a thousand at most. Schedules that were only learned are left out,
    since alerts that wake somebody depend on these metrics.
    """
    last: dict[tuple[str, ...], float] = {}
    due, missed, state = dict(last), dict(last), dict(last)
    for one in judgements:
        if one.definition.source is Source.LEARNED:
            continue
        labels = (one.definition.name,)
        if one.last is not None and one.last.run is not None and one.last.run.at is not None:
            last[labels] = one.last.run.at
        if one.next_due is not None:
            due[labels] = one.next_due
        missed[labels] = one.history.missed_total
        state[*labels, one.state.value] = 1
    yield _gauge(definitions.SCHEDULE_LAST_RUN, last, WorkerLabels.NODENAME)
    yield _gauge(definitions.SCHEDULE_NEXT_DUE, due, WorkerLabels.NODENAME)
    yield _gauge(definitions.SCHEDULE_MISSED, missed, WorkerLabels.NODENAME)
    yield _gauge(definitions.SCHEDULE_STATE, state, WorkerLabels.NODENAME)


def queue_families(queues: Sequence[TaskQueue]) -> Iterator[Metric]:
    """The latest survey of the task queues."""
    for metric, attribute in (
        (definitions.QUEUE_LENGTH, "length"),
        (definitions.CONSUMERS, "consumers"),
        (definitions.QUEUE_WORKERS, "workers"),
        (definitions.QUEUE_PROCESSES, "processes"),
    ):
        values = {(queue.name,): getattr(queue, attribute) for queue in queues}
        yield _gauge(metric, {k: v for k, v in values.items() if v is not None}, WorkerLabels.NODENAME)


def _gauge(metric: definitions.Metric, values: Mapping[tuple[str, ...], float], worker_labels: WorkerLabels) -> Metric:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=label_names(metric, worker_labels))
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family
