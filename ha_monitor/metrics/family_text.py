"""The parts of a page of task metrics: the text of labels, and of the lines of one family."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ha_monitor.config.schema import WorkerLabels
from ha_monitor.metrics.definitions import NODE_ID, QUEUE_WAIT, RUNTIME, Metric
from ha_monitor.metrics.series import RETIRED, SINGLE_LABEL_KINDS, Exemplar, Group

HISTOGRAMS = {"r": RUNTIME, "w": QUEUE_WAIT}
MAX_CACHED_VALUES = 4_096
"""Label values whose texts are cached."""


class LabelTexts:
    """The labels of groups as text."""

    def __init__(self, worker_labels: WorkerLabels, worker_histograms: bool, node_id: str) -> None:
        self._worker_labels = worker_labels
        self._worker_histograms = worker_histograms
        self._node_id = f'{NODE_ID}="{escaped(node_id)}"'
        # Many groups share few names, queues and workers.
        self._value = lru_cache(MAX_CACHED_VALUES)(escaped)
        self._worker = lru_cache(MAX_CACHED_VALUES)(self._worker_text)

    def of(self, group: Group) -> str:
        """The labels of a group in alphabetical order, each followed by a comma."""
        if group.kind == "z":
            return f'name="{escaped(group.labels[0])}",{self._node_id},'
        if group.kind in SINGLE_LABEL_KINDS:
            hostname, worker = self._worker(group.labels[0])
            return f"{hostname}{self._node_id},{worker}"
        name, nodename, queue = group.labels
        hostname, worker = self._worker(nodename)
        if group.kind in HISTOGRAMS and not self._worker_histograms and not group.is_retired:
            hostname = worker = ""
        return f'{hostname}name="{self._value(name)}",{self._node_id},queue_name="{self._value(queue)}",{worker}'

    def _worker_text(self, nodename: str) -> tuple[str, str]:
        if self._worker_labels is WorkerLabels.NONE and not nodename.startswith(RETIRED):
            return "", ""
        hostname = f'hostname="{escaped(nodename.partition("@")[2] or nodename)}",'
        if self._worker_labels is not WorkerLabels.NODENAME:
            return hostname, ""
        # A producer has no stable nodename.
        return hostname, f'worker="{escaped(nodename) if "@" in nodename else ""}",'


class Family:
    """A family: its metadata, and the lines of each group."""

    def __init__(self, metric: Metric, *, openmetrics: bool) -> None:
        self.metric = metric
        self.name = metric.name.removesuffix("_total")
        shown = self.name if openmetrics else metric.name
        meaning = metric.meaning.replace("\\", r"\\").replace("\n", r"\n")
        self._head = f"# HELP {shown} {meaning}\n# TYPE {shown} {metric.kind.value}\n"
        self.sample, self.created = f"{metric.name}{{", f"{self.name}_created{{"
        """The beginnings of a line with a value, and of a line with the time of creation."""
        self._lines: dict[Group, str] = {}
        self._text: bytes | None = None

    def set(self, group: Group, lines: str) -> None:
        self._lines[group] = lines
        self._text = None

    def set_each(self, groups: Iterable[Group], lines: Iterable[str]) -> None:
        self._lines.update(zip(groups, lines, strict=True))
        self._text = None

    def counters(
        self, labels: Iterable[str], counts: Iterable[int], created: Iterable[str], first: str = ""
    ) -> list[str]:
        """The lines of each group.

        :param labels: for each, including the closing bracket and the space after it.
        :param created: for each, the end of the line with the time of creation; empty if there is none.
        :param first: a label before all others.
        """
        sample, since = f"{self.sample}{first}", f"{self.created}{first}"
        return [
            f"{sample}{of}{count}.0\n{since}{of}{at}" if at else f"{sample}{of}{count}.0\n"
            for of, count, at in zip(labels, counts, created, strict=True)
        ]

    def drop(self, group: Group) -> None:
        if self._lines.pop(group, None) is not None:
            self._text = None

    def text(self) -> bytes:
        if self._text is None:
            self._text = "".join([self._head, *self._lines.values()]).encode()
        return self._text


def exemplar_text(exemplar: Exemplar) -> str:
    """What OpenMetrics has after a sample."""
    return f' # {{task_id="{escaped(exemplar.task_id)}"}} {exemplar.value:.6f} {exemplar.time:.3f}\n'


def escaped(text: str) -> str:
    """A label value, escaped as in both formats."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
