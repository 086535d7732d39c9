"""Tasks that do not go on, and those that nobody has any more, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ha_monitor.incidents.facts import Facts, NamedTasks
from ha_monitor.incidents.sighting import Sighting, command_of, count_of
from ha_monitor.text.visible import visible

MOST_IDS = 20
"""Of tasks that an incident names."""


def task_stuck(facts: Facts) -> Iterator[Sighting]:
    """As the leader has confirmed."""
    yield from _sightings("task-stuck", "stuck", facts.stuck)


def task_orphaned(facts: Facts) -> Iterator[Sighting]:
    """As the leader has confirmed."""
    yield from _sightings("task-orphaned", "orphaned: nobody has them any more", facts.orphaned)


def _sightings(kind: str, what: str, found: Sequence[NamedTasks]) -> Iterator[Sighting]:
    for one in found:
        count = len(one.tasks)
        verb = f"is {what}".replace("them", "it") if count == 1 else f"are {what}"
        ids = tuple(task.record.task_id for task in one.tasks[:MOST_IDS])
        yield Sighting(
            kind,
            one.name,
            f"{count_of(count, 'task')} of {visible(one.name)} {verb}",
            size=count,
            command=command_of("task", ids[0]) if count == 1 else command_of("tasks", f"name={one.name}", "state=open"),
            workers=_workers_of(one),
            tasks=ids,
        )


def _workers_of(found: NamedTasks) -> frozenset[str]:
    workers = {task.record.worker for task in found.tasks}
    return frozenset() if None in workers else frozenset(worker for worker in workers if worker)
