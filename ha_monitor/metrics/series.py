"""The counts of one instance by the series in which they are exported. `store/lua/counting.lua` documents the fields.

The loop adds what changed, and a scrape fetches what changed: neither looks at the rest.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ha_monitor.config.schema import Metrics, WorkerLabels
from ha_monitor.metrics.definitions import BY_CODE, LOST, OVERFLOW, RECONCILED, SKEW, SKEWED, UNKNOWN, Metric
from ha_monitor.store.counts import SEPARATOR, SINGLE, Counts, LabelSet, count_in

TASKS = "t"
"""The kind of groups that have all counters of a label set; the other kinds are those of `counting.lua`."""
HISTOGRAM_KINDS = ("r", "w")
SINGLE_LABEL_KINDS: dict[str, Metric] = {"l": LOST, "z": RECONCILED, "s": SKEWED, "S": SKEW}
SUM = "sum"
"""The key of a histogram's sum, beside its buckets."""
RETIRED = "retired-"
"""The beginning of the hostname under which counts of workers that are gone are summed; the time after it makes each
such sum a series of its own, so that no rate takes earlier counts for new events."""
RESERVED = 0.25
"""The share of `metrics.max_series` that is reserved for label sets without a worker."""
COUNTERS = len(set(BY_CODE.values()))
SAMPLES_PER_LABEL_SET = 2 * COUNTERS
"""Samples of a label set: each counter and its time of creation."""
SAMPLES_PER_EXCEPTION = 2


def max_samples(settings: Metrics) -> int:
    """Samples that a new label set adds at most: its name may be new, too, or its worker may have histograms."""
    return SAMPLES_PER_LABEL_SET + len(HISTOGRAM_KINDS) * samples_per_histogram(settings)


def samples_per_histogram(settings: Metrics) -> int:
    """Samples of a histogram: its buckets, the one of infinity, sum and count, and its time of creation."""
    return len(set(settings.buckets)) + 4


class Exemplar(NamedTuple):
    """One task that was counted in a series."""

    task_id: str
    value: float
    time: float
    """When its event happened, in seconds since the epoch."""


Key = int | str | float
"""Identifies a number in its group: an event's code, an exception's class, the bound of a bucket, or `SUM`."""


class Group:
    """Series with common labels."""

    __slots__ = (
        *("changed_at", "created", "exceptions", "exemplars", "fields", "is_gone", "kind", "label_sets", "labels"),
        "numbers",
    )

    def __init__(self, kind: str, labels: tuple[str, ...], now: float) -> None:
        self.kind = kind
        self.labels = labels
        """Name, worker and queue of a task; or the only label."""
        self.numbers: dict[Key, int] = {}
        self.exceptions: frozenset[str] = frozenset()
        """Classes of exceptions among its keys. Replaced, never changed: the thread of the scrapes reads them."""
        self.created: float | None = None
        """Seconds since the epoch; None if that is not known."""
        self.changed_at = now
        """When it last changed, by the monotonic clock."""
        self.fields: set[bytes] = set()
        """Its fields in the store."""
        self.label_sets: set[bytes] = set()
        """The label sets of all instances that are counted here."""
        self.is_gone = False
        self.exemplars: dict[Key, Exemplar] = {}
        """Tasks that were counted here lately (`exemplars.py`)."""

    def become(self, other: Group) -> None:
        """Take over the counts of another group with the same labels, and keep the exemplars."""
        self.numbers, self.exceptions = other.numbers, other.exceptions
        self.created, self.changed_at = other.created, other.changed_at
        self.fields, self.label_sets = other.fields, other.label_sets

    @property
    def is_retired(self) -> bool:
        """Whether it has counts whose labels are gone."""
        return self.kind != "z" and any(part.startswith(RETIRED) for part in self.labels[:2])


class Series:
    """All groups. The loop changes them; the thread of the scrapes takes what changed."""

    def __init__(self, settings: Metrics) -> None:
        self._worker_labels = settings.worker_labels
        self._worker_histograms = settings.worker_histograms
        self.limit = settings.max_series
        self._samples_per_histogram = samples_per_histogram(settings)
        self._lock = threading.Lock()
        self._changed: dict[Group, None] = {}
        self._clear()
        self.is_known = False
        """Whether the counts were read from the store; before that, nothing is exported."""

    def _clear(self) -> None:
        self.groups: dict[tuple[str, tuple[str, ...]], Group] = {}
        self._places: dict[bytes, tuple[Group, Key]] = {}
        self.numbers: dict[bytes, int] = {}
        """By field."""
        self._label_sets: dict[bytes, list[Group]] = {}
        self._expected: set[str] = set()
        self._queue_of: dict[tuple[str, str], str] = {}
        """Name of the task and worker -> the queue where it was first counted, lately."""
        self.samples = 0
        """Samples about tasks that a scrape returns."""
        self.without = {"worker": 0, "name": 0}
        """Events that were counted without a label, because there was little room."""

    # --- for the loop ----------------------------------------------------------------------

    @property
    def room(self) -> tuple[int, int]:
        """How many samples may be added, and how many of these only without a worker label."""
        return max(0, self.limit - self.samples), int(self.limit * RESERVED)

    def load(self, counts: Counts, now: float) -> list[bytes]:
        """Replace everything by what the store has; returns the label sets that have counts and are missing among the
        label sets of all instances.

        :param now: by the monotonic clock.
        """
        with self._lock:
            before = self.groups
            self._clear()
            for one in counts.label_sets:
                self._add_label_set(one, now)
            self._update(counts.raw, now)
            self._keep(before)
            self.is_known = True
            return [
                SEPARATOR.join(group.labels).encode()
                for group in self.groups.values()
                if group.kind == TASKS and not group.label_sets and not group.is_retired
            ]

    def _keep(self, before: Mapping[tuple[str, tuple[str, ...]], Group]) -> None:
        """Keep the group objects that existed before, since the text of a group is cached by its object: with a new
        one, its series would be exported twice, and begin with 0 again.
        """
        if not before:
            return
        kept: dict[Group, Group] = {}
        for key, group in before.items():
            again = self.groups.get(key)
            if again is None:
                group.is_gone = True
                self._changed[group] = None
            else:
                group.become(again)
                kept[again] = self.groups[key] = group
        self._places = {field: (kept.get(group, group), key) for field, (group, key) in self._places.items()}
        self._label_sets = {text: [kept.get(one, one) for one in of] for text, of in self._label_sets.items()}
        self._changed = {kept.get(group, group): None for group in self._changed}

    def update(self, changes: Sequence[Any], now: float) -> None:
        """:param changes: field, number, field, number, …, each number as a number or as text; an empty text for a
        field that was deleted."""
        with self._lock:
            self._update(changes, now)

    def add_label_sets(self, added: Iterable[LabelSet], now: float) -> None:
        """Export all counters of these label sets."""
        with self._lock:
            for one in added:
                self._add_label_set(one, now)

    @property
    def label_sets(self) -> int:
        """How many label sets of all instances are known."""
        return len(self._label_sets)

    def expect(self, nodenames: Iterable[str], now: float) -> None:
        """Export 0 losses for these workers without losses, and for no others."""
        expected = set(nodenames)
        if expected == self._expected:
            return
        with self._lock:
            for nodename in expected - self._expected:
                group = self._group("l", (self.worker(nodename),), now)
                group.label_sets.add(nodename.encode())
            for nodename in self._expected - expected:
                if (unexpected := self.groups.get(("l", (self.worker(nodename),)))) is not None:
                    unexpected.label_sets.discard(nodename.encode())
                    self._drop_if_empty(unexpected)
            self._expected = expected

    def forget_label_sets(self, gone: Iterable[bytes]) -> None:
        """Forget these label sets; those under which this instance has counted stay exported."""
        with self._lock:
            for text in gone:
                for group in self._label_sets.pop(text, ()):
                    group.label_sets.discard(text)
                    self._drop_if_empty(group)

    def set_label_sets(self, all_of_them: Sequence[LabelSet], now: float) -> None:
        """Forget all label sets but these."""
        texts = {one.text for one in all_of_them}
        self.forget_label_sets([text for text in self._label_sets if text not in texts])
        self.add_label_sets([one for one in all_of_them if one.text not in self._label_sets], now)

    def find(self, kind: str, name: str, nodename: str, queue: str | None) -> Group | None:
        """The group under which an event of a task is counted.

        :param queue: None if it is not known from the event.
        """
        worker = self.worker(nodename)
        queue = queue or self._queue_of.get((name, worker), UNKNOWN)
        return self.groups.get(
            (kind, (name, worker, queue) if kind == TASKS else self._of_histogram(name, worker, queue))
        )

    def touch(self, groups: Iterable[Group]) -> None:
        """Have these groups written again, though their counts have not changed."""
        with self._lock:
            self._changed.update(dict.fromkeys(groups))

    # --- for the scrapes -------------------------------------------------------------------

    def take_changed(self) -> dict[Group, None]:
        """The groups that changed since the last call, and those that are gone."""
        with self._lock:
            changed, self._changed = self._changed, {}
        return changed

    def all(self) -> list[Group]:
        with self._lock:
            return list(self.groups.values())

    # --- with the lock ---------------------------------------------------------------------

    def _update(self, changes: Sequence[Any], now: float) -> None:
        flat = iter(changes)
        for field, value in zip(flat, flat, strict=False):
            number = value if isinstance(value, int) else count_in(value)
            if number is None:
                if not value:
                    self._remove(field)
                continue
            place = self._places.get(field)
            if place is None:
                place = self._place_of(field, now)
                if place is None:
                    continue
                self._places[field] = place
                place[0].fields.add(field)
            group, key = place
            by = number - self.numbers.get(field, 0)
            self.numbers[field] = number
            self._add(group, key, by)
            group.changed_at = now
            self._changed[group] = None

    def _add(self, group: Group, key: Key, by: int) -> None:
        if key not in group.numbers:
            group.numbers[key] = 0
            if group.kind == TASKS and isinstance(key, str):
                group.exceptions |= {key}
                self.samples += SAMPLES_PER_EXCEPTION
        group.numbers[key] += by
        if group.kind == TASKS:
            if group.labels[0] == OVERFLOW:
                self.without["name"] += by
            elif not group.labels[1] and self._worker_labels is not WorkerLabels.NONE:
                self.without["worker"] += by

    def _remove(self, field: bytes) -> None:
        place, number = self._places.pop(field, None), self.numbers.pop(field, 0)
        if place is not None:
            group, key = place
            group.fields.discard(field)
            self._add(group, key, -number)
            self._changed[group] = None
            self._drop_if_empty(group)

    def _drop_if_empty(self, group: Group) -> None:
        if not group.fields and not group.label_sets and not group.is_gone:
            del self.groups[group.kind, group.labels]
            group.is_gone = True
            if group.kind == TASKS:
                self._queue_of.pop((group.labels[0], group.labels[1]), None)
            self.samples -= self._samples_of(group)
            self._changed[group] = None

    def _samples_of(self, group: Group) -> int:
        if group.kind == TASKS:
            return SAMPLES_PER_LABEL_SET + SAMPLES_PER_EXCEPTION * len(group.exceptions)
        return self._samples_per_histogram if group.kind in HISTOGRAM_KINDS else 1

    def _group(self, kind: str, labels: tuple[str, ...], now: float) -> Group:
        group = self.groups.get((kind, labels))
        if group is None:
            group = self.groups[kind, labels] = Group(kind, labels, now)
            self.samples += self._samples_of(group)
            self._changed[group] = None
            if kind == TASKS:
                self._queue_of[labels[0], labels[1]] = labels[2]
        return group

    def _add_label_set(self, added: LabelSet, now: float) -> None:
        parts = added.text.decode("utf-8", "replace").split(SEPARATOR)
        name, worker, queue = parts if len(parts) == 3 else [OVERFLOW] * 3
        labels = (name, self.worker(worker), queue)
        groups = [self._group(TASKS, labels, now)]
        groups += [self._group(kind, self._of_histogram(*labels), now) for kind in HISTOGRAM_KINDS]
        for group in groups:
            created = added.added / 1000
            group.created = created if group.created is None else min(group.created, created)
            self._changed[group] = None
        self._label_sets[added.text] = groups
        for group in groups:
            group.label_sets.add(added.text)

    def _of_histogram(self, name: str, worker: str, queue: str) -> tuple[str, str, str]:
        is_labelled = self._worker_histograms or worker == OVERFLOW or worker.startswith(RETIRED)
        return (name, worker if is_labelled else "", queue)

    def worker(self, text: str) -> str:
        """The label by which a worker is told apart, from what an instance has stored, perhaps under other settings."""
        if text == OVERFLOW or text.startswith(RETIRED):
            return text
        if self._worker_labels is WorkerLabels.NONE:
            return ""
        if self._worker_labels is WorkerLabels.HOSTNAME:
            return text.partition("@")[2] or text
        return text

    def _place_of(self, field: bytes, now: float) -> tuple[Group, Key] | None:
        """None for a field that is not a count."""
        code_text, _, rest = field.partition(_SEPARATOR)
        if (code := _CODES.get(code_text, 0)) and (known := self._label_sets.get(rest.rpartition(_SEPARATOR)[0])):
            # Most are counts under a known label set.
            return known[0], rest.rpartition(_SEPARATOR)[2].decode("utf-8", "replace") if code in _FAILURES else code
        kind, _, values = field.decode("utf-8", "replace").partition(SEPARATOR)
        if kind in SINGLE:
            return self._group(kind, (values if kind == "z" else self.worker(values),), now), SUM
        parts = values.split(SEPARATOR)
        if len(parts) != 4:
            parts = [*[OVERFLOW] * 3, parts[-1]]  # a name with the separator in it
        name, worker, queue, last = parts
        labels = (name, self.worker(worker), queue)
        if kind.lower() in HISTOGRAM_KINDS:
            group = self._group(kind.lower(), self._of_histogram(*labels), now)
            return group, SUM if kind.isupper() else _bound(last)
        if not code:
            return None
        return self._group(TASKS, labels, now), last if code in _FAILURES else code


_SEPARATOR = SEPARATOR.encode()
_CODES = {b"%d" % code: int(code) for code in BY_CODE}
"""By the beginning of a field."""
_FAILURES = {int(code) for code, metric in BY_CODE.items() if "exception" in metric.labels}


def _bound(text: str) -> float:
    try:
        bound = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(bound) else bound
