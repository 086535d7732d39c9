"""Events that were lost, by worker."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of, count_of
from ha_monitor.store.queries import Gap
from ha_monitor.text.patterns import quoted
from ha_monitor.text.visible import visible

REPORTED_FOR = 900.0
"""Seconds for which a detected loss is an incident."""


def events_lost(facts: Facts) -> Iterator[Sighting]:
    """Judged by when the loss was detected: the events themselves may be older."""
    by_worker: dict[str, list[Gap]] = {}
    for gap in facts.gaps:
        if gap.worker and 0 <= facts.now - gap.told < REPORTED_FOR:
            by_worker.setdefault(gap.worker, []).append(gap)
    for worker, gaps in by_worker.items():
        lost = sum(gap.lost for gap in gaps)
        yield Sighting(
            "events-lost",
            worker,
            f"{count_of(lost, 'event')} of {visible(worker)} never arrived: what is known of its tasks is incomplete",
            size=lost,
            since=min(gap.since for gap in gaps),
            command=command_of("tasks", f"worker={quoted(worker)}", "--since", "-1h"),
        )
