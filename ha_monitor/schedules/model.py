"""What is known of schedules and of their runs. Times are in seconds since the epoch, durations in seconds.

Names, texts and ids come from applications: none of them is to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

MOST_SCHEDULES = 1000
"""That are watched."""
MOST_OCCURRENCES = 50
"""Due times that are kept of a schedule, the latest."""
LONGEST_TEXT = 200
"""Characters of a name, a task or a timetable."""
LEAST_GRACE, LONGEST_GRACE, GRACE_SHARE = 30.0, 900.0, 0.1
"""A run may be late by this share of the period, but by no less and no more."""
ENDED = frozenset(("SUCCESS", "FAILURE", "REJECTED", "REVOKED"))
"""States of a task, as `events.catalogue.State` calls them, after which nothing comes."""
SETTLING = 600.0
"""Seconds after a definition was first seen, or changed, in which beat may not know it yet: nothing is missed then."""


class Source(StrEnum):
    """Where a definition is from, the best first."""

    REDBEAT = "redbeat"
    """What RedBeat itself goes by; it takes over what the configuration of the application says."""
    CONF = "conf"
    """The configuration of the application, as a worker tells it."""
    TOML = "toml"
    """The configuration of this program."""
    LEARNED = "learned"
    """Nobody told it: the task runs regularly."""


class ScheduleState(StrEnum):
    """What is to be said of a schedule, or of one due time of it."""

    ON_TIME = "on time"
    LATE = "late"
    """It ran, but after its grace."""
    MISSED = "missed"
    """Its grace is over, and nothing ran."""
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
    """Nothing was due yet since it is watched, or its latest due time cannot be judged yet."""
    NOT_KNOWN = "not known"
    """The monitor did not look then, or cannot tell when it is due."""


class Definition(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One entry of a schedule."""

    name: str
    """Of the entry, such as `nightly report`: what identifies it."""
    task: str
    timetable: str
    """When it is due, as `timetable.timetable_of` reads it: `0 2 * * *`, `every 10m`, `sunset at 48.1, 11.6`,
    `once 2026-11-28T02:00:00Z`. As the source tells it if that cannot be read."""
    zone: str = ""
    """The time zone in which that is meant, by its IANA name; empty if it is not known, as that of beat's host."""
    source: Source
    app: str = ""
    """The beat that it belongs to, if there are several: the name under which the plumbing asks for it."""
    arguments: str | None = None
    """What `arguments.arguments_of` makes of them, to tell entries of one task apart; None if it is not known."""
    queue: str | None = None
    expires: float | None = None
    """Seconds after which a run is not begun any more."""
    grace: float | None = None
    """Seconds that a run may be late; None for a share of the period."""
    must_end_within: float | None = None
    """Seconds after its due time within which a run ends."""
    is_enabled: bool = True
    problem: str = ""
    """Why it cannot be judged: one sentence for people."""
    differs: str = ""
    """In what the workers, or the sources, do not agree: one sentence for people."""
    is_disputed: bool = False
    """Workers do not agree, so that a run may be missing without being missed."""
    basis: str = ""
    """Why it is taken for a schedule, if nobody told it: for people."""


class Run(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One task that may belong to a schedule, as far as its events tell."""

    task_id: str
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    state: str = "UNKNOWN"
    """As `events.catalogue.State` calls it."""
    producer: str | None = None
    """Who sent it, such as `gen4711@host`, if that is known."""
    is_child: bool = False
    """Another task sent it: beat did not."""
    is_orphaned: bool = False
    """Its worker was lost with it, and it was not run again."""
    is_expired: bool = False
    """It was revoked because it had expired."""
    queue: str | None = None
    arguments: str | None = None
    """As in a definition; None if they are not known."""

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end."""
        return self.ended is not None or self.state in ENDED

    @property
    def at(self) -> float | None:
        """When beat sent it, as far as that is known: else when it was first heard of."""
        if self.sent is not None:
            return self.sent
        return min((at for at in (self.received, self.started, self.ended) if at is not None), default=None)


class Runs(NamedTuple):
    """The newest tasks of a name."""

    runs: Sequence[Run]
    complete_since: float = 0.0
    """From when on none is missing: all that is kept of a name is its newest ones."""


class Occurrence(Struct, frozen=True, omit_defaults=True):
    """One due time, and what came of it."""

    due: float
    state: ScheduleState = ScheduleState.WAITING
    run: Run | None = None
    again: tuple[Run, ...] = ()
    """Further runs for the same due time: at most three."""

    @property
    def delay(self) -> float | None:
        """Seconds from the due time until it was sent; less than 0 if a clock was wrong."""
        at = None if self.run is None else self.run.at
        return None if at is None else at - self.due


class History(Struct, frozen=True, omit_defaults=True):
    """What is kept of one schedule from look to look."""

    name: str
    timetable: str
    """Together with the zone: by what the due times were worked out. With another one it begins anew."""
    zone: str
    since: float
    """Since when it is watched: what was due before is nobody's business."""
    until: float = 0.0
    """Up to when its runs have been matched."""
    occurrences: tuple[Occurrence, ...] = ()
    """The oldest first, without those still to come."""
    next_due: float | None = None
    missed: int = 0
    """In a row, the latest one included."""
    missed_since: float | None = None
    """The first due time of these."""
    missed_total: int = 0
    """Since it is watched; a run that came late after all does not take one away."""
    runs_total: int = 0
    producers: tuple[str, ...] = ()
    """Who sends its runs when they are due, if that is known, the latest first; at most two."""


class Judgement(Struct, frozen=True, omit_defaults=True):
    """What is to be said of a schedule now."""

    definition: Definition
    state: ScheduleState
    history: History
    """To be kept."""
    why: str = ""
    """One sentence for people, with what is not to be trusted made visible; empty if all is well."""
    since: float | None = None
    """The due time with which this state began, if that is known."""
    last: Occurrence | None = None
    """The latest due time with a run."""
    period: float | None = None
    """Seconds between two due times, about now."""
    is_doubled: bool = False
    """Its latest due times had more than one run each. The state says so if nothing worse is the case."""
    beat: str | None = None
    """The silent beat that explains why it is missed: an incident of that one, not of this schedule."""

    @property
    def next_due(self) -> float | None:
        return self.history.next_due

    @property
    def missed(self) -> int:
        return self.history.missed

    @property
    def producers(self) -> tuple[str, ...]:
        """Who sends it, if that is known, the latest first; of one that is doubled, all who did lately."""
        if not self.is_doubled:
            return self.history.producers
        latest = [run for one in self.history.occurrences[-2:] for run in (one.run, *one.again) if run is not None]
        return tuple(dict.fromkeys(run.producer for run in reversed(latest) if run.producer is not None))


class SilentBeat(Struct, frozen=True, omit_defaults=True):
    """A beat of which nothing is heard any more: all of its schedules that were due since are missed."""

    key: str
    """The producer if that is known, else the application; `beat` if neither is."""
    since: float
    """The first due time that it missed."""
    last_heard: float | None
    """When it sent something last."""
    schedules: tuple[str, ...]
    """The names of those that were missed, the first of them first."""
    watched: int
    """How many schedules it has."""


class Look(NamedTuple):
    """What a judgement may rest on."""

    now: float
    certain_until: float
    """All that was sent until then is merged: the watermark of the fleet. Nothing later is judged."""
    known_since: float
    """Since when the fleet has been consuming without a break that lost anything."""
    gaps: Sequence[tuple[float, float]] = ()
    """Times, each from and until, of which events may be missing."""


class Judged(NamedTuple):
    """All judgements of one look."""

    judgements: Sequence[Judgement]
    """In the order of the definitions."""
    beats: Sequence[SilentBeat] = ()
    not_seen: Sequence[str] = ()
    """The names of those of which this look has left due times as not known: for one summary after an outage."""
