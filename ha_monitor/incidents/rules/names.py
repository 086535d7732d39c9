"""Tasks of a name that fail, or are retried again and again, by what was run in five minutes."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of
from ha_monitor.text.visible import visible

WINDOW = 300.0
"""Seconds over which runs are counted."""
LEAST_RUNS, FAILING = 20, 0.1
LEAST_RETRIED_RUNS, STORM, OVER = 50, 2.0, 1.5
"""Runs for each task that ended: from which on it is a storm, and below which it is none any more."""


def failing(facts: Facts) -> Iterator[Sighting]:
    """The share of the runs that failed."""
    for one in facts.names:
        if one.runs >= LEAST_RUNS and one.failed / one.runs >= FAILING:
            yield Sighting(
                "failing",
                one.name,
                f"{one.failed:,} of {one.runs:,} runs of {visible(one.name)} in 5 minutes failed "
                f"({one.failed / one.runs:.0%})",
                size=one.failed,
                facts={"runs": one.runs, "failed": one.failed},
                command=command_of("tasks", f"name={one.name}", "state=FAILURE", "--since", "-10m"),
            )


def retry_storm(facts: Facts) -> Iterator[Sighting]:
    """Runs against the tasks that came to an end by them."""
    for one in facts.names:
        if one.runs < LEAST_RETRIED_RUNS:
            continue
        ended = one.runs - one.retried
        factor = one.runs / ended if ended else float("inf")
        if factor >= (OVER if facts.is_open("retry-storm", one.name) else STORM):
            yield Sighting(
                "retry-storm",
                one.name,
                f"{one.retried:,} of {one.runs:,} runs of {visible(one.name)} in 5 minutes were retried",
                size=one.retried,
                facts={"runs": one.runs, "retried": one.retried},
                command=command_of("tasks", f"name={one.name}", "state=RETRY"),
            )
