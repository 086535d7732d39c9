"""What is known of schedules and their runs. Times are in seconds since the epoch, durations in seconds.

Names, texts and ids come from applications: none of them can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

MAX_SCHEDULES = 1000
"""Schedules that are watched."""
MAX_OCCURRENCES = 50
"""Latest due times that are kept per schedule."""
MAX_TEXT = 200
"""Characters of a name, a task or a timetable."""
MIN_GRACE, MAX_GRACE, GRACE_SHARE = 30.0, 900.0, 0.1
"""A run may be late by this share of the period, but the grace is within these bounds."""
ENDED = frozenset(("SUCCESS", "FAILURE", "REJECTED", "REVOKED"))
"""Final states of a task, by the names in `events.catalogue.State`."""
SETTLING_TIME = 600.0
"""Seconds after a definition was first seen or changed in which beat may not know it yet: nothing counts as missed."""


class Source(StrEnum):
    """Where a definition comes from, best source first."""

    REDBEAT = "redbeat"
    """What RedBeat itself uses; it includes what the configuration of the application says."""
    CONF = "conf"
    """The configuration of the application, as a worker reports it."""
    TOML = "toml"
    """The configuration of this program."""
    LEARNED = "learned"
    """No source defines it, but the task runs regularly."""


class ScheduleState(StrEnum):
    """The state of a schedule, or of one of its due times."""

    ON_TIME = "on time"
    LATE = "late"
    """It ran, but after the grace."""
    MISSED = "missed"
    """The grace is over, and nothing ran."""
    FAILED = "failed"
    """It failed, was rejected or revoked, or its worker was lost with it."""
    OVERRAN = "overran"
    """It did not end within `must_end_within`."""
    SKIPPED = "skipped"
    """It waited in its queue until it expired."""
    DOUBLED = "doubled"
    """It ran more than once for one due time."""
    PAUSED = "paused"
    """It is not enabled."""
    WAITING = "waiting"
    """Nothing has been due since it is watched, or its latest due time cannot be judged yet."""
    NOT_KNOWN = "not known"
    """The monitor was not listening then, or does not know when it is due."""


class Definition(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One entry of a schedule."""

    name: str
    """The name of the entry, such as `nightly report`: it identifies the schedule."""
    task: str
    timetable: str
    """When it is due, as `timetable.timetable_of` reads it: `0 2 * * *`, `every 10m`, `sunset at 48.1, 11.6`,
    `once 2026-11-28T02:00:00Z`. The source's own text if that cannot be read."""
    zone: str = ""
    """The time zone of the timetable, by its IANA name; empty if it is not known, such as that of beat's host."""
    source: Source
    app: str = ""
    """The beat that it belongs to, if there are several: the name under which the plumbing asks for it."""
    arguments: str | None = None
    """The digest from `arguments.arguments_of`, to tell entries of one task apart; None if it is not known."""
    queue: str | None = None
    expires: float | None = None
    """Seconds after which a run is no longer started."""
    grace: float | None = None
    """Seconds that a run may be late; None for a share of the period."""
    must_end_within: float | None = None
    """Seconds after its due time within which a run must end."""
    is_enabled: bool = True
    problem: str = ""
    """Why it cannot be judged: one sentence for people."""
    differs: str = ""
    """How the workers or the sources disagree: one sentence for people."""
    is_disputed: bool = False
    """Workers disagree, so a run may be absent without being missed."""
    basis: str = ""
    """Why it is considered a schedule if no source defines it: for people."""


class Run(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One task that may belong to a schedule, as far as its events show."""

    task_id: str
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    state: str = "UNKNOWN"
    """A name from `events.catalogue.State`."""
    producer: str | None = None
    """Who sent it, such as `gen4711@host`, if that is known."""
    is_child: bool = False
    """Another task sent it, so beat did not."""
    is_orphaned: bool = False
    """Its worker was lost with it, and it has not been run again."""
    is_expired: bool = False
    """It was revoked because it had expired."""
    queue: str | None = None
    arguments: str | None = None
    """As in a definition; None if it is not known."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.ended is not None or self.state in ENDED

    @property
    def at(self) -> float | None:
        """When it was sent, if that is known; otherwise the time of its earliest known event."""
        if self.sent is not None:
            return self.sent
        return min((at for at in (self.received, self.started, self.ended) if at is not None), default=None)


class Runs(NamedTuple):
    """The newest tasks of one name."""

    runs: Sequence[Run]
    complete_since: float = 0.0
    """Since when none is missing: only the newest tasks of a name are kept."""


class Occurrence(Struct, frozen=True, omit_defaults=True):
    """One due time and its outcome."""

    due: float
    state: ScheduleState = ScheduleState.WAITING
    run: Run | None = None
    again: tuple[Run, ...] = ()
    """Further runs for the same due time, three at most."""

    @property
    def delay(self) -> float | None:
        """Seconds from the due time until the run was sent; negative if a clock was wrong."""
        at = None if self.run is None else self.run.at
        return None if at is None else at - self.due


class History(Struct, frozen=True, omit_defaults=True):
    """What is stored about one schedule from look to look."""

    name: str
    timetable: str
    """This and the zone determined the due times. If either changes, the history starts afresh."""
    zone: str
    since: float
    """Since when it is watched; earlier due times do not matter."""
    until: float = 0.0
    """The time until which its runs have been matched."""
    occurrences: tuple[Occurrence, ...] = ()
    """Oldest first, without future ones."""
    next_due: float | None = None
    missed: int = 0
    """Missed due times in a row, up to and including the latest."""
    missed_since: float | None = None
    """The first of these due times."""
    missed_total: int = 0
    """Since it is watched; a run that came late after all is not subtracted."""
    runs_total: int = 0
    producers: tuple[str, ...] = ()
    """Who sends its runs when they are due, if that is known, latest first; two at most."""


class Judgement(Struct, frozen=True, omit_defaults=True):
    """The current judgement of a schedule."""

    definition: Definition
    state: ScheduleState
    history: History
    """The new history, to be stored."""
    why: str = ""
    """One sentence for people, with untrusted text made visible; empty if all is well."""
    since: float | None = None
    """The due time with which this state began, if that is known."""
    last: Occurrence | None = None
    """The latest due time with a run."""
    period: float | None = None
    """Current seconds between two due times."""
    is_doubled: bool = False
    """Its latest due times had more than one run each. The state is `DOUBLED` only if nothing worse applies."""
    beat: str | None = None
    """The silent beat that explains why it is missed: then the incident is the beat's, not this schedule's."""

    @property
    def next_due(self) -> float | None:
        return self.history.next_due

    @property
    def missed(self) -> int:
        return self.history.missed

    @property
    def producers(self) -> tuple[str, ...]:
        """Who sends it, if that is known, latest first; for a doubled schedule, everybody who sent it lately."""
        if not self.is_doubled:
            return self.history.producers
        latest = [run for one in self.history.occurrences[-2:] for run in (one.run, *one.again) if run is not None]
        return tuple(dict.fromkeys(run.producer for run in reversed(latest) if run.producer is not None))


class SilentBeat(Struct, frozen=True, omit_defaults=True):
    """A beat that has fallen silent: all its schedules that have been due since are missed."""

    key: str
    """The producer if that is known, otherwise the application; `beat` if neither is."""
    since: float
    """The first due time that it missed."""
    last_heard: float | None
    """When its latest run was sent."""
    schedules: tuple[str, ...]
    """Names of the schedules that it missed, ordered by when they were first missed."""
    watched: int
    """How many schedules it has."""


class Evidence(NamedTuple):
    """What a judgement may be based on."""

    now: float
    certain_until: float
    """Everything sent until then is merged: the watermark of the fleet. Nothing later is judged."""
    known_since: float
    """Since when the fleet has been consuming without a break in which events were lost."""
    gaps: Sequence[tuple[float, float]] = ()
    """Periods, each from and until, in which events may be missing."""


class LastKnown(NamedTuple):
    """What earlier looks found, for a look that cannot read the runs of all schedules."""

    unread: Sequence[Judgement] = ()
    """The schedules whose runs this look did not read; one that was never judged has an empty history."""
    beats: Mapping[str, str] = {}  # never changed
    """Name of a schedule → the silent beat that explained why it was missed."""


class Judged(NamedTuple):
    """All judgements of one look."""

    judgements: Sequence[Judgement]
    """In the order of the definitions."""
    beats: Sequence[SilentBeat] = ()
    not_seen: Sequence[str] = ()
    """Names of schedules with due times that this look marked as not known: for one summary after an outage."""
    is_whole: bool = True
    """Whether the runs of all schedules were read; otherwise some schedules have no judgement."""
