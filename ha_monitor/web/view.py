"""A page's access to the store: the answers of the commands, over one connection of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from ha_monitor.answers import errors, fleet, names, problems, queues, schedules, task, tasks, workers
from ha_monitor.answers.problems import ProblemsAnswer
from ha_monitor.answers.queues import WITHIN, Running
from ha_monitor.answers.result import Result
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.query.id_prefix import candidates
from ha_monitor.query.search import BY_TIME, Order
from ha_monitor.status.fleet import Fleet
from ha_monitor.store.queries import Queries
from ha_monitor.store.reader import StoreReader, Workers
from ha_monitor.store.tail import Tail
from ha_monitor.text.patterns import quoted


class View:
    """Everything that a page may ask while it is being made. Each method raises `StoreUnavailable`."""

    def __init__(self, reader: StoreReader, config: Config, clock: Clock) -> None:
        """:param reader: must be connected."""
        self.reader = reader
        self.config = config
        self.clock = clock

    @property
    def queries(self) -> Queries:
        """For what no method here answers, such as statistics by minute for a chart."""
        return self.reader.queries

    def now(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        return self.queries.now()

    @cached_property
    def _workers(self) -> Workers:
        """All workers, read only once: for a thousand workers, that takes longer than the rest of a page."""
        return self.reader.workers(self.config.workers.late_after)

    def is_used(self) -> bool:
        """Whether an instance of this node_id has ever written to this store."""
        return self.reader.is_used()

    def tasks(self, words: Sequence[str], limit: int = 50, order: Order = BY_TIME) -> Result:
        """The first tasks (`KeptTask`) that match a filter.

        :raises UsageError: if a word of the filter is not a condition.
        """
        return tasks.tasks(self.reader, self.config, self.clock, words, limit, order=order)

    def task(self, text: str, *, with_tree: bool = True) -> Result:
        """The story of a task (`OneTask`), by its id or the beginning of its id: no item if there is none; if several
        tasks begin so, all of them, without trees.
        """
        found = candidates(text, self.queries, self.clock)
        known = [one for one in self.queries.tasks(found.ids) if one is not None]
        return task.task_stories(self.reader, self.config, known, with_tree=with_tree and len(known) == 1)

    def errors(
        self, times: Sequence[str] = (), limit: int = 50, *, sort: str = "last", reverse: bool = False
    ) -> Result:
        """Error groups (`KnownGroup`)."""
        return errors.errors(self.reader, times, limit, sort=sort, reverse=reverse)

    def error(self, text: str) -> Result:
        """An error group (`KnownGroup`), by its id or the beginning of its id: no item if there is none, several if
        several begin so.
        """
        return errors.named_errors(self.reader, errors.group_ids_of(self.reader, text))

    def names(
        self,
        pattern: str | None = None,
        times: Sequence[str] = (),
        limit: int = 50,
        *,
        sort: str = "failed",
        reverse: bool = False,
    ) -> Result:
        """The runs by name (`Compared`)."""
        return names.names(self.reader, pattern, times, limit, sort=sort, reverse=reverse)

    def name(self, name: str, times: Sequence[str] = ()) -> Result:
        """The runs of one name."""
        return names.names(self.reader, quoted(name), times, 1)

    def queues(
        self,
        pattern: str | None = None,
        limit: int = 0,
        *,
        sort: str = "oldest",
        reverse: bool = False,
        within: float = WITHIN,
    ) -> Result:
        """Queues (`OneQueue`); limit 0 for all."""
        return queues.queues(self.reader, pattern, limit, sort=sort, reverse=reverse, within=within)

    def queue(self, name: str, within: float = WITHIN) -> Result:
        """A queue (`OneQueue`), with the tasks that have waited longest."""
        return queues.queues(self.reader, quoted(name), within=within)

    def running(self) -> Running | None:
        """How many tasks all workers are running; None if that is not known."""
        return queues.running(lambda: self._workers)

    def workers(self, pattern: str | None = None, limit: int = 0, *, reverse: bool = False) -> Result:
        """Workers (`SeenWorker`); limit 0 for all."""
        return workers.workers(self.reader, self.config, pattern, limit, reverse=reverse)

    def worker(self, name: str) -> Result:
        """A worker (`SeenWorker`), with what became of its tasks if it is lost."""
        return workers.workers(self.reader, self.config, quoted(name))

    def schedules(self, pattern: str | None = None, limit: int = 0, *, reverse: bool = False) -> Result:
        """Schedules of beat (`SeenSchedule`), worst first; limit 0 for all."""
        return schedules.schedules(self.reader, pattern, limit, reverse=reverse)

    def schedule(self, name: str) -> Result:
        """A schedule (`SeenSchedule`), with its latest due times."""
        return schedules.schedule(self.reader, name)

    def problems(self, limit: int = 0, *, over: bool = False, reverse: bool = False) -> ProblemsAnswer:
        """What is wrong now (`Incident`); limit 0 for all."""
        return problems.problems(self.reader, self._workers.entries, limit, over=over, reverse=reverse)

    def fleet(self) -> Fleet:
        """The instances of the monitor, in the form of `ha-monitor status --json`."""
        return fleet.fleet(self.reader, self.config, self._workers)

    def tail(self) -> Tail:
        """A reader of what the fleet announces, over this connection."""
        return self.reader.tail(self.clock)
