"""What can be asked of the shared record, wherever it is stored: the port for readers.

`redis_queries.py` asks Redis, `memory/queries.py` a record in this process. The answers contain what the instances had
merged when they were asked; events in flight are not in them. Each call is small: none blocks Redis for more than some
milliseconds, and none looks at all records. A search uses the narrowest of these, reads the records by `tasks`, and
filters.

The indexes are written in the same call that merges, so they agree with the records. An index may contain an expired
task until it is swept: `tasks` returns None for it.
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

MAX_NAMES = 2000
"""Names of tasks that are kept: those heard of lately."""
MAX_NEWEST = 200
"""The newest tasks kept for a name."""
MAX_CHILDREN = 10_000
"""The newest tasks kept for a root."""
MAX_ENDED = 100_000
"""Tasks that failed, were rejected, revoked or orphaned: the latest."""


class StoryEvent(Struct, frozen=True):
    """One event of a task."""

    type: str
    """Its name in the catalogue of events; `custom` for a type that is not in it."""
    time: float
    """Seconds since the epoch, by the sender's clock; 0 if the event had no usable time."""
    requeued: bool = False
    """For a `task-rejected`: whether the task was requeued."""
    error_group: str | None = None
    """For the failure that ended the task, and for its last retries for an exception: the group of the error."""


class KeptTask:
    """What is kept of one task. What a search needs of each task is a property of its own here, so that an
    implementation need not compute the rest.
    """

    __slots__ = ("complete", "reconciled", "record", "shrunk", "story")

    record: TaskRecord
    story: tuple[StoryEvent, ...]
    """Its events, oldest first: the latest 1,000. Empty for a record that an earlier version wrote."""
    complete: bool
    """Whether nothing is missing as far as the record shows: its name, the start of a successful run, the story."""
    reconciled: bool
    """Its end was found in the result backend, since its event never came."""
    shrunk: bool
    """It succeeded so long ago that its arguments, root, parent and custom events are no longer kept."""

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
        """When it was first heard of, by the senders' clocks, seconds since the epoch; 0 if that is not known."""
        record = self.record
        known = [event.time for event in self.story[:1]]
        known += [at for at in (record.sent, record.received, record.started, record.finished) if at is not None]
        return min((at for at in known if at > 0), default=0.0)

    @property
    def last_heard(self) -> float:
        """When it ended, or else when it was last heard of; 0 if that is not known."""
        record = self.record
        if record.finished is not None:
            return record.finished
        known = [event.time for event in self.story[-1:]]
        return max([*known, record.sent or 0.0, record.received or 0.0, record.started or 0.0])


class OpenPage(NamedTuple):
    """Some of the open tasks."""

    ids: list[str]
    bound: float | None
    """No task that later pages must contain was first heard of later than this, in seconds since the epoch; None if
    that is not known.
    """


class Ended(NamedTuple):
    """A task that ended without success, or was orphaned."""

    task_id: str
    at: float
    """When, seconds since the epoch: by the sender's clock, but not later than it was merged."""
    state: State
    """FAILURE, REJECTED or REVOKED; for an orphaned task, the state in which it was lost."""
    orphaned: bool = False
    """It has not ended: no worker has it any more."""


class Gap(NamedTuple):
    """A period of which events are missing."""

    what: str
    """How many of what, and whose: `12 starts of celery@app3`."""
    since: float
    """Seconds since the epoch, like `until`."""
    until: float
    worker: str = ""
    """Whose events; empty if it is not known, as for entries from an earlier version."""
    lost: int = 0
    told: float = 0.0
    """When that was found, seconds since the epoch."""


class TaskQueries(Protocol):
    """About tasks. Each raises `StoreUnavailable`."""

    def tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        """The records of tasks, in the order of their ids; None for a task of which nothing is known any more.

        :param texts: names of workers or queues; a task that has none of these may be None, too. Empty for no limit.
        """

    def names(self) -> list[str]:
        """The names of tasks that were heard of, at most 2,000, in alphabetical order."""

    def newest(self, name: str, count: int) -> list[str]:
        """Ids of tasks of a name, newest first by when they were first heard of under that name: of the latest 200. The
        records of some may have expired.
        """

    def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
        """The same for many names, in their order, without the first `offset` ids; if fewer are returned than were
        asked for, there are no more. An id may occur twice.
        """

    def ended_badly(self, since: float, until: float, count: int, offset: int = 0) -> list[Ended]:
        """Tasks that failed, were rejected, revoked or orphaned in a period, its ends included, newest first: of the
        latest 100,000. The record of one may have expired.
        """

    def open(self, count: int, offset: int = 0) -> list[str]:
        """Ids of tasks that are not finished, in no particular order; none without `stuck.enabled`."""

    def all_open(self) -> Iterator[list[str]]:
        """All of them, in pieces, each of which is read when it is asked for. An id may occur twice."""

    def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
        """The same, approximately newest first by when they were first heard of. Each page is read when it is asked
        for.

        :param until: tasks that were first heard of until then, seconds since the epoch, come before all others, of
            which any may be left out.
        :param running: leave out tasks that are known not to have started.
        """

    def stuck(self, count: int) -> list[str]:
        """Ids of tasks that were announced as stuck and still are, in no particular order."""

    def orphaned(self, count: int) -> list[str]:
        """The same for tasks that were announced as orphaned."""

    def waiting(self, queue: str, count: int) -> list[tuple[str, float]]:
        """Tasks in a queue that have not started, longest wait first: the id, and since when it could have started
        (sent, or a later eta), in seconds since the epoch. Those whose eta is in the future come last. Only if
        producers send `task-sent`, which names the queue.
        """

    def queues(self) -> list[str]:
        """The queues in which tasks wait, in alphabetical order."""

    def children(self, root_id: str, count: int) -> list[str]:
        """Ids of the tasks that have this root, newest first: of the latest 10,000."""

    def gaps(self, since: float, until: float) -> list[Gap]:
        """What the fleet has reported as lost in periods that overlap the given one, oldest first: the latest 1,000."""

    def now(self) -> float:
        """The time by the store's own clock, seconds since the epoch."""


class QueueQueries(Protocol):
    """About queues of tasks, of which at most 1,000 are known from producers. Each raises `StoreUnavailable`."""

    def known_queues(self) -> list[KnownQueue]:
        """The queues to which tasks were sent, if producers send `task-sent`, and those that workers consume, as far as
        the leader has looked; in alphabetical order.
        """

    def queue_waits(self, queues: Sequence[str]) -> list[QueueWait]:
        """What waits in each queue now, in their order. Only if producers send `task-sent`, which names the queue."""

    def queue_flow(self, queues: Sequence[str], since: float, until: float) -> list[QueueFlow]:
        """What came into each queue and left it, in their order: in the last three hours.

        :param since: seconds since the epoch; the minute that contains it counts.
        :param until: likewise, the first minute that does not count.
        """


class ErrorQueries(Protocol):
    """About groups of errors, of which there are at most 2,000. Each raises `StoreUnavailable`."""

    def error_ids(self, beginning: str = "") -> list[str]:
        """The ids of all groups, or of those with this beginning, the one seen last coming first."""

    def error_groups(self, ids: Sequence[str]) -> list[ErrorGroup | None]:
        """Groups, in the order of their ids; None for one that does not exist."""


class StatisticQueries(Protocol):
    """About what ran under each name. Each raises `StoreUnavailable`."""

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        """What ran under each name, in their order: for names that `TaskQueries.names` returns, in the last three days.

        :param since: seconds since the epoch; the minute that contains it counts. Statistics older than `BY_MINUTE` are
            kept by ten minutes, and the ten minutes that contain it count.
        :param until: likewise, the first minute that does not count.
        """


class HistoryQueries(Protocol):
    """Over time, in one call: for each period between two bounds, earliest first. Each raises `StoreUnavailable`."""

    def queue_flow_by(self, queues: Sequence[str], bounds: Sequence[float]) -> list[list[QueueFlow]]:
        """See `QueueQueries.queue_flow`."""

    def statistics_by(self, names: Sequence[str], bounds: Sequence[float]) -> list[list[NameStatistic]]:
        """See `StatisticQueries.statistics`. Ten minutes that are kept together count in each period they touch."""


class WorkerQueries(Protocol):
    """About workers. Each raises `StoreUnavailable`."""

    def worker_runs(self, workers: Sequence[str], since: float, until: float) -> list[WorkerRuns]:
        """What ended on each worker, in their order: in the last hour.

        :param since: seconds since the epoch; the minute that contains it counts.
        :param until: likewise, the first minute that does not count.
        """

    def abandoned(self, worker: str, since: float) -> list[Abandoned]:
        """Tasks that a worker may have left unfinished, by when that was found, the latest first: of the latest 10,000
        of all workers, in a day. Their records decide: a task that was retried may be among them.

        :param since: seconds since the epoch: the earliest time of the finding.
        """

    def lost_runs(self) -> list[LostRun]:
        """Runs during which their worker was lost, in the order in which that was found: the latest 2,000, in a day."""


def spans_of(bounds: Sequence[float]) -> list[tuple[int, int]]:
    """The periods between bounds in minutes since the epoch: the first that counts, and the first that does not."""
    return [(int(since // 60), ceil(until / 60)) for since, until in pairwise(bounds)]


class Queries(TaskQueries, QueueQueries, ErrorQueries, StatisticQueries, HistoryQueries, WorkerQueries, Protocol):
    """Everything that can be asked."""
