"""What can be asked of the shared record, whatever keeps it: the port of those who read.

`redis_queries.py` asks Redis, `memory/queries.py` a record in this process. The answers say what the instances had
merged when they were asked; events that are still on their way are not in them. Each call is small: none keeps Redis
from its work for more than some milliseconds, and none looks at all records. Whoever searches takes the narrowest of
these, reads the records by `tasks`, and filters.

The indexes are written in the same call that merges, so they agree with the records. What expired may still be named
by one until it is swept: `tasks` answers None for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple, Protocol

from msgspec import Struct

from ha_monitor.events.catalogue import State
from ha_monitor.store.error_groups import ErrorGroup
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queue_flow import KnownQueue, QueueFlow, QueueWait
from ha_monitor.store.record import TaskRecord
from ha_monitor.store.worker_runs import Abandoned, LostRun, WorkerRuns

MOST_NAMES = 2000
"""Names of tasks that are kept, those heard of lately."""
MOST_NEWEST = 200
"""Tasks of a name, its newest."""
MOST_CHILDREN = 10_000
"""Tasks of a root, its newest."""
MOST_ENDED = 100_000
"""Tasks that failed, were rejected, revoked or orphaned, the latest."""


class StoryEvent(Struct, frozen=True):
    """One event of a task."""

    type: str
    """As the catalogue of events calls it; `custom` for what it has no name for."""
    time: float
    """Seconds since the epoch, by the sender's clock; 0 if the event had no usable time."""
    requeued: bool = False
    """Of a `task-rejected`: whether the task went back into its queue."""
    error_group: str | None = None
    """Of the failure that ended the task, and of its last retries for an exception: the group of the error."""


class KeptTask:
    """What is kept of one task. What a search needs of each that it looks at has a name of its own here, so that an
    implementation need not work out all the rest.
    """

    __slots__ = ("complete", "reconciled", "record", "shrunk", "story")

    record: TaskRecord
    story: tuple[StoryEvent, ...]
    """Its events, oldest first: the latest 1,000. None of them in a record that an earlier version wrote."""
    complete: bool
    """Whether nothing is missing as far as the record shows: its name, the start of what succeeded, the story."""
    reconciled: bool
    """Its end was found in the result backend, since the event of it never came."""
    shrunk: bool
    """It succeeded so long ago that its arguments, root, parent and custom events are not kept any more."""

    def __init__(
        self,
        record: TaskRecord,
        story: tuple[StoryEvent, ...] = (),
        complete: bool = True,
        reconciled: bool = False,
        *,
        shrunk: bool = False,
    ) -> None:
        self.record, self.story, self.complete, self.reconciled = record, story, complete, reconciled
        self.shrunk = shrunk

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeptTask):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in KeptTask.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"KeptTask({self.record!r}, {self.story!r}, {self.complete!r}, {self.reconciled!r})"

    @property
    def task_id(self) -> str:
        return self.record.task_id

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def name(self) -> str | None:
        return self.record.name

    @property
    def queue(self) -> str | None:
        return self.record.queue

    @property
    def worker(self) -> str | None:
        return self.record.worker

    @property
    def started(self) -> float | None:
        return self.record.started

    @property
    def first_heard(self) -> float:
        """When it was first heard of, by the clocks of the senders, seconds since the epoch; 0 if that is not known."""
        record = self.record
        known = [event.time for event in self.story[:1]]
        known += [at for at in (record.sent, record.received, record.started, record.finished) if at is not None]
        return min((at for at in known if at > 0), default=0.0)

    @property
    def last_heard(self) -> float:
        """When it ended, or else when something was heard of it last; 0 if that is not known."""
        record = self.record
        if record.finished is not None:
            return record.finished
        known = [event.time for event in self.story[-1:]]
        return max([*known, record.sent or 0.0, record.received or 0.0, record.started or 0.0])


class OpenPage(NamedTuple):
    """Some of the open tasks."""

    ids: list[str]
    bound: float | None
    """No task of later pages that is asked for was first heard of later than this, in seconds since the epoch; None if
    that is not known.
    """


class Ended(NamedTuple):
    """A task that ended otherwise than by succeeding."""

    task_id: str
    at: float
    """When, seconds since the epoch: by the sender's clock, but not later than it was merged."""
    state: State
    """FAILURE, REJECTED or REVOKED; that of an orphaned task is the one in which it was lost."""
    orphaned: bool = False
    """It has not ended: nobody has it any more."""


class Gap(NamedTuple):
    """A time of which events are missing."""

    what: str
    """How many of what, and whose: `12 starts of celery@app3`."""
    since: float
    """Seconds since the epoch, as `until`."""
    until: float
    worker: str = ""
    """Whose events; empty where it is not known, as in what an earlier version kept."""
    lost: int = 0
    told: float = 0.0
    """When that was found, seconds since the epoch."""


class TaskQueries(Protocol):
    """About tasks. Each raises `StoreUnavailable`."""

    def tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        """The records of tasks, in the order of their ids; None for one of which nothing is known any more.

        :param texts: names of workers or queues; may be None also for one that has none of these. Empty for no limit.
        """

    def names(self) -> list[str]:
        """The names of tasks that were heard of, at most 2,000, in the order of the alphabet."""

    def newest(self, name: str, count: int) -> list[str]:
        """Ids of tasks of a name, newest first by when they were first heard of by that name: of the latest 200. The
        records of some may have expired.
        """

    def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
        """The same for many names, in their order, without the first ones; there are no more if these are fewer than
        were asked for. One may be there twice.
        """

    def ended_badly(self, since: float, until: float, count: int, offset: int = 0) -> list[Ended]:
        """Tasks that failed, were rejected, revoked or orphaned in a time, its ends included, newest first: of the
        latest 100,000. The record of one may have expired.
        """

    def open(self, count: int, offset: int = 0) -> list[str]:
        """Ids of tasks that are not finished, in no particular order; none without `stuck.enabled`."""

    def all_open(self) -> Iterator[list[str]]:
        """All of them, in pieces, each of which is read when it is asked for. One may be there twice."""

    def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
        """The same, about newest first by when they were first heard of. Each page is read when it is asked for.

        :param until: those that were first heard of until then, seconds since the epoch, come before all others, of
            which any may be left out.
        :param running: without those that are known not to have started.
        """

    def stuck(self, count: int) -> list[str]:
        """Ids of tasks that were said to be stuck and still are, in no particular order."""

    def orphaned(self, count: int) -> list[str]:
        """The same of those that were said to be orphaned."""

    def waiting(self, queue: str, count: int) -> list[tuple[str, float]]:
        """Tasks in a queue that have not started, longest wait first: the id, and since when it could have (sent, or a
        later eta), in seconds since the epoch. An eta that is still to come is the last of all. Only where producers
        send `task-sent`, which names the queue.
        """

    def queues(self) -> list[str]:
        """The queues in which tasks wait, in the order of the alphabet."""

    def children(self, root_id: str, count: int) -> list[str]:
        """Ids of the tasks whose root is a task, newest first: of the latest 10,000."""

    def gaps(self, since: float, until: float) -> list[Gap]:
        """What the fleet has told of as lost, of a time that touches the given one, oldest first: of the latest
        1,000.
        """

    def now(self) -> float:
        """The time by the record's own clock, seconds since the epoch."""


class QueueQueries(Protocol):
    """About queues of tasks, of which at most 1,000 are known by what producers say. Each raises `StoreUnavailable`."""

    def known_queues(self) -> list[KnownQueue]:
        """The queues to which tasks were sent, as far as producers send `task-sent`, and those that workers consume, as
        far as the leader looks; in the order of the alphabet.
        """

    def queue_waits(self, queues: Sequence[str]) -> list[QueueWait]:
        """What waits in each queue now, in their order. Only where producers send `task-sent`, which names the
        queue.
        """

    def queue_flow(self, queues: Sequence[str], since: float, until: float) -> list[QueueFlow]:
        """What came into each queue and left it, in their order: of the last three hours.

        :param since: seconds since the epoch; the minute that it is in counts.
        :param until: likewise, the first minute that does not count.
        """


class ErrorQueries(Protocol):
    """About groups of errors, of which there are at most 2,000. Each raises `StoreUnavailable`."""

    def error_ids(self, beginning: str = "") -> list[str]:
        """The ids of all groups, or of those that begin so, the one that was seen last first."""

    def error_groups(self, ids: Sequence[str]) -> list[ErrorGroup | None]:
        """Groups, in the order of their ids; None for one that is not there."""


class StatisticQueries(Protocol):
    """About what was run of each name. Each raises `StoreUnavailable`."""

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        """What was run of each name, in their order: of names that `TaskQueries.names` tells, for three days.

        :param since: seconds since the epoch; the minute that it is in counts. What is older than `BY_MINUTE` is kept
            by ten minutes, and those that it is in count.
        :param until: likewise, the first minute that does not count.
        """


class HistoryQueries(Protocol):
    """Over time, at one go: of each of the times between bounds, earliest first. Each raises `StoreUnavailable`."""

    def queue_flow_by(self, queues: Sequence[str], bounds: Sequence[float]) -> list[list[QueueFlow]]:
        """As `QueueQueries.queue_flow`."""

    def statistics_by(self, names: Sequence[str], bounds: Sequence[float]) -> list[list[NameStatistic]]:
        """As `StatisticQueries.statistics`. Ten minutes that are kept together count in each time that they touch."""


class WorkerQueries(Protocol):
    """About workers. Each raises `StoreUnavailable`."""

    def worker_runs(self, workers: Sequence[str], since: float, until: float) -> list[WorkerRuns]:
        """What ended on each worker, in their order: of the last hour.

        :param since: seconds since the epoch; the minute that it is in counts.
        :param until: likewise, the first minute that does not count.
        """

    def abandoned(self, worker: str, since: float) -> list[Abandoned]:
        """Tasks that a worker may have left, by when that was found, the latest first: of the latest 10,000 of all
        workers, and of a day. What their records tell decides: a task that was retried may be among them.

        :param since: seconds since the epoch, when it was found.
        """

    def lost_runs(self) -> list[LostRun]:
        """Runs during which their worker was lost, in the order in which that was found: the latest 2,000, of a day."""


def spans_of(bounds: Sequence[float]) -> list[tuple[int, int]]:
    """The times between bounds as minutes since the epoch: the first that counts, and the first that does not."""
    return [(int(since // 60), ceil(until / 60)) for since, until in pairwise(bounds)]


class Queries(TaskQueries, QueueQueries, ErrorQueries, StatisticQueries, HistoryQueries, WorkerQueries, Protocol):
    """All that can be asked."""
