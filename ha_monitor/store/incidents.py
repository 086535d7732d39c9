"""What is wrong now, as incidents that the leader writes and everybody reads. Times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.events.model import Event
from ha_monitor.text.patterns import fits

MAX_INCIDENTS = 500
"""Incidents that are kept, including those that are over."""
MAX_SILENCES = 100
MAX_MARKS = 100
"""Marks of deployments that are kept: the latest."""

BEFORE = "before"
"""The fact of an incident that says in words what changed shortly before, such as a deployment."""


class Severity(StrEnum):
    """Whether somebody is woken."""

    PAGE = "page"
    WARN = "warn"


class Phase(StrEnum):
    """The state of an incident."""

    PENDING = "pending"
    """Seen, but not yet for long enough to tell anybody."""
    FIRING = "firing"
    RESOLVED = "resolved"


class Notified(Struct, frozen=True, omit_defaults=True):
    """What one channel has been told about an incident."""

    at: float
    """When it was last told."""
    phase: Phase = Phase.FIRING
    times: int = 1
    size: int = 0
    """The size of the incident as it was told; 0 if that is not known."""
    members: int = 0
    """How many members it had then."""


class Incident(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong, or was until recently."""

    id: str
    """Of this occurrence; a flap within the group interval keeps it. Every message about the incident has it."""
    kind: str
    """Such as `worker-lost`."""
    key: str
    """What it is about, such as a nodename; empty for the fleet. Not to be trusted: it comes from events."""
    severity: Severity
    phase: Phase
    since: float
    """When it began, as far as is known."""
    changed: float
    """When phase or size last changed."""
    summary: str
    """One sentence for people: what, and how much. Not to be trusted, like `key`."""
    size: int = 1
    """The number of what it counts: tasks, workers, failures."""
    facts: Mapping[str, str | int | float | None] = {}
    """What else is known, for programs."""
    command: str = ""
    """The command with which to look further."""
    cause: str | None = None
    """The id of the incident that this one follows from. A channel that is notified of that one is not notified of this
    one meanwhile.
    """
    silenced_until: float | None = None
    told: Mapping[str, Notified] = {}
    """By the name of the channel."""
    members: tuple[str, ...] = ()
    """What was combined into one incident, such as the workers that were lost within a minute."""
    tasks: tuple[str, ...] = ()
    """Ids of some of its tasks."""
    born: float = 0.0
    """When it was first seen."""
    quiet_since: float | None = None
    """Since when nothing of it has been seen, though it is not over yet."""
    opened: int = 0
    """How often it began to fire."""

    @property
    def is_open(self) -> bool:
        return self.phase is not Phase.RESOLVED


class Silence(Struct, frozen=True):
    """For a while nobody is told about some incidents. They are still listed."""

    id: str
    kind: str
    key: str
    """`*` stands for any text; empty for all keys of the kind."""
    until: float
    made: float
    why: str = ""

    def covers(self, incident: Incident) -> bool:
        """Whether it applies to an incident while it lasts."""
        return self.kind == incident.kind and (not self.key or fits(incident.key, self.key))


class Mark(Struct, frozen=True):
    """Somebody deployed something."""

    label: str
    at: float


class IncidentChanges(NamedTuple):
    """What the leader writes."""

    changed: Sequence[Incident]
    removed: Sequence[str]
    """Ids of incidents that are no longer kept."""
    events: Sequence[Event]
    """Reports that incidents opened or ended, announced with the change in one atomic call."""

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.removed or self.events)


def with_silences(incidents: Sequence[Incident], silences: Sequence[Silence], now: float) -> list[Incident]:
    """The incidents, with the time until which nobody is told about them. :param now: seconds since the epoch."""
    lasting = [one for one in silences if one.until > now]
    return [
        replace(one, silenced_until=max((two.until for two in lasting if two.covers(one)), default=None))
        for one in incidents
    ]


_RANKS = {Phase.FIRING: 0, Phase.PENDING: 1, Phase.RESOLVED: 2}


def worst_first(incidents: Sequence[Incident]) -> list[Incident]:
    """Firing ones first, among them those that wake somebody, among them root causes, among them the oldest."""
    return sorted(
        incidents,
        key=lambda one: (
            _RANKS[one.phase],
            one.severity is not Severity.PAGE,
            one.cause is not None,
            -one.changed if one.phase is Phase.RESOLVED else one.since,
            one.kind,
            one.key,
        ),
    )


class IncidentList(Protocol):
    """The incidents as everybody reads them. Blocks."""

    def incidents(self) -> list[Incident]:
        """Pending and firing incidents, and those that were resolved recently, the worst first."""


class Silences(Protocol):
    """Silences of incidents. No lease is needed. Each call blocks, and raises `StoreUnavailable`."""

    def silences(self) -> list[Silence]:
        """The current ones, the one that ends first coming first."""

    def silence(self, silence: Silence) -> bool:
        """Add a silence, or replace the one with its id; False if there are too many."""

    def end(self, silence_id: str) -> bool:
        """End a silence now; False if there is none with this id."""


class Marks(Protocol):
    """Marks of deployments. No lease is needed. Each call blocks, and raises `StoreUnavailable`."""

    def marks(self) -> list[Mark]:
        """The latest, newest first."""

    def mark(self, mark: Mark) -> None:
        """Add a mark."""
