"""Converts the counts in the store to metric families. `store/lua/counting.lua` documents the kinds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from ha_monitor.config.schema import WorkerLabels
from ha_monitor.metrics import definitions
from ha_monitor.metrics.definitions import BY_CODE, LOST, QUEUE_WAIT, RECONCILED, RUNTIME, SKEW, SKEWED
from ha_monitor.store.counts import Count, Counts

HISTOGRAMS = {"r": RUNTIME, "w": QUEUE_WAIT}
ONE_LABEL = {"l": LOST, "z": RECONCILED, "s": SKEWED, "S": SKEW}
Labels = tuple[str, ...]
_METRICS = {int(code): metric for code, metric in BY_CODE.items()}


class TaskCounts:
    """The counts of one instance in Prometheus' form."""

    def __init__(self, worker_labels: WorkerLabels, bounds: Iterable[float]) -> None:
        """:param bounds: of the histograms; others that were in use before are shown too."""
        self._bounds = dict.fromkeys((*bounds, float("inf")), 0)
        self._worker_labels = worker_labels
        self._counters: dict[str, dict[Labels, int]] = {metric.name: defaultdict(int) for metric in BY_CODE.values()}
        self._buckets: dict[str, dict[Labels, dict[float, int]]] = {
            kind: defaultdict(lambda: defaultdict(int)) for kind in HISTOGRAMS
        }
        self._with_one_label: dict[str, dict[Labels, int]] = {kind: defaultdict(int) for kind in ONE_LABEL}
        self._sums: dict[str, dict[Labels, int]] = {kind: defaultdict(int) for kind in HISTOGRAMS}

    def expect(self, nodenames: Iterable[str]) -> None:
        """Export 0 for workers without losses: for a series that starts with its first loss, Prometheus sees no
        increase.
        """
        for nodename in nodenames:
            self._with_one_label["l"][worker_values(nodename, self._worker_labels)] += 0

    def add(self, counts: Iterable[Count]) -> None:
        """Add what one instance has counted."""
        for count in counts:
            self._add(*count)

    def _add(self, kind: str, parts: list[str], count: int) -> None:
        if kind in ONE_LABEL:
            (label,) = parts
            labels = self._worker(label) if ONE_LABEL[kind].labels == definitions.WORKER else (label,)
            self._with_one_label[kind][labels] += count
            return
        if len(parts) != 4:
            # A name with the separator in it.
            parts = [*[definitions.OVERFLOW] * 3, parts[-1]]
        name, worker, queue, last = parts
        labels = (name, *self._worker(worker), queue)
        if kind.isdecimal():
            metric = _METRICS.get(int(kind))
            if metric is not None:
                self._counters[metric.name][(*labels, last) if "exception" in metric.labels else labels] += count
        elif kind in HISTOGRAMS:
            self._buckets[kind][labels][_bound(last)] += count
        elif kind.lower() in HISTOGRAMS:
            self._sums[kind.lower()][labels] += count

    def families(self) -> Iterator[Metric]:
        """All families, also those without a series yet."""
        for metric in dict.fromkeys(BY_CODE.values()):
            family = CounterMetricFamily(metric.name, metric.meaning, labels=label_names(metric, self._worker_labels))
            for labels, count in sorted(self._counters[metric.name].items()):
                family.add_metric(labels, count)
            yield family
        for kind, metric in ONE_LABEL.items():
            family = CounterMetricFamily(metric.name, metric.meaning, labels=label_names(metric, self._worker_labels))
            for labels, count in sorted(self._with_one_label[kind].items()):
                family.add_metric(labels, count / 1e6 if metric is SKEW else count)
            yield family
        for kind, metric in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(
                metric.name, metric.meaning, labels=label_names(metric, self._worker_labels)
            )
            for labels, buckets in sorted(self._buckets[kind].items()):
                histogram.add_metric(labels, cumulated({**self._bounds, **buckets}), self._sums[kind][labels] / 1e6)
            yield histogram

    def _worker(self, worker: str) -> Labels:
        return worker_values(worker, self._worker_labels)


def _bound(text: str) -> float:
    try:
        bound = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(bound) else bound


def overflowed(counts: Counts) -> int:
    """How many events were counted under `overflow`, because there were too many series."""
    return counts.of_label(definitions.OVERFLOW)


def cumulated(buckets: dict[float, int]) -> list[Any]:
    """Prometheus' cumulative buckets: each counts all values up to its bound."""
    total = 0
    result = []
    for bound in sorted(buckets):
        total += buckets[bound]
        result.append((str(floatToGoString(bound)), total))  # type: ignore[no-untyped-call]
    return result


def label_names(metric: definitions.Metric, worker_labels: WorkerLabels) -> list[str]:
    """The labels of a metric under `metrics.worker_labels`."""
    hidden = {
        WorkerLabels.NODENAME: (),
        WorkerLabels.HOSTNAME: ("worker",),
        WorkerLabels.NONE: definitions.WORKER,
    }[worker_labels]
    return [label for label in metric.labels if label not in hidden]


def worker_values(nodename: str, worker_labels: WorkerLabels) -> Labels:
    """The values of the labels that identify a worker."""
    if worker_labels is WorkerLabels.NONE:
        return ()
    hostname = nodename.partition("@")[2] or nodename
    if worker_labels is WorkerLabels.HOSTNAME:
        return (hostname,)
    # A producer has no stable nodename.
    return (hostname, nodename if "@" in nodename else "")
