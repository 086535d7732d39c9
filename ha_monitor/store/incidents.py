"""What is wrong now, one incident each, as the leader writes it and everybody reads it. Times are in seconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class Severity(StrEnum):
    """Whether somebody is woken."""

    PAGE = "page"
    WARN = "warn"


class Phase(StrEnum):
    """How far an incident is."""

    PENDING = "pending"
    """Seen, and not yet for long enough to tell anybody."""
    FIRING = "firing"
    RESOLVED = "resolved"


class Told(Struct, frozen=True, omit_defaults=True):
    """What one channel has been told of an incident."""

    at: float
    """When it was told last."""
    phase: Phase = Phase.FIRING
    times: int = 1


class Incident(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong, or was a moment ago."""

    id: str
    """Of this occurrence; a flap within the group interval keeps it. Every message about it carries it."""
    kind: str
    """Such as `worker-lost`."""
    key: str
    """What it is about, such as a nodename; empty if it is the fleet. Not to be trusted: it comes from events."""
    severity: Severity
    phase: Phase
    since: float
    """When it began, as far as is known."""
    changed: float
    """When phase or size changed last."""
    summary: str
    """One sentence for people: what, how much. Not to be trusted, as `key`."""
    size: int = 1
    """How many of what it counts: tasks, workers, failures."""
    facts: Mapping[str, str | int | float | None] = {}
    """What else is known, for machines."""
    command: str = ""
    """The command to go on with."""
    cause: str | None = None
    """The id of the incident that this one follows from: nobody is told of this one meanwhile."""
    silenced_until: float | None = None
    told: Mapping[str, Told] = {}
    """By the name of the channel."""


class IncidentList(Protocol):
    """The incidents as anybody reads them. Blocks."""

    def incidents(self) -> list[Incident]:
        """Those that are pending or firing, and those that were resolved a short while ago, the worst first."""


class NoIncidents:
    """An `IncidentList` of a fleet in which nobody looks for any."""

    def incidents(self) -> list[Incident]:
        return []
