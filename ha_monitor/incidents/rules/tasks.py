"""Tasks that make no progress, and tasks that nobody has any longer, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ha_monitor.incidents.facts import Facts, NamedTasks
from ha_monitor.incidents.sighting import Sighting, command_of, count_of, names_of
from ha_monitor.store.queries import KeptTask
from ha_monitor.text.patterns import quoted
from ha_monitor.text.visible import visible

MAX_IDS = 20
"""Task ids that an incident names."""


def task_stuck(facts: Facts) -> Iterator[Sighting]:
    """As confirmed by the leader."""
    yield from _sightings("task-stuck", "stuck", facts.stuck, facts)


def task_orphaned(facts: Facts) -> Iterator[Sighting]:
    """As confirmed by the leader."""
    what = "orphaned: no worker or queue has them any longer"
    yield from _sightings("task-orphaned", what, facts.orphaned, facts)


def poison_task(facts: Facts) -> Iterator[Sighting]:
    """A task that may be what kills its workers; the next worker gets it, too."""
    for one in facts.poison:
        count = len(one.tasks)
        ids = tuple(task.record.task_id for task in one.tasks[:MAX_IDS])
        which = f"task {visible(ids[0])}" if count == 1 else count_of(count, "task")
        its = "its worker" if count == 1 else "their workers"
        often = f"{one.losses} times" if count == 1 else f"up to {one.losses} times"
        yield Sighting(
            "poison-task",
            one.name,
            f"{which} of {visible(one.name)} lost {its} {often} while running: {names_of(one.workers)}",
            size=count,
            facts={
                "name": one.name,
                "task": ids[0],
                "losses": one.losses,
                "workers": ", ".join(one.workers[:MAX_IDS]),
            },
            command=_command_of(one.tasks),
            members=one.workers,
            tasks=ids,
        )


def _sightings(kind: str, what: str, found: Sequence[NamedTasks], facts: Facts) -> Iterator[Sighting]:
    least = "at least " if kind in facts.partial else ""
    for one in found:
        count = len(one.tasks)
        verb = f"is {what}".replace("them", "it") if count == 1 else f"are {what}"
        ids = tuple(task.record.task_id for task in one.tasks[:MAX_IDS])
        yield Sighting(
            kind,
            one.name,
            f"{least}{count_of(count, 'task')} of {visible(one.name)} {verb}",
            size=count,
            command=_command_of(one.tasks),
            workers=_workers_of(one),
            tasks=ids,
        )


def _command_of(tasks: Sequence[KeptTask]) -> str:
    first = tasks[0].record
    if len(tasks) == 1:
        return command_of("task", first.task_id)
    return command_of("tasks", f"name={quoted(first.name or '')}", "state=open")


def _workers_of(found: NamedTasks) -> frozenset[str]:
    workers = {task.record.worker for task in found.tasks}
    return frozenset() if None in workers else frozenset(worker for worker in workers if worker)
