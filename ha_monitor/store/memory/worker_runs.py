"""Runs that ended on workers, and tasks that they left, as in `lua/worker_runs.lua` and `lua/index/abandoned.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ha_monitor.events.catalogue import Code
from ha_monitor.events.facts import Fact
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.record import Facts
from ha_monitor.store.worker_runs import KEPT, Abandoned, LostRun, WorkerRuns

CONFIRMED_WITHIN, HEARD_AFTER = 600.0, 10.0
"""Seconds, as in `lua/index/abandoned.lua`."""
TAKES_A_TASK = (Code.RECEIVED, Code.STARTED)
_ENDS_A_RUN = (Code.SUCCEEDED, Code.FAILED, Code.RETRIED)


def note_of_workers(server: MemoryServer, heard: Sequence[tuple[str, Facts | None, Fact]]) -> None:
    """Note what new, merged facts say about workers.

    :param heard: ids of tasks, what was known of each before (None unless the fact is of `TAKES_A_TASK`), and the fact.
    """
    for task_id, before, fact in heard:
        _note(server, task_id, before, fact)


def _note(server: MemoryServer, task_id: str, before: Facts | None, fact: Fact) -> None:
    now = int(server.clock.time() * 1_000_000)
    code, at, worker = fact[1], fact[2], fact[3]
    if code in _ENDS_A_RUN and worker and not 0 < at < now - KEPT * 1_000_000:
        minute = (at if 0 < at <= now else now) // 60_000_000
        server.worker_runs[worker, minute, code == Code.FAILED] += 1
    if code not in TAKES_A_TASK or before is None or not before.worker or before.worker == worker:
        return
    closed = before.retried_count + before.requeued_count
    if at < max(before.received or 0, before.started or 0):
        server.abandoned.setdefault((worker, task_id), server.clock.time())
        if code == Code.STARTED:
            _taken(server, LostRun(task_id, worker, at))
    elif before.finish is None and max(before.received_count, before.started_count) > closed:
        server.abandoned.setdefault((before.worker, task_id), server.clock.time())
        if before.started_count > closed and (before.started or 0) >= (before.received or 0):
            _taken(server, LostRun(task_id, before.worker, before.started or 0))


def _taken(server: MemoryServer, run: LostRun) -> None:
    server.lost_runs.setdefault(run, (server.clock.time(), False))


def note_lost(server: MemoryServer) -> None:
    """Open tasks on lost workers may have been left by them."""
    for task_id, task in server.tasks.items():
        phase, worker = task.phase(), task.facts.worker
        if phase is not None and phase[0] != "sent" and worker in server.lost_workers:
            server.abandoned.setdefault((worker or "", task_id), server.clock.time())
            if phase[0] == "started":
                run = LostRun(task_id, worker or "", phase[1])
                server.lost_runs[run] = server.lost_runs.get(run, (server.clock.time(), True))[0], True
    for run, (at, _) in list(server.lost_runs.items()):
        heard = server.workers[run.worker][0] if run.worker in server.lost_workers else None
        if heard is not None and server.clock.time() - at <= CONFIRMED_WITHIN and at >= heard - HEARD_AFTER:
            server.lost_runs[run] = at, True


def runs_of(server: MemoryServer, worker: str, since: float, until: float) -> WorkerRuns:
    """What ended on a worker in a period."""
    found = [
        (failed, count)
        for (one, minute, failed), count in server.worker_runs.items()
        if one == worker and max(since, server.clock.time() - KEPT) // 60 <= minute < ceil(until / 60)
    ]
    return WorkerRuns(sum(count for _, count in found), sum(count for failed, count in found if failed))


def lost_runs_of(server: MemoryServer) -> list[LostRun]:
    """Runs during which their worker was lost."""
    return [run for run, (_, is_lost) in server.lost_runs.items() if is_lost]


def abandoned_by(server: MemoryServer, worker: str, since: float) -> list[Abandoned]:
    """What a worker may have left unfinished."""
    left = sorted(((at, one) for (name, one), at in server.abandoned.items() if name == worker), reverse=True)
    orphaned = {task_id for task_id, (kind, *_) in server.found.items() if kind == "task-orphaned"}
    return [Abandoned(task_id, task_id in orphaned) for at, task_id in left if at >= since]
