"""Incidents and silences as JSON, like tasks in `items.py`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ha_monitor.query.items import time_or_null
from ha_monitor.store.incidents import Incident, Mark, Phase, Severity, Silence


class ToldItem(Struct):
    """A channel that was notified of an incident, and what it was last told."""

    channel: str
    time: str | None
    phase: Phase
    times: int


class ProblemItem(Struct):
    """An incident."""

    id: str
    kind: str
    key: str
    severity: Severity
    phase: Phase
    since: str | None
    changed: str | None
    """When its phase or its size last changed."""
    quiet_since: str | None
    """Since when it has not been seen, although it is not resolved yet: the summary is from before."""
    summary: str
    size: int
    facts: Mapping[str, str | int | float | None]
    members: tuple[str, ...]
    tasks: tuple[str, ...]
    cause: str | None
    """The id of the incident that it follows from."""
    silenced_until: str | None
    told: list[ToldItem]
    command: str


class SilenceItem(Struct):
    """A silence."""

    id: str
    kind: str
    key: str
    until: str | None
    made: str | None
    why: str


class MarkItem(Struct):
    """A deployment."""

    label: str
    time: str | None


def problem_item(one: Incident) -> ProblemItem:
    """An incident."""
    return ProblemItem(
        id=one.id,
        kind=one.kind,
        key=one.key,
        severity=one.severity,
        phase=one.phase,
        since=time_or_null(one.since),
        changed=time_or_null(one.changed),
        quiet_since=time_or_null(one.quiet_since),
        summary=one.summary,
        size=one.size,
        facts=one.facts,
        members=one.members,
        tasks=one.tasks,
        cause=one.cause,
        silenced_until=time_or_null(one.silenced_until),
        told=[ToldItem(name, time_or_null(told.at), told.phase, told.times) for name, told in one.told.items()],
        command=one.command,
    )


def silence_item(one: Silence) -> SilenceItem:
    """A silence."""
    return SilenceItem(one.id, one.kind, one.key, time_or_null(one.until), time_or_null(one.made), one.why)


def mark_item(one: Mark) -> MarkItem:
    """A deployment."""
    return MarkItem(one.label, time_or_null(one.at))
