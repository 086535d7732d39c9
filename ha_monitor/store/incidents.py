"""What is wrong now, one incident each, as the leader writes it and everybody reads it. Times are in seconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.events.model import Event

MOST_INCIDENTS = 500
"""That are kept, those that are over included."""
MOST_SILENCES = 100
MOST_MARKS = 100
"""Marks of deployments that are kept, the latest."""

BEFORE = "before"
"""The fact of an incident that says in words what changed shortly before it, such as a deployment."""


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
    size: int = 0
    """That of the incident as it was told; 0 if that is not known."""
    members: int = 0
    """How many it had then."""


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
    members: tuple[str, ...] = ()
    """What fell together into one incident, such as the workers that were lost within a minute."""
    tasks: tuple[str, ...] = ()
    """Ids of tasks that it is about, some of them."""
    born: float = 0.0
    """When it was seen first."""
    quiet_since: float | None = None
    """Since when nothing of it is seen any more, though it is not over yet."""
    opened: int = 0
    """How often it began to fire."""

    @property
    def is_open(self) -> bool:
        return self.phase is not Phase.RESOLVED


class Silence(Struct, frozen=True):
    """Nobody is told of some incidents for a while. They are listed all the same."""

    id: str
    kind: str
    key: str
    """`*` stands for any text; empty for all of the kind."""
    until: float
    made: float
    why: str = ""

    def covers(self, incident: Incident) -> bool:
        """Whether it is about an incident, as long as it lasts."""
        pattern = self.key.replace("[", "[[]").replace("?", "[?]")
        return self.kind == incident.kind and (not self.key or fnmatchcase(incident.key, pattern))


class Mark(Struct, frozen=True):
    """Somebody has deployed something."""

    label: str
    at: float


class IncidentChanges(NamedTuple):
    """What the leader writes."""

    changed: Sequence[Incident]
    removed: Sequence[str]
    """Ids of those that are not kept any longer."""
    events: Sequence[Event]
    """That some opened, or are over: announced with the change, in one atomic call."""

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.removed or self.events)


def with_silences(incidents: Sequence[Incident], silences: Sequence[Silence], now: float) -> list[Incident]:
    """Incidents that say until when nobody is told of them. :param now: seconds since the epoch."""
    lasting = [one for one in silences if one.until > now]
    return [
        replace(one, silenced_until=max((two.until for two in lasting if two.covers(one)), default=None))
        for one in incidents
    ]


_RANKS = {Phase.FIRING: 0, Phase.PENDING: 1, Phase.RESOLVED: 2}


def worst_first(incidents: Sequence[Incident]) -> list[Incident]:
    """Those that fire first, of these what wakes somebody, of these what follows from nothing else, the oldest."""
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
    """The incidents as anybody reads them. Blocks."""

    def incidents(self) -> list[Incident]:
        """Those that are pending or firing, and those that were resolved a short while ago, the worst first."""


class Silences(Protocol):
    """Of whom nobody is told for a while. No lease is needed. Each call blocks, and raises `StoreUnavailable`."""

    def silences(self) -> list[Silence]:
        """Those that last, the one that ends first."""

    def silence(self, silence: Silence) -> bool:
        """Add one, or replace that of its id; False if there are too many."""

    def end(self, silence_id: str) -> bool:
        """End one now; False if there is none of this id."""


class Marks(Protocol):
    """When something was deployed. No lease is needed. Each call blocks, and raises `StoreUnavailable`."""

    def marks(self) -> list[Mark]:
        """The latest, newest first."""

    def mark(self, mark: Mark) -> None:
        """Add one."""
