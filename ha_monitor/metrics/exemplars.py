"""Exemplars: the id of one task for a bucket of a histogram or a class of failures, so that a graph leads to a task.

They are taken from the announcements of what this instance itself has merged, and kept only in memory. Only OpenMetrics
has them.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

from ha_monitor.config.schema import Metrics
from ha_monitor.events.catalogue import Code
from ha_monitor.events.fingerprint import UNKNOWN_CLASS
from ha_monitor.events.types import TASK_CODES
from ha_monitor.metrics.definitions import UNKNOWN
from ha_monitor.metrics.series import TASKS, Exemplar, Group, Key, Series
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.record import queue_time_of

MAX_ID = 121
"""Characters: OpenMetrics allows 128 for the names and values of an exemplar's labels, and the name takes 7."""
MAX_EXEMPLARS = 5_000
"""Exemplars that are kept; beyond that, the one that was renewed longest ago is deleted."""
MAX_RUNS = 16
"""Runs that are taken from each group of announcements: enough for a busy instance to renew all exemplars."""


class Place(NamedTuple):
    """Where an exemplar belongs."""

    kind: str
    """The kind of the group, and its labels, as in `Series.find`."""
    labels: tuple[str, str, str | None]
    key: str | float
    """The class of a failure, or the value that was observed in a histogram."""
    exemplar: Exemplar


class Exemplars:
    """The exemplars of all series of tasks. Used by the loop; a scrape reads `Group.exemplars`."""

    def __init__(self, series: Series, settings: Metrics) -> None:
        self._series = series
        self._bounds = sorted(settings.buckets)
        self._kept: dict[tuple[Group, Key], None] = {}
        """The least recently renewed one comes first."""
        self._early: deque[Place] = deque(maxlen=MAX_RUNS)
        """Announced before their series were known, since counts are read once a tick."""
        self.wanted = False
        """Whether any client has asked for OpenMetrics; otherwise none are taken."""

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, items: Sequence[OutboxItem]) -> None:
        """:param items: the items that are announced now."""
        if self.wanted:
            self._take(place for item in _chosen(items) for place in _places(item))

    def settle(self) -> None:
        """The series contain more counts now, also for what was announced before."""
        early = list(self._early)
        self._early.clear()
        self._take(early, is_last=True)

    def _take(self, places: Iterable[Place], *, is_last: bool = False) -> None:
        changed: dict[Group, None] = {}
        for place in places:
            group = self._series.find(place.kind, *place.labels)
            if group is None:
                if not is_last:
                    self._early.append(place)
                continue
            key = self._bucket(place.key) if isinstance(place.key, float) else place.key
            group.exemplars[key] = place.exemplar
            self._kept.pop((group, key), None)
            self._kept[group, key] = None
            changed[group] = None
        while len(self._kept) > MAX_EXEMPLARS:
            group, key = next(iter(self._kept))
            del self._kept[group, key]
            group.exemplars.pop(key, None)
        if changed:
            self._series.touch(changed)

    def _bucket(self, value: float) -> float:
        index = bisect_left(self._bounds, value)
        return self._bounds[index] if index < len(self._bounds) else math.inf


def _places(item: OutboxItem) -> Iterator[Place]:
    event, facts = item.entry.event, item.entry.facts
    task_id = event.task_id or ""
    if facts is None or event.time is None or not _ID.fullmatch(task_id) or not task_id.isprintable():
        return
    labels = facts.name or UNKNOWN, event.worker, facts.queue
    if event.type == FAILED:
        found = _CLASS.match(str(event.fields.get("exception", "")))
        yield Place(TASKS, labels, found[1] if found else UNKNOWN_CLASS, Exemplar(task_id, 1.0, event.time))
    for kind, value in (("r", event.fields.get("runtime")), ("w", queue_time_of(facts))):
        if _is_duration(value):
            yield Place(kind, labels, float(value), Exemplar(task_id, float(value), event.time))


FAILED = "task-failed"
_ID = re.compile(rf"""[^"\\]{{1,{MAX_ID}}}+""")
"""Not every parser of OpenMetrics knows escapes in exemplars."""
_CLASS = re.compile(r"([A-Za-z0-9_.]++)\(")
"""As in `counting.lua`."""
_NOTED_TYPES = frozenset(kind for kind, code in TASK_CODES.items() if code in (Code.STARTED, Code.SUCCEEDED))


def _chosen(items: Sequence[OutboxItem]) -> Iterator[OutboxItem]:
    """All failures, and some of the runs. Items taken over from another instance were counted there."""
    left = MAX_RUNS
    for item in items:
        kind = item.entry.event.type
        if item.entry.kind != 0 or item.recovered:
            continue
        if kind == FAILED:
            yield item
        elif left and kind in _NOTED_TYPES:
            left -= 1
            yield item


def _is_duration(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
