"""The questions, answered from scratch each time: see `queries.Queries`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from zlib import crc32

from ha_monitor.events.catalogue import State
from ha_monitor.events.histogram import bucket_of
from ha_monitor.store import name_statistics
from ha_monitor.store.error_groups import ErrorGroup
from ha_monitor.store.kept import kept_task
from ha_monitor.store.memory import errors
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.memory.worker_runs import abandoned_by, lost_runs_of, runs_of
from ha_monitor.store.name_statistics import WAIT, NameStatistic, statistic_from
from ha_monitor.store.queries import MAX_CHILDREN, MAX_NEWEST, Ended, Gap, KeptTask, OpenPage
from ha_monitor.store.queue_flow import KEPT as KEPT_FLOW
from ha_monitor.store.queue_flow import Cell, KnownQueue, QueueFlow, QueueWait, flow_from
from ha_monitor.store.worker_runs import Abandoned, LostRun, WorkerRuns

_STATES = {"sent": State.SENT, "received": State.RECEIVED, "started": State.STARTED}


class MemoryQueries:
    """Needs no lease."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        self._server.trouble("before tasks")
        found: list[KeptTask | None] = []
        for task_id in ids:
            task = self._server.tasks.get(task_id)
            task = None if task is None else task.at(self.now())
            if task is not None and texts and not texts & {task.facts.worker, task.facts.queue}:
                task = None
            found.append(None if task is None else kept_task(task_id, task.facts, task.story, whole=True))
        return found

    def names(self) -> list[str]:
        self._server.trouble("before names")
        return sorted({task.facts.name for task in self._server.tasks.values() if task.facts.name is not None})

    def newest(self, name: str, count: int) -> list[str]:
        return self.newest_of([name], count)[0]

    def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
        self._server.trouble("before newest_of")
        known = [(task.named, task_id, task.facts.name) for task_id, task in self._server.tasks.items() if task.named]
        known.sort(reverse=True)
        rings = ([task_id for _, task_id, name in known if name == wanted] for wanted in names)
        return [ring[offset : min(offset + count, MAX_NEWEST)] for ring in rings]

    def ended_badly(self, since: float, until: float, count: int, offset: int = 0) -> list[Ended]:
        self._server.trouble("before ended_badly")
        found = [
            Ended(task_id, at, _STATES[phase], orphaned=True)
            for task_id, (kind, phase, _) in self._server.found.items()
            if kind == "task-orphaned" and (at := self._server.orphaned_at.get(task_id)) is not None
        ]
        orphaned = {one.task_id for one in found}
        for task_id, task in self._server.tasks.items():
            if (end := task.bad_end(self.now())) is not None and task_id not in orphaned:
                found.append(Ended(task_id, *end))
        found = [one for one in found if since <= one.at < until + 0.001]
        found.sort(key=lambda one: (one.at, one.task_id), reverse=True)
        return found[offset : offset + count]

    def open(self, count: int, offset: int = 0) -> list[str]:
        self._server.trouble("before open")
        found = [task_id for task_id, task in self._server.tasks.items() if task.is_open]
        return found[offset : offset + count]

    def all_open(self) -> Iterator[list[str]]:
        yield self.open(len(self._server.tasks))

    def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
        ids = self.open(len(self._server.tasks))
        found = [(task.first_heard, task.task_id) for task in self.tasks(ids) if task is not None]
        waits = {task_id for task_id, _ in self._waits()} if running else set()
        found = [one for one in found if (until is None or one[0] <= until) and one[1] not in waits]
        yield OpenPage([task_id for _, task_id in sorted(found, reverse=True)], None)

    def stuck(self, count: int) -> list[str]:
        return self._found("task-stuck")[:count]

    def orphaned(self, count: int) -> list[str]:
        return self._found("task-orphaned")[:count]

    def _found(self, kind: str) -> list[str]:
        self._server.trouble("before found")
        # In the order of a hash, as in Redis: which ones a count leaves out changes as more are found.
        ids = [task_id for task_id, (found, *_) in self._server.found.items() if found == kind]
        return sorted(ids, key=lambda one: crc32(one.encode("utf-8", "replace")))

    def waiting(self, queue: str, count: int) -> list[tuple[str, float]]:
        self._server.trouble("before waiting")
        found = [(at, task_id) for task_id, (where, at) in self._waits() if where == queue]
        return [(task_id, at) for at, task_id in sorted(found)[:count]]

    def queues(self) -> list[str]:
        self._server.trouble("before queues")
        return sorted({where for _, (where, _) in self._waits()})

    def known_queues(self) -> list[KnownQueue]:
        self._server.trouble("before known_queues")
        with_producers = {queue for task in self._server.tasks.values() for queue, *_ in task.moves()}
        names = sorted({*with_producers, *self._server.queues})
        return [KnownQueue(name, name in with_producers, self._server.queues.get(name)) for name in names]

    def queue_waits(self, queues: Sequence[str]) -> list[QueueWait]:
        self._server.trouble("before queue_waits")
        now = self.now()
        found = []
        for queue in queues:
            since = sorted(at for _, (where, at) in self._waits() if where == queue)
            waiting = [at for at in since if at <= now]
            found.append(QueueWait(len(waiting), min(waiting, default=None), len(since) - len(waiting)))
        return found

    def queue_flow(self, queues: Sequence[str], since: float, until: float) -> list[QueueFlow]:
        self._server.trouble("before queue_flow")
        now = int(self.now() * 1e6)
        cells: dict[str, list[Cell]] = {queue: [] for queue in queues}
        for queue, at, cell in (move for task in self._server.tasks.values() for move in task.moves()):
            counted = at if at > 0 and (at <= now or cell[0]) else now
            is_kept = abs(now - counted) <= KEPT_FLOW * 1_000_000
            if queue in cells and is_kept and since // 60 <= counted // 60_000_000 < ceil(until / 60):
                cells[queue].append(cell)
        return [flow_from(cells[queue]) for queue in queues]

    def queue_flow_by(self, queues: Sequence[str], bounds: Sequence[float]) -> list[list[QueueFlow]]:
        by_time = [self.queue_flow(queues, since, until) for since, until in pairwise(bounds)]
        return [list(flows) for flows in zip(*by_time, strict=True)]

    def _waits(self) -> list[tuple[str, tuple[str, float]]]:
        waits = ((task_id, task.waits()) for task_id, task in self._server.tasks.items())
        return [(task_id, wait) for task_id, wait in waits if wait is not None]

    def children(self, root_id: str, count: int) -> list[str]:
        self._server.trouble("before children")
        found = [(task.named, one) for one, task in self._server.tasks.items() if task.is_below(root_id)]
        return [task_id for _, task_id in sorted(found, reverse=True)[: min(count, MAX_CHILDREN)]]

    def gaps(self, since: float, until: float) -> list[Gap]:
        self._server.trouble("before gaps")
        return sorted(
            (gap for gap in self._server.gaps if gap.since <= until and gap.until >= since),
            key=lambda gap: (gap.since, gap.until, gap.what),
        )

    def error_ids(self, beginning: str = "") -> list[str]:
        self._server.trouble("before error_ids")
        return [one for one in errors.ids_in(self._server) if one.startswith(beginning)]

    def error_groups(self, ids: Sequence[str]) -> list[ErrorGroup | None]:
        self._server.trouble("before error_groups")
        return [errors.group_in(self._server, one) for one in ids]

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        self._server.trouble("before statistics")
        found = [one for one in self._cells() if since // 60 <= one[1] < ceil(until / 60)]
        return [statistic_from(name, ((cell, 1) for of, _, cell in found if of == name)) for name in names]

    def statistics_by(self, names: Sequence[str], bounds: Sequence[float]) -> list[list[NameStatistic]]:
        by_time = [self.statistics(names, since, until) for since, until in pairwise(bounds)]
        return [list(found) for found in zip(*by_time, strict=True)]

    def worker_runs(self, workers: Sequence[str], since: float, until: float) -> list[WorkerRuns]:
        self._server.trouble("before worker_runs")
        return [runs_of(self._server, one, since, until) for one in workers]

    def lost_runs(self) -> list[LostRun]:
        self._server.trouble("before lost_runs")
        return lost_runs_of(self._server)

    def abandoned(self, worker: str, since: float) -> list[Abandoned]:
        self._server.trouble("before abandoned")
        return abandoned_by(self._server, worker, since)

    def _cells(self) -> Iterator[tuple[str, int, name_statistics.Cell]]:
        """Name, minute since the epoch, and what was counted in it."""
        for (name, minute, key), count in self._server.runs.items():
            yield name, minute, {key: count}
        for task in self._server.tasks.values():
            if (wait := task.wait()) is not None:
                name, started, seconds = wait
                yield name, started // 60_000_000, {WAIT + bucket_of(seconds): 1}

    def now(self) -> float:
        return self._server.clock.time()
