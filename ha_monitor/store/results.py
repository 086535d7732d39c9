"""What calls of the store take and return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ha_monitor.events.facts import Fact
from ha_monitor.store.counts import LabelSet
from ha_monitor.store.outbox import OutboxItem


class Applied(NamedTuple):
    """The result of a batch."""

    items: list[OutboxItem]
    new: int
    """Events merged for the first time."""
    repeated: int
    """Events that any instance had merged before."""
    waiting: int
    """Tasks, over all instances, with announcements or counts that wait for missing facts."""
    trouble: str = ""
    """What Redis refused: something derived from the events, such as a count. Empty if nothing."""
    merged: int = 0
    """How many of the batch's tasks are merged. If not all, nothing else of the batch is: send the rest. See also
    `is_refused`.
    """

    @property
    def is_refused(self) -> bool:
        """Nothing is merged, because an earlier call left a rest, which must be merged first."""
        return self.merged < 0


def is_about_foreign_value(trouble: str) -> bool:
    """Whether a refusal is about a key that holds another type than the program's: `Store.repair` may help."""
    return "WRONGTYPE" in trouble


class StoreInfo(NamedTuple):
    """What a store reports about itself."""

    risks: Sequence[str] = ()
    """A sentence for each setting that may make it lose what it has confirmed, with what to do about it."""
    dropped: int = 0
    """Keys of any program that it has evicted to make room since it was started."""


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
    next_sequence: int
    """Sequence number of the next item."""
    taken: Sequence[Takeover] = ()
    """What this instance took over in a tick whose reply was lost."""


class Takeover(NamedTuple):
    """An instance whose lease expired and whose outbox this one took over."""

    who: dict[str, Any]
    silent: float
    """Seconds since it last renewed its lease."""
    entries: int


class Ticked(NamedTuple):
    """The result of a tick."""

    items: list[OutboxItem]
    next_due: float | None
    """Seconds until more becomes due; None if nothing is waiting."""
    taken: list[Takeover]
    leads: bool
    """Whether this instance leads for as long as its lease holds."""
    followed: bool
    """It has just become the leader after another one, whose exported values Prometheus may still have."""
    trouble: str = ""
    """See `Applied.trouble`."""
    clock_step: float = 0.0
    """Seconds by which the store's clock was put back since the previous tick of any instance; 0 if it was not."""
    label_sets: LabelSets | None = None
    """None if this instance counts nothing."""


class Rollback(NamedTuple):
    """A store that has lost some of what it had confirmed, as the instance that noticed it first knows it."""

    at: float
    """When it was noticed, seconds since the epoch. What was merged before may be missing."""
    since: float | None
    """Until when the store has everything that it had confirmed, seconds since the epoch; None if it has nothing."""
    calls: int
    """How many calls of this instance are lost; 0 if the store does not even know the instance."""

    @property
    def seconds(self) -> float | None:
        """How far it went back, including the time for which it was away; None if it has nothing."""
        return None if self.since is None else max(0.0, self.at - self.since)


class Silent(NamedTuple):
    """Workers that are about to be lost: late ones that send heartbeats."""

    workers: int = 0
    least: float = 0.0
    """Seconds for which each of them has been silent, at least."""
    most: float = 0.0

    def with_others(self, others: Silent) -> Silent:
        """Both combined."""
        if not (self.workers and others.workers):
            return self if self.workers else others
        least, most = min(self.least, others.least), max(self.most, others.most)
        return Silent(self.workers + others.workers, least, most)


class Watched(NamedTuple):
    """What the leader sees of the fleet."""

    items: list[OutboxItem]
    instances: int
    """Instances with a valid lease."""
    waiting: int
    """Tasks with announcements or counts that wait for missing facts."""
    retries: int
    """Handlers to be retried."""
    dead_letters: int
    workers: list[WorkerState]
    queues: list[str]
    """Queues of tasks that a worker consumes, or did recently."""
    stuck: int = 0
    """Tasks that were announced as stuck and still are."""
    orphaned: int = 0
    """Tasks that were announced as orphaned and still are."""
    tables: Sequence[Table] = ()
    silent: Silent = Silent()
    merged_ago: float | None = None
    """Seconds since the time until which all instances have merged what they received; None while messages may be
    redelivered."""
    is_whole: bool = True
    """Whether `workers` has all workers."""


class Table(NamedTuple):
    """How full a table of the shared record is; see `tables.lua` for each table."""

    name: str
    size: int | None
    """Entries; None for a table of which each process has its own."""
    limit: int
    refused: int
    """Entries that were refused or evicted; reset when a day passes without one."""


class WorkerState(NamedTuple):
    """A worker as the leader sees it."""

    name: str
    state: str
    """`online`; `late` or `lost`: silent for too long; `offline`: it sent worker-offline."""
    active: int | None
    """Tasks that it runs; None if that is not known."""
    is_silent: bool = False
    """It runs tasks and sends no events about them."""
    skew: float = 0.0
    """Seconds by which its clock is ahead (negative: behind); 0 if it is about right, or the worker is not up."""
    silent_for: float = 0.0
    """Seconds since an instance heard of it."""
    is_confirmed: bool = True
    """It was heard from more than once; otherwise its name may be invented."""
    came: float | None = None
    """When it sent worker-online, in seconds since the epoch, by its own clock; None if that is not known."""
    heard: float | None = None
    """When an instance last heard of it, in seconds since the epoch, by the store's clock; None if it is not known."""


class Watching(NamedTuple):
    """When a worker counts as late or lost. Durations are in seconds."""

    late_after: float
    lost_after: float


class LabelSets(NamedTuple):
    """What a tick returns about the label sets under which events of tasks are counted."""

    size: int
    """How many label sets all instances have."""
    added: Sequence[LabelSet]
    """Those that were not known yet, or some of them."""


class Counting(NamedTuple):
    """How events are counted for the metrics."""

    name: str
    """The name under which it counts: the same after a restart."""
    buckets: list[float]
    """Upper bounds of the histograms, ascending."""
    workers: Literal["nodename", "hostname", "none"] = "nodename"
    """How workers are told apart."""
    worker_histograms: bool = False
    """Whether the histograms tell workers apart, too."""
    a_label_set: int = 1
    """How many samples a new label set adds to a scrape, at most."""
    an_exception: int = 1
    """The same for another class of exceptions."""
    default_queue: str = "unknown"
    """The queue for a task whose queue is not known and whose worker consumes several."""
    room: int = 1_000_000
    """How many samples may be added at first."""

    def for_scripts(self) -> dict[str, Any]:
        """The settings as `lua/counting.lua` reads them."""
        return {**{key: value for key, value in self._asdict().items() if key != "name"}, "reserve": 0}


Phase = Literal["sent", "received", "started"]


class Candidate(NamedTuple):
    """An open task that is overdue, or whose worker is lost."""

    task_id: str
    phase: Phase
    since: int
    """When it came into the phase, or was due, in µs since the epoch."""
    name: str
    """Empty if it is not known, like the next two."""
    queue: str
    worker: str
    """The worker that received it last."""
    worker_state: str
    """As in `WorkerState`; `unknown` if not looked at yet, `gone` if not heard of for very long, or empty."""
    is_known: bool = True
    """Whether workers know the task by this id; otherwise they cannot be asked about it."""


class Candidates(NamedTuple):
    """The result of one round."""

    at: int
    """The time by Redis's clock, in ms since the epoch."""
    tasks: list[Candidate]
    more: bool = False
    """Whether more tasks are to be looked at."""
    workers: Sequence[str] = ()
    """Some workers: those heard from last."""


class StuckTask(NamedTuple):
    """The task still exists and makes no progress."""

    seen_in: Phase
    """The phase in which the workers have it, which may be further than its record says."""
    confirmed_by: list[str]
    answered: int
    """Workers that answered."""


class OrphanedTask(NamedTuple):
    """No worker has the task any more."""

    must_be_lost: bool
    """It is orphaned only if its worker is still lost when that is announced."""
    confirmed_by: list[str]
    answered: int


class FinishedTask(NamedTuple):
    """The task has ended, and the event that reports it is missing."""

    fact: Fact


Confirmation = StuckTask | OrphanedTask | FinishedTask
