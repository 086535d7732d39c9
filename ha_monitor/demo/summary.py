"""What the lines of all monitors add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

ENDS = frozenset({"task-succeeded", "task-failed", "task-rejected", "task-revoked"})
EVEN = 0.5
"""Where the broker deals events out, no instance that ran all the time may be this far from an equal share."""


class Summary(Struct):
    """The result of a demo."""

    run: int
    """Tasks that ran, as the result backend knows."""
    announced: int
    """Of those, tasks whose end was announced, and as what it was."""
    lost: int
    """Tasks that ran, and whose end was not announced."""
    twice: int
    """Lines that announce an event once more, or another end of the same task."""
    nameless: int
    """Lines about a task without its name."""
    split: int
    """Tasks whose lines came from more than one instance."""
    shares: dict[str, int]
    """Lines of each instance."""
    unfinished: int = 0
    """Tasks sent whose results never came: the demo itself went wrong."""
    uneven: bool = False

    @property
    def good(self) -> bool:
        """Whether the monitors kept their promise."""
        return not (self.lost or self.twice or self.nameless or self.unfinished or self.uneven) and self.run > 0


def summarise(
    sent: int, outcomes: Mapping[str, str], lines: Iterable[Mapping[str, Any]], *, evenly: bool, killed: str | None
) -> Summary:
    """Compare the lines with what happened.

    :param outcomes: task id → the event type that should announce its end.
    :param evenly: whether the broker deals the events out to the instances.
    :param killed: the instance that was away for a while.
    """
    ids: Counter[str] = Counter()
    ends: dict[str, list[str]] = {}
    instances: dict[str, set[str]] = {}
    shares: Counter[str] = Counter()
    nameless = 0
    for line in lines:
        task_id = line.get("task_id")
        if "event_id" not in line:
            continue
        shares[line["instance"]] += 1
        ids[line["event_id"]] += 1
        if task_id is None:
            continue
        nameless += not line.get("task_name")
        instances.setdefault(task_id, set()).add(line["instance"])
        if line["event"] in ENDS and ids[line["event_id"]] == 1:
            ends.setdefault(task_id, []).append(line["event"])
    announced = sum(end in ends.get(task_id, ()) for task_id, end in outcomes.items())
    repeated = sum(count - 1 for count in ids.values()) + sum(len(found) - 1 for found in ends.values())
    return Summary(
        run=len(outcomes),
        announced=announced,
        lost=len(outcomes) - announced,
        twice=repeated,
        nameless=nameless,
        split=sum(len(found) > 1 for found in instances.values()),
        shares=dict(sorted(shares.items())),
        unfinished=sent - len(outcomes),
        uneven=evenly and _uneven(shares, killed),
    )


def _uneven(shares: Mapping[str, int], killed: str | None) -> bool:
    steady = [count for instance, count in shares.items() if instance != killed]
    if not steady:
        return True
    mean = sum(steady) / len(steady)
    return any(abs(count - mean) > EVEN * mean for count in steady)
