"""Asks Redis about workers: see `queries.WorkerQueries`."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.worker_runs import (
    KEPT,
    Abandoned,
    LostRun,
    WorkerRuns,
    abandoned_by,
    lost_run,
    minutes_in,
    runs_from,
)

AT_ONCE = 1000
"""Entries, or workers, that one call reads."""


class RedisWorkerQueries:
    """A part of `RedisQueries`."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        self._connection = connection
        self._call = connection.call
        self._keys = keys

    def worker_runs(self, workers: Sequence[str], since: float, until: float) -> list[WorkerRuns]:
        now = self.now()
        minutes = minutes_in(max(since, now - KEPT), min(until, now + 60))
        found: list[WorkerRuns] = []
        for first in range(0, len(workers), AT_ONCE):
            some = workers[first : first + AT_ONCE]
            for ten in minutes:
                self._connection.send("HMGET", self._keys.worker_runs_of(ten), *some)
            rows = [self._connection.receive() for _ in minutes]
            found += [runs_from(zip(row, minutes.values(), strict=True)) for row in zip(*rows, strict=True)]
        return found if minutes else [WorkerRuns(0, 0) for _ in workers]

    def abandoned(self, worker: str, since: float) -> list[Abandoned]:
        ids: list[str] = []
        first, earliest = 0, int(max(since, 0.0) * 1000)
        while True:
            limit = ("LIMIT", first, AT_ONCE)
            some = self._call("ZREVRANGEBYSCORE", self._keys.abandoned, "+inf", earliest, *limit)
            ids += [task_id for member in some if (task_id := abandoned_by(worker, member)) is not None]
            first += len(some)
            if len(some) < AT_ONCE:
                break
        found: list[Abandoned] = []
        for first in range(0, len(ids), AT_ONCE):
            some_ids = ids[first : first + AT_ONCE]
            said = self._call("HMGET", self._keys.orphaned, *some_ids)
            found += [Abandoned(one, known is not None) for one, known in zip(some_ids, said, strict=True)]
        return found

    def lost_runs(self) -> list[LostRun]:
        members = self._call("ZRANGE", self._keys.lost_runs, 0, -1)
        return [run for member in members if (run := lost_run(member)) is not None]

    def now(self) -> float:
        seconds, microseconds = self._call("TIME")
        return int(seconds) + int(microseconds) / 1e6
