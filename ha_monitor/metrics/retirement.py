"""Counts of workers that are gone are summed in series that name no worker. This module plans that.

Prometheus takes any growth of a series for new events. So each time the sum gets a series of its own, whose first value
is no increase, and the previous one ends: `sum()` never falls, no rate jumps, and each task and queue has one sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from ha_monitor.metrics.definitions import OVERFLOW
from ha_monitor.metrics.series import RETIRED, TASKS, Series
from ha_monitor.store.counts import SEPARATOR, SINGLE

GONE_AFTER = 3600.0
"""Seconds without any count or sign of life of a worker after which its series end."""
RETIRE_EVERY = 600.0
"""Seconds between two sums."""
MAX_MOVES = 20_000
"""Counts that are moved at a time; the rest is left for the next time."""
_SEPARATOR = SEPARATOR.encode()


class Plan(NamedTuple):
    """What to move in the store."""

    moves: list[tuple[bytes, bytes]]
    """(field, other field), …"""
    forgotten: list[bytes]
    """Label sets."""


def label_at(seconds: float) -> str:
    """The hostname under which counts are summed.

    :param seconds: the time, since the epoch.
    """
    return f"{RETIRED}{datetime.fromtimestamp(seconds // RETIRE_EVERY * RETIRE_EVERY, UTC):%Y-%m-%dT%H:%MZ}"


def plan(series: Series, heard: Collection[str], label: str, now: float) -> Plan:
    """What happens to the series of workers that are gone.

    :param heard: workers that were heard of lately.
    :param label: as returned by `label_at`.
    :param now: by the monotonic clock.
    """
    found = Plan([], [])
    gone = gone_workers(series, heard, now)
    for group in series.all():
        worker = group.labels[1] if len(group.labels) == 3 else group.labels[0]
        if group.kind == "z" or worker not in gone or len(found.moves) >= MAX_MOVES:
            continue
        found.moves.extend((field, relabelled(field, label)) for field in group.fields)
        if group.kind == TASKS:
            found.forgotten.extend(group.label_sets)
    return found


def sums_before(series: Series, label: str) -> list[tuple[bytes, bytes]] | None:
    """Moves of the previous sums; None if they have the same label, so that the move must wait."""
    groups = [group for group in series.all() if group.is_retired]
    if any(label in group.labels for group in groups):
        return None
    return [(field, relabelled(field, label)) for group in groups for field in group.fields]


def misplaced(series: Series) -> list[tuple[bytes, bytes]]:
    """Moves of counts that were made under other settings of `metrics.worker_labels` to where they are exported."""
    return [
        (field, target)
        for group in series.all()
        if len(group.labels) == 3
        for field in group.fields
        if (target := relabelled(field, group.labels[1])) != field
    ]


def gone_workers(series: Series, heard: Collection[str], now: float) -> set[str]:
    """Workers, and hosts of producers, that are gone."""
    present = {"", OVERFLOW, *heard, *(name.partition("@")[2] for name in heard)}
    latest: dict[str, float] = {}
    for group in series.all():
        if group.kind != "z":
            worker = group.labels[1] if len(group.labels) == 3 else group.labels[0]
            latest[worker] = max(latest.get(worker, group.changed_at), group.changed_at)
    return {
        worker
        for worker, at in latest.items()
        if now - at > GONE_AFTER and worker not in present and not worker.startswith(RETIRED)
    }


def adopted(fields: Iterable[bytes], label: str) -> list[tuple[bytes, bytes]]:
    """Moves of all counts of an instance that never came back."""
    return [(field, relabelled(field, label)) for field in fields]


def relabelled(field: bytes, worker: str) -> bytes:
    """The field with another worker."""
    kind, _, values = field.partition(_SEPARATOR)
    if kind.decode("utf-8", "replace") in SINGLE:
        return field if kind == b"z" else _SEPARATOR.join((kind, worker.encode()))
    parts = values.split(_SEPARATOR)
    if len(parts) != 4:
        return field
    parts[1] = worker.encode()
    return _SEPARATOR.join((kind, *parts))
