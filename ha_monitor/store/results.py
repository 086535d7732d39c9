"""What goes into the calls of the store, and what comes out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ha_monitor.events.facts import Fact
from ha_monitor.store.counts import LabelSet
from ha_monitor.store.outbox import OutboxItem


class Applied(NamedTuple):
    """What a batch brought."""

    items: list[OutboxItem]
    new: int
    """Events merged for the first time."""
    repeated: int
    """Events that some instance had merged before."""
    waiting: int
    """Tasks, over all instances, whose announcements wait for a piece."""
    trouble: str = ""
    """What Redis refused: something that is derived from the events, such as a count. Empty if nothing."""
    merged: int = 0
    """How many of the batch's tasks are merged. If not all of them, nothing else of the batch is: send the rest. See
    `is_refused`, too.
    """

    @property
    def is_refused(self) -> bool:
        """Nothing is merged, since a call before this one has left something, which has to be merged first."""
        return self.merged < 0


def is_about_foreign_value(trouble: str) -> bool:
    """Whether what was refused touched something of another type than the program's own: `Store.repair` may help."""
    return "WRONGTYPE" in trouble


class StoreInfo(NamedTuple):
    """What a store says of itself."""

    risks: Sequence[str] = ()
    """A sentence for each setting under which it may lose what it has confirmed, with what to do about it."""
    dropped: int = 0
    """Keys that it has dropped to make room since it was started, of whichever program."""


class Peer(NamedTuple):
    """Another living instance."""

    token: int
    stats: dict[str, Any]
    """Its counters and its state, as of its latest tick."""
    who: Mapping[str, Any] = {}  # never changed
    """Who it is: instance, host, pid."""


class Recovered(NamedTuple):
    """What the outbox held after a broken connection."""

    items: list[OutboxItem]
    behind: int
    """Sequence number of the item that comes next."""
    taken: Sequence[Takeover] = ()
    """What this instance took over at a tick whose reply was lost."""


class Takeover(NamedTuple):
    """An instance whose lease ran out and whose outbox this one took over."""

    who: dict[str, Any]
    silent: float
    """Seconds since it last renewed its lease."""
    entries: int


class Ticked(NamedTuple):
    """What time brought."""

    items: list[OutboxItem]
    next_due: float | None
    """Seconds until more becomes due; None if nothing waits."""
    taken: list[Takeover]
    leads: bool
    """Whether this instance leads for as long as its lease holds."""
    followed: bool
    """It has just become the leader after another one, which may still be seen where its metrics are kept."""
    trouble: str = ""
    """As `Applied.trouble`."""
    clock_step: float = 0.0
    """Seconds by which the clock of the record was put back since the tick before, of any instance; 0 if it was not."""
    label_sets: LabelSets | None = None
    """None if this instance counts nothing."""


class Rollback(NamedTuple):
    """A store that has less than it had confirmed, as the instance knows it that noticed it first."""

    at: float
    """When it was noticed, seconds since the epoch. What was merged until then may be missing."""
    since: float | None
    """Until when the store has what it had confirmed, seconds since the epoch; None if it has nothing."""
    calls: int
    """How many calls of this instance are missing; 0 if it does not even know of the instance."""

    @property
    def seconds(self) -> float | None:
        """How far it went back, with the time for which it was away; None if it has nothing."""
        return None if self.since is None else max(0.0, self.at - self.since)


class Silent(NamedTuple):
    """Workers that are about to be lost: those that are late and send heartbeats."""

    workers: int = 0
    least: float = 0.0
    """Seconds for which each of them was silent, at least."""
    most: float = 0.0

    def with_others(self, others: Silent) -> Silent:
        """Both together."""
        if not (self.workers and others.workers):
            return self if self.workers else others
        least, most = min(self.least, others.least), max(self.most, others.most)
        return Silent(self.workers + others.workers, least, most)


class Watched(NamedTuple):
    """What the leader sees of the fleet."""

    items: list[OutboxItem]
    instances: int
    """Instances whose lease holds."""
    waiting: int
    """Tasks whose announcements wait for a piece."""
    retries: int
    """Handlers to be called again."""
    dead_letters: int
    workers: list[WorkerState]
    queues: list[str]
    """Queues of tasks that a worker consumes, or did not long ago."""
    stuck: int = 0
    """Tasks that were said to be stuck and still are."""
    orphaned: int = 0
    """Tasks that were said to be orphaned and still are."""
    tables: Sequence[Table] = ()
    silent: Silent = Silent()
    merged_ago: float | None = None
    """Seconds since the time up to which all instances have merged what they were given; None if more of it may be
    delivered again."""
    is_whole: bool = True
    """Whether `workers` has all of them."""


class Table(NamedTuple):
    """How full a table of the shared record is; `tables.lua` says what each is."""

    name: str
    size: int | None
    """Entries; None where it is about each process by itself."""
    limit: int
    refused: int
    """Entries that were refused or had to make room, until a day passes without one."""


class WorkerState(NamedTuple):
    """What the leader makes of a worker."""

    name: str
    state: str
    """`online`; `late`, `lost`: silent for long; `offline`: it said so."""
    active: int | None
    """Tasks that it runs; None if that is not known."""
    is_silent: bool = False
    """It runs tasks and sends no events of them."""
    skew: float = 0.0
    """Seconds by which its clock is ahead (negative: behind); 0 if it is not wrong by much, or the worker is not up."""
    silent_for: float = 0.0
    """Seconds since an instance heard of it."""
    is_confirmed: bool = True
    """It was heard from more than once: else its name may be an invented one."""
    came: float | None = None
    """When it said that it was there, in seconds since the epoch, by its own clock; None if that is not known."""
    heard: float | None = None
    """When an instance heard of it, in seconds since the epoch, by the store's clock; None if that is not known."""


class Watching(NamedTuple):
    """When a worker counts as late or lost. Durations are in seconds."""

    late_after: float
    lost_after: float


class LabelSets(NamedTuple):
    """What a tick tells of the label sets under which events of tasks are counted."""

    size: int
    """How many there are, of all instances."""
    added: Sequence[LabelSet]
    """Those that were not known yet, or some of them."""


class Counting(NamedTuple):
    """How events are counted for the metrics."""

    name: str
    """Whose counts they are: the same after a restart."""
    buckets: list[float]
    """Upper bounds of the histograms, ascending."""
    workers: Literal["nodename", "hostname", "none"] = "nodename"
    """How they are told apart."""
    worker_histograms: bool = False
    """Whether the histograms tell them apart, too."""
    a_label_set: int = 1
    """Samples that a new label set adds to a scrape, at most."""
    an_exception: int = 1
    """The same for one more class of exceptions."""
    default_queue: str = "unknown"
    """The queue of a task of which none is known, and whose worker consumes several."""
    room: int = 1_000_000
    """Samples that may be added at first."""

    def for_scripts(self) -> dict[str, Any]:
        """What `lua/counting.lua` is told."""
        return {**{key: value for key, value in self._asdict().items() if key != "name"}, "reserve": 0}


Phase = Literal["sent", "received", "started"]


class Candidate(NamedTuple):
    """An open task that is overdue, or whose worker is lost."""

    task_id: str
    phase: Phase
    since: int
    """When it came to the phase, or was due, in µs since the epoch."""
    name: str
    """Empty where it is not known, like the next two."""
    queue: str
    worker: str
    """Who received it last."""
    worker_state: str
    """As in `WorkerState`; `unknown` if not looked at yet, `gone` if nothing was heard for very long, or empty."""
    is_known: bool = True
    """Whether workers know the task by this id; else they cannot be asked about it."""


class Candidates(NamedTuple):
    """What one round found."""

    at: int
    """When, by Redis's clock, in ms since the epoch."""
    tasks: list[Candidate]
    more: bool = False
    """More tasks are to be looked at."""
    workers: Sequence[str] = ()
    """Some workers: those that were heard from last."""


class StuckTask(NamedTuple):
    """The task is there and does not go on."""

    seen_in: Phase
    """Where the workers have it, which may be further than its record says."""
    confirmed_by: list[str]
    answered: int
    """Workers that answered."""


class OrphanedTask(NamedTuple):
    """Nobody has the task any more."""

    must_be_lost: bool
    """It is so only if its worker is still lost when that is announced."""
    confirmed_by: list[str]
    answered: int


class FinishedTask(NamedTuple):
    """The task has ended, and the event that says so is missing."""

    fact: Fact


Confirmation = StuckTask | OrphanedTask | FinishedTask
