"""Runs by task name and flow through queues over time, for charts: one point per step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import HistoryQueries, QueueQueries
from ha_monitor.store.queue_flow import QueueFlow, base_of

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SPARKLINE_STEP = 300.0
"""Seconds per step where there is only room for the shape of an hour."""


class Span(NamedTuple):
    """How far a chart looks back, and its step; statistics that are kept per ten minutes are not divided."""

    name: str
    seconds: float
    step: float


SPANS = {
    one.name: one
    for one in (
        Span("1h", HOUR, MINUTE),
        Span("3h", 3 * HOUR, 3 * MINUTE),
        Span("1d", DAY, 20 * MINUTE),
        Span("3d", 3 * DAY, HOUR),
    )
}
"""By name. For queues, only the first two are available."""


class QueuePoint(NamedTuple):
    """One step of a queue."""

    since: float
    """Seconds since the epoch."""
    flow: QueueFlow
    waiting: float
    """How many tasks waited at the end of the step: those that wait now, minus what came since, plus what left."""


def bounds_of(now: float, seconds: float, step: float) -> list[float]:
    """The beginnings of the steps, aligned to the clock, and the end of the last one: that of the current minute.

    :param now: seconds since the epoch.
    """
    first = (now - seconds) // step * step + step
    count = int((now - first) // step)
    return [first + number * step for number in range(count + 1)] + [now // MINUTE * MINUTE + MINUTE]


def names_over(
    queries: HistoryQueries, names: Sequence[str], bounds: Sequence[float]
) -> dict[str, list[NameStatistic]]:
    """The runs of each name, by step.

    :raises StoreUnavailable: as the port does.
    """
    return dict(zip(names, queries.statistics_by(names, bounds), strict=True)) if names else {}


class FlowQueries(QueueQueries, HistoryQueries, Protocol):
    """What is asked about queues."""


def queues_over(queries: FlowQueries, names: Sequence[str], bounds: Sequence[float]) -> dict[str, list[QueuePoint]]:
    """The flow through queues by step, with the queues of all priorities added up.

    :raises StoreUnavailable: as the port does.
    """
    parts = [one.name for one in queries.known_queues() if base_of(one.name) in set(names)]
    if not parts:
        return {}
    flows: dict[str, list[list[QueueFlow]]] = {}
    for name, found in zip(parts, queries.queue_flow_by(parts, bounds), strict=True):
        flows.setdefault(base_of(name), []).append(found)
    waiting = dict.fromkeys(flows, 0.0)
    for name, wait in zip(parts, queries.queue_waits(parts), strict=True):
        waiting[base_of(name)] += wait.waiting
    return {name: _points(of_parts, waiting[name], bounds) for name, of_parts in flows.items()}


def _points(of_parts: Sequence[Sequence[QueueFlow]], waiting: float, bounds: Sequence[float]) -> list[QueuePoint]:
    points: list[QueuePoint] = []
    by_step = [
        QueueFlow(*(sum(column) for column in zip(*flows, strict=True))) for flows in zip(*of_parts, strict=True)
    ]
    for (since, _), flow in reversed(list(zip(pairwise(bounds), by_step, strict=True))):
        points.append(QueuePoint(since, flow, max(0.0, waiting)))
        waiting -= flow.came - flow.left
    return points[::-1]
