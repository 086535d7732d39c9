"""Task names whose tasks fail, or are retried again and again, judged by the runs of five minutes."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.text.patterns import quoted
from ha_monitor.text.visible import visible

WINDOW = 300.0
"""Seconds over which runs are counted."""
MIN_RUNS, FAILING_SHARE = 20, 0.1
MIN_RETRIED_RUNS, STORM_BEGINS_AT, STORM_ENDS_BELOW = 50, 2.0, 1.5
"""Runs per ended task: a storm begins at `STORM_BEGINS_AT`, and is over below `STORM_ENDS_BELOW`."""


def failing(facts: Facts) -> Iterator[Sighting]:
    """Judged by the share of runs that failed."""
    for one in facts.names:
        fails = one.runs >= MIN_RUNS and one.failed / one.runs >= FAILING_SHARE
        if fails or facts.is_open("failing", one.name):
            share = f" ({one.failed / one.runs:.0%})" if one.runs else ""
            yield Sighting(
                "failing",
                one.name,
                f"{one.failed:,} of {one.runs:,} runs of {visible(one.name)} in 5 minutes failed{share}",
                size=one.failed,
                facts={"runs": one.runs, "failed": one.failed},
                command=command_of("tasks", f"name={quoted(one.name)}", "state=FAILURE", "--since", "-10m"),
                is_ending=not fails,
            )


def retry_storm(facts: Facts) -> Iterator[Sighting]:
    """Judged by the number of runs per task that ended."""
    for one in facts.names:
        is_open = facts.is_open("retry-storm", one.name)
        is_storm = one.runs >= MIN_RETRIED_RUNS and _factor(one) >= (STORM_ENDS_BELOW if is_open else STORM_BEGINS_AT)
        if is_storm or is_open:
            yield Sighting(
                "retry-storm",
                one.name,
                f"{one.retried:,} of {one.runs:,} runs of {visible(one.name)} in 5 minutes were retried",
                size=one.retried,
                facts={"runs": one.runs, "retried": one.retried},
                command=command_of("tasks", f"name={quoted(one.name)}", "state=RETRY"),
                is_ending=not is_storm,
            )


def _factor(one: NameStatistic) -> float:
    ended = one.runs - one.retried
    return one.runs / ended if ended else float("inf")
