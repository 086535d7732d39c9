"""Evaluates the lines of all monitors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from msgspec import Struct

from ha_monitor.events.types import END_TYPES

EVEN = 0.5
"""Shares are even if none deviates from an equal share by more than this fraction. That depends on chance and
scheduling, so it is not guaranteed; it is guaranteed that each instance gets work."""
ENOUGH = 30
"""Average lines per instance that shares need to be meaningful."""


class Summary(Struct):
    """The result of a demo."""

    run: int
    """Tasks that ran, according to the result backend."""
    outcomes: dict[str, int]
    """How many of those ended how, by the type of the event that should announce it."""
    announced: int
    """Tasks of those whose end was announced correctly."""
    lost: int
    """Tasks that ran, but whose end was not announced."""
    wrong: int
    """Tasks whose end was announced as a different one."""
    twice: int
    """Lines that repeat an event, or announce another end of the same task."""
    marked: int
    """Lines of those marked `recovered`: the instance was killed after the first line, before Redis recorded it."""
    nameless: int
    """Lines about a task without its name."""
    split: int
    """Tasks whose events reached more than one instance."""
    dealt_out: bool
    """Whether the broker gives each event to one instance only; Redis gives it to all."""
    shares: dict[str, int]
    """Lines of each instance."""
    early_shares: dict[str, int]
    """Those before the kill, while all instances ran."""
    even: bool | None
    """Whether the early shares are even; None if the broker gives each event to all, or there are too few lines."""
    killed: str | None
    """The instance that was killed half-way."""
    unfinished: int
    """Tasks sent whose results never arrived: the demo itself failed."""

    @property
    def starved(self) -> bool:
        """Whether an instance got nothing although the broker distributes events and all instances ran."""
        return self.even is False and not all(self.early_shares.values())

    @property
    def good(self) -> bool:
        """Whether the guarantee was kept."""
        failures = (self.lost, self.wrong, self.twice, self.nameless, self.unfinished)
        return self.run > 0 and not any(failures) and not self.starved


class Run(NamedTuple):
    """What really happened, known independently of the lines."""

    instances: Sequence[str]
    sent: int
    """Number of tasks."""
    outcomes: Mapping[str, str]
    """Task id → the event type that should announce its end."""
    reached: Mapping[str, Set[str]]
    """Task id → the instances that received its events."""
    dealt_out: bool
    """Whether the broker gives each event to one instance only."""
    killed: str | None
    lines_before_kill: int
    """How many lines had been read before the kill."""


def summarise(run: Run, lines: Iterable[Mapping[str, Any]]) -> Summary:
    """Compare the lines, in order of arrival, with what really happened."""
    copies: Counter[str] = Counter()
    ends: dict[str, list[str]] = {}
    shares = Counter(dict.fromkeys(run.instances, 0))
    early = Counter(dict.fromkeys(run.instances, 0))
    nameless = marked = 0
    for number, line in enumerate(lines):
        if "event_id" not in line:
            continue
        shares[line["instance"]] += 1
        early[line["instance"]] += number < run.lines_before_kill
        copies[line["event_id"]] += 1
        if copies[line["event_id"]] > 1:
            marked += bool(line.get("recovered"))
        elif line["event"] in END_TYPES:
            ends.setdefault(line["task_id"], []).append(line["event"])
        nameless += "task_id" in line and not line.get("task_name")
    announced = sum(end in ends.get(task_id, ()) for task_id, end in run.outcomes.items())
    lost = len(run.outcomes.keys() - ends.keys())
    return Summary(
        run=len(run.outcomes),
        outcomes=dict(Counter(run.outcomes.values()).most_common()),
        announced=announced,
        lost=lost,
        wrong=len(run.outcomes) - announced - lost,
        twice=sum(count - 1 for count in copies.values()) + sum(len(found) - 1 for found in ends.values()),
        marked=marked,
        nameless=nameless,
        split=sum(len(run.reached.get(task_id, ())) > 1 for task_id in run.outcomes),
        dealt_out=run.dealt_out,
        shares=dict(shares),
        early_shares=dict(early),
        even=are_even(list(early.values())) if run.dealt_out else None,
        killed=run.killed,
        unfinished=run.sent - len(run.outcomes),
    )


def are_even(counts: Sequence[int]) -> bool | None:
    """Whether no count is far from an equal share; None if the counts are too small to tell."""
    equal = sum(counts) / len(counts)
    if equal < ENOUGH:
        return None
    return all(abs(count - equal) <= EVEN * equal for count in counts)
