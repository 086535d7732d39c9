"""The labels that metrics have under `metrics.worker_labels`."""

from __future__ import annotations

from ha_monitor.config.schema import WorkerLabels
from ha_monitor.metrics import definitions

Labels = tuple[str, ...]


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
