"""What is wrong now, as any command can read it, and on what that is based.

The leader writes the incidents. If no instance leads, or the leader cannot judge, that must be said first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ha_monitor.incidents.catalogue import RESOLVED_TTL
from ha_monitor.incidents.changes import Change, changes_before
from ha_monitor.incidents.gather import IncidentReader, Reader, instances_of
from ha_monitor.incidents.rules.monitor import STATUS
from ha_monitor.incidents.sighting import count_of
from ha_monitor.store.incidents import Incident, IncidentList, Phase, Severity, worst_first
from ha_monitor.store.queries import Gap
from ha_monitor.store.reader import InstanceEntry, WorkerEntry
from ha_monitor.store.results import WorkerState
from ha_monitor.text.times import short_duration

HOUR = 3600.0
STALE_AFTER = 60.0
"""Seconds after which a judgement counts as old: there should be one every five seconds."""


class IncidentListReader(IncidentReader, IncidentList, Protocol):
    """What is stored about incidents, for readers."""


class ProblemReader(Reader, Protocol):
    """A connection to the store, with the incidents for readers."""

    @property
    def incidents(self) -> IncidentListReader: ...


class Problems(NamedTuple):
    """What is wrong, and on what that is based."""

    incidents: list[Incident]
    """Worst first."""
    seen_by: str
    """Which instances have looked, in words."""
    gaps: list[Gap]
    """What is not known."""
    is_judged: bool
    """Whether anything was judged within the last minute."""
    changes: list[Change]
    """What changed in the last hour."""


def problems(reader: ProblemReader, workers: Sequence[WorkerEntry], now: float) -> Problems:
    """Read the problems from the store.

    :param workers: all workers that were read.
    :param now: by the store's clock, in seconds since the epoch.
    :raises StoreUnavailable: as the reader does.
    """
    entries = reader.instances()
    alive = [one for one in entries if one.lease_left > 0]
    facts = [one for one in instances_of(reader, now) if one.is_alive]
    consuming = [one for one in facts if one.is_consuming]
    # One of whose end a channel has not heard is kept for longer.
    incidents = [one for one in reader.incidents.incidents() if one.is_open or now - one.changed < RESOLVED_TTL]
    gaps = reader.queries.gaps(now - HOUR, now)
    judged = judged_at(entries)
    if not consuming:
        said = "no instance of the monitor runs" if not alive else "no instance of the monitor consumes Celery's events"
        incidents = [
            _no_instance_incident(f"{said}: nobody can see problems", judged or _last_seen(entries, now), now),
            *incidents,
        ]
    is_judged = bool(consuming) and judged is not None and now - judged <= STALE_AFTER
    if not is_judged:
        gaps.append(_unjudged(judged))
    lag = max((one.lag for one in consuming), default=0.0)
    seen_by = (
        f"what {len(consuming)} of {count_of(len(alive), 'instance')} sees"
        if len(alive) == 1
        else (f"what {len(consuming)} of {len(alive)} instances see")
    )
    if lag > 0:
        seen_by += f", merged {short_duration(lag)} after it was sent"
    if judged is not None:
        seen_by += f", judged {short_duration(max(0.0, now - judged))} ago"
    changes = changes_before(reader.incidents.marks(), _workers(workers), now)
    return Problems(worst_first(incidents), seen_by, gaps, is_judged, changes)


def _workers(entries: Sequence[WorkerEntry]) -> list[WorkerState]:
    """The workers in the form of the rules, with only what is needed to see that they were started."""
    return [WorkerState(one.name, one.state, None, is_confirmed=one.is_confirmed, came=one.online) for one in entries]


def _unjudged(judged: float | None) -> Gap:
    """What is not known while nothing is judged: a new leader first listens, and waits while events are not merged yet.

    :param judged: when something was last judged.
    """
    if judged is None:
        return Gap("problems: nothing is judged until the leader has listened for workers.lost_after", 0.0, 0.0)
    return Gap("what began or ended: nothing was judged", judged, 0.0)


def judged_at(entries: Sequence[InstanceEntry]) -> float | None:
    """When a live leader last judged, in seconds since the epoch; None if none has yet."""
    found = (one.stats.get("judged") for one in entries if one.lease_left > 0)
    return max((float(at) for at in found if isinstance(at, int | float) and at > 0), default=None)


def _last_seen(entries: Sequence[InstanceEntry], now: float) -> float:
    return now - min((one.silent for one in entries), default=0.0)


def _no_instance_incident(summary: str, since: float, now: float) -> Incident:
    """The incident that no instance could write."""
    return Incident(
        *("nobody-looks", "monitor", "looking", Severity.PAGE, Phase.FIRING, since, now, summary), command=STATUS
    )
