"""The merge of a batch, like `lua/apply.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from ha_monitor.errors import LeaseLost
from ha_monitor.events.catalogue import Code
from ha_monitor.events.decode import Batch
from ha_monitor.events.facts import Fact
from ha_monitor.store.memory.server import MemoryInstance, MemoryServer
from ha_monitor.store.memory.task import MemoryTask, read_event
from ha_monitor.store.memory.worker_runs import TAKES_A_TASK, note_of_workers
from ha_monitor.store.outbox import Entry
from ha_monitor.store.packing import bytes_of
from ha_monitor.store.record import Facts
from ha_monitor.store.results import Applied


class Sent(Struct):
    """A batch that was sent."""

    batch: Batch
    announced: int
    """How far the outbox was announced when it was sent, and how many calls were confirmed."""
    calls: int
    reply: tuple[Sequence[int | list[int]], Applied] | LeaseLost | None = None
    """The argument for `RollbackMemory.confirmed`, and the reply itself; None if it is not merged yet."""


def merge_batch(server: MemoryServer, own: MemoryInstance, batch: Batch, calls: int, name_wait: float) -> Applied:
    """Computes first, then writes: if it raises, nothing has changed.

    :param own: the instance that sent it.
    :param calls: how many of its calls had been confirmed when it was sent.
    :param name_wait: seconds for which an announcement with missing facts waits at least.
    """
    if own.left_by > calls:
        return Applied([], 0, 0, 0, merged=-1)
    now = server.clock.time()
    is_left = server.most_tasks is not None and len(batch.tasks) > server.most_tasks
    tasks: dict[str, MemoryTask] = {}
    entries: list[Entry] = []
    others: set[bytes] = set()
    heard: list[tuple[str, Facts | None, Fact]] = []
    new, repeated, names_heard = 0, 0, server.names_heard
    for task_id, facts in islice(batch.tasks.items(), server.most_tasks):
        task = tasks[task_id] = server.tasks[task_id].at(now) if task_id in server.tasks else MemoryTask()
        news = _merge_facts(task, facts, now)
        merged = len(news)
        heard += [(task_id, before, fact) for before, fact in news]
        if not task.named and task.facts.name is not None:
            names_heard += 1
            task.named = names_heard
        new, repeated = new + merged, repeated + len(facts) - merged
        entries += task.announce(name_wait, now)
    apart = [(fact[1], fact[4]) for fact in batch.workers] + [(fact[0], fact[1]) for fact in batch.others]
    for raw_id, payload in () if is_left else apart:
        identity = bytes_of(raw_id)
        if identity in server.others or identity in others:
            repeated += 1
            continue
        others.add(identity)
        new += 1
        if payload is not None:
            entries.append(Entry(0, read_event(bytes_of(payload)), None, False))
    server.tasks.update(tasks)
    server.awaiting |= {one: None for one, task in tasks.items() if task.announce_until is not None}
    for task_id, task in tasks.items():
        server.group_errors(task_id, task)
        server.count_runs(task)
    note_of_workers(server, heard)
    server.names_heard = names_heard
    server.others |= others
    own.left_by = own.calls if is_left else own.left_by
    if not is_left:
        server.workers.update({fact[0]: (now, fact[3]) for fact in batch.workers})
        _note_who_came(server.came, batch.workers)
    for fact in (fact for task_id in tasks for fact in batch.tasks[task_id]):
        if fact[1] not in (Code.SENT, Code.OTHER) and fact[3]:
            server.workers[fact[3]] = (now, server.workers.get(fact[3], (now, ""))[1])
    for task_id, (_, *stay) in list(server.found.items()):
        if task_id in tasks and tasks[task_id].phase() != tuple(stay):
            del server.found[task_id]
    waiting = len(server.waiting_tasks())
    return Applied(server.put(own, server.without_announced(entries)), new, repeated, waiting, merged=len(tasks))


def _note_who_came(came: dict[str, float], facts: Sequence[Fact]) -> None:
    """Notes since when workers are up, as they report it; those that sent worker-offline are not."""
    for fact in facts:
        if fact[3] == "worker-online":
            came[fact[0]] = fact[2] / 1e6
        elif fact[3] == "worker-offline":
            came.pop(fact[0], None)


def _merge_facts(task: MemoryTask, facts: Sequence[Fact], now: float) -> list[tuple[Facts | None, Fact]]:
    """The new facts, each after what was known before it, as `note_of_workers` takes them."""
    found = []
    for fact in facts:
        before = task.facts if fact[1] in TAKES_A_TASK else None
        if task.merge(fact, now):
            found.append((before, fact))
    return found
