"""The families of tasks as text. What has not changed reuses the text of the previous scrape: with 100,000 samples,
prometheus_client would take seconds for each scrape.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Protocol

from prometheus_client.utils import floatToGoString

from ha_monitor.config.schema import Metrics
from ha_monitor.metrics.definitions import BY_CODE, SKEW, Metric
from ha_monitor.metrics.exemplars import Exemplars
from ha_monitor.metrics.family_text import HISTOGRAMS, Family, LabelTexts, escaped, exemplar_text
from ha_monitor.metrics.series import SINGLE_LABEL_KINDS, SUM, TASKS, Exemplar, Group, Key, Series


class Scraped(Protocol):
    """Knows the clients."""

    def interval(self) -> float:
        """The longest interval in seconds between two scrapes of one client."""


_NONE: frozenset[str] = frozenset()

SEEN_AFTER = 0.9
"""After this multiple of the longest interval between scrapes, every client has seen a new series with 0."""


class TaskText:
    """The families of tasks in both formats, for the thread of the scrapes."""

    def __init__(self, series: Series, settings: Metrics, node_id: str, scraped: Scraped) -> None:
        self._series = series
        self.exemplars = Exemplars(series, settings)
        """For the loop, which knows the tasks."""
        self._scraped = scraped
        self._labels = LabelTexts(settings.worker_labels, settings.worker_histograms, node_id)
        self._bounds = sorted({*settings.buckets, float("inf")})
        self._formats: dict[bool, TextFormat] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return "tasks"

    def pieces(self, now: float, *, openmetrics: bool) -> list[bytes]:
        """Each family; nothing until the counts are known.

        :param now: by the monotonic clock.
        """
        if not self._series.is_known:
            return []
        self.exemplars.wanted |= openmetrics
        with self._lock:
            changed = self._series.take_changed()
            for one in self._formats.values():
                one.note(changed)
            made = self._formats.get(openmetrics)
            if made is None:
                made = self._formats[openmetrics] = TextFormat(self._labels, self._bounds, openmetrics=openmetrics)
                made.begin(self._series.all())
            return made.pieces(now, self._scraped.interval())


class TextFormat:
    """One of the two formats. A new series is first exported as 0, until each client has seen that: otherwise
    Prometheus would see no increase for its first counts.
    """

    def __init__(self, labels: LabelTexts, bounds: list[float], *, openmetrics: bool) -> None:
        self._labels_of = labels.of
        self._bounds = bounds
        self._usual = {SUM, *bounds}
        self._bound_texts = {bound: _go_float(bound) for bound in bounds}
        self._openmetrics = openmetrics
        codes: dict[Metric, list[int]] = {}
        for code, metric in BY_CODE.items():
            codes.setdefault(metric, []).append(int(code))
        self._counters = {Family(metric, openmetrics=openmetrics): of for metric, of in codes.items()}
        self._failed = [family for family in self._counters if "exception" in family.metric.labels]
        self._without_exception = [(family, of) for family, of in self._counters.items() if family not in self._failed]
        self._singles = {kind: Family(metric, openmetrics=openmetrics) for kind, metric in SINGLE_LABEL_KINDS.items()}
        self._histograms = {kind: Family(metric, openmetrics=openmetrics) for kind, metric in HISTOGRAMS.items()}
        self._labels: dict[Group, str] = {}
        self._changed: dict[Group, None] = {}
        self._shown: dict[Group, frozenset[str]] = {}
        """The failures of a group that have series of their own, if there are any."""
        self._zero_since: dict[tuple[Group, Key | None], float] = {}
        """New groups, and new failures in a group -> when they were first exported."""

    def begin(self, groups: Iterable[Group]) -> None:
        """Export the initial groups as they are: they may have been exported before this process began."""
        for group in groups:
            self._labels[group] = self._labels_of(group)
            if group.exceptions:
                self._shown[group] = group.exceptions
            self._changed[group] = None

    def note(self, changed: Iterable[Group]) -> None:
        """Have these groups written again."""
        self._changed.update(dict.fromkeys(changed))

    def pieces(self, now: float, interval: float) -> list[bytes]:
        """:param interval: see `Scraped.interval`."""
        for place, since in list(self._zero_since.items()):
            if now - since < SEEN_AFTER * interval:
                break
            del self._zero_since[place]
            self._changed[place[0]] = None
        changed, self._changed = self._changed, {}
        tasks: list[Group] = []
        for group in changed:
            if group.is_gone:
                self._drop(group)
                continue
            self._note_new(group, now)
            if group.kind == TASKS:
                tasks.append(group)
            else:
                self._write(group)
        self._write_tasks(tasks)
        families = (*self._counters, *self._singles.values(), *self._histograms.values())
        return [family.text() for family in families]

    def _drop(self, group: Group) -> None:
        if self._labels.pop(group, None) is None:
            return
        for key in (None, *self._shown.pop(group, ())):
            self._zero_since.pop((group, key), None)
        for family in (*self._counters, *self._singles.values(), *self._histograms.values()):
            family.drop(group)

    def _note_new(self, group: Group, now: float) -> None:
        """Note what is new in a group."""
        exceptions, shown = group.exceptions, self._shown.get(group, _NONE)
        new: Iterable[Key | None] = exceptions - shown
        if group not in self._labels:
            self._labels[group] = self._labels_of(group)
            new = (None,)
        if exceptions:
            self._shown[group] = shown | exceptions
        if new and not group.is_retired:
            self._zero_since.update(((group, key), now) for key in new)

    def _numbers(self, group: Group) -> dict[Key, int]:
        """The numbers as they are now: the loop may continue counting meanwhile."""
        return dict.fromkeys(group.numbers, 0) if (group, None) in self._zero_since else group.numbers.copy()

    def _write(self, group: Group) -> None:
        labels, numbers = self._labels[group], self._numbers(group)
        if group.kind in self._histograms:
            family = self._histograms[group.kind]
            exemplars = group.exemplars if self._openmetrics else {}
            text = self._histogram(family, labels, numbers, self._created(group.created), exemplars)
            family.set(group, text)
        else:
            family = self._singles[group.kind]
            value = numbers.get(SUM, 0)
            family.set(group, self._counter(family, labels, value / 1e6 if family.metric is SKEW else value, ""))

    def _write_tasks(self, groups: list[Group]) -> None:
        """Writes most of a page: one family after the other, which takes half as long as one group after the other."""
        if not groups:
            return
        labels = [f"{self._labels[group][:-1]}}} " for group in groups]
        created = [self._created(group.created) for group in groups]
        numbers = [self._numbers(group) for group in groups]
        for family, (code, *others) in self._without_exception:
            counts = [one.get(code, 0) for one in numbers]
            for other in others:
                counts = [count + one.get(other, 0) for count, one in zip(counts, numbers, strict=True)]
            family.set_each(groups, family.counters(labels, counts, created))
        for family in self._failed:
            lines = family.counters(labels, [0] * len(groups), created, first='exception="",')
            for at, group in enumerate(groups):
                if group in self._shown:
                    lines[at] += self._failures(family, group, numbers[at])
            family.set_each(groups, lines)

    def _failures(self, family: Family, group: Group, numbers: Mapping[Key, int]) -> str:
        labels, created = self._labels[group], self._created(group.created)
        exemplars = group.exemplars if self._openmetrics else {}
        lines = []
        for exception in sorted(self._shown[group].intersection(numbers)):
            value = 0 if (group, exception) in self._zero_since else numbers[exception]
            of_failure = f'exception="{escaped(exception)}",{labels}'
            lines.append(self._counter(family, of_failure, value, created, exemplars.get(exception)))
        return "".join(lines)

    def _counter(
        self, family: Family, labels: str, value: float, created: str, exemplar: Exemplar | None = None
    ) -> str:
        inner = f"{labels[:-1]}}} "
        shown = f"{value:.6f}" if isinstance(value, float) else f"{value}.0"
        behind = exemplar_text(exemplar) if exemplar is not None and value else "\n"
        return f"{family.sample}{inner}{shown}{behind}" + (created and f"{family.created}{inner}{created}")

    def _created(self, created: float | None) -> str:
        """The end of the lines with the time of creation; only OpenMetrics has them."""
        return f"{created:.3f}\n" if self._openmetrics and created is not None else ""

    def _histogram(
        self,
        family: Family,
        labels: str,
        numbers: dict[Key, int],
        created: str,
        exemplars: Mapping[Key, Exemplar],
    ) -> str:
        bounds, texts = self._bounds, self._bound_texts
        if others := numbers.keys() - self._usual:  # bounds that were configured before
            texts = texts | {bound: _go_float(bound) for bound in others if isinstance(bound, float)}
            bounds = sorted(texts)
        totals = list(accumulate(numbers.get(bound, 0) for bound in bounds))
        head = f'{family.name}_bucket{{{labels}le="'
        lines = [f'{head}{texts[bound]}"}} {total}.0\n' for bound, total in zip(bounds, totals, strict=True)]
        for index, bound in enumerate(bounds if exemplars else ()):
            if (exemplar := exemplars.get(bound)) is not None and numbers.get(bound):
                lines[index] = lines[index][:-1] + exemplar_text(exemplar)
        inner = f"{labels[:-1]}}} "
        lines.append(f"{family.name}_count{{{inner}{totals[-1]}.0\n")
        lines.append(f"{family.name}_sum{{{inner}{_go_float(numbers.get(SUM, 0) / 1e6)}\n")
        if created:
            lines.append(f"{family.created}{inner}{created}")
        return "".join(lines)


def _go_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
