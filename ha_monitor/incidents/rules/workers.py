"""Workers that are lost."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts, LostTasks
from ha_monitor.incidents.sighting import Sighting, command_of, count_of
from ha_monitor.text.patterns import quoted
from ha_monitor.text.visible import visible


def worker_lost(facts: Facts) -> Iterator[Sighting]:
    """One sighting per worker; `lost_workers.py` merges those of workers that were lost within a minute."""
    for worker in facts.workers:
        if worker.state == "lost" and worker.is_confirmed:
            had = facts.lost_tasks.get(worker.name, LostTasks())
            yield Sighting(
                "worker-lost",
                worker.name,
                f"{visible(worker.name)} is lost{outcome_text(had)}",
                since=worker.heard,
                facts=tasks_as_facts(had),
                command=command_of("workers", quoted(worker.name)),
                workers=frozenset([worker.name]),
                members=(worker.name,),
                tasks=had.ids,
            )


def tasks_as_facts(had: LostTasks) -> dict[str, str | int | float | None]:
    """What became of the tasks of lost workers, for programs."""
    return {
        "tasks": len(had.ids) + had.more,
        "incomplete": int(had.is_partial),
        "run_again": had.again,
        "ended": had.ended,
        "orphaned": had.orphaned,
        "undecided": had.asked,
    }


def outcome_text(had: LostTasks) -> str:
    """The same in words, to follow the name of who is lost."""
    if not had.ids:
        return "; not all open tasks were searched for its tasks" if had.is_partial else "; it had no known task"
    parts = [
        f"{number:,} {word}"
        for number, word in (
            (had.orphaned, "orphaned"),
            (had.asked, "being asked about"),
            (had.again, "run again"),
            (had.ended, "ended"),
        )
        if number
    ]
    least = "at least " if had.is_partial else ""
    followed = f", of which {len(had.ids):,} are followed" if had.more else ""
    return f" with {least}{count_of(len(had.ids) + had.more, 'task')}{followed}: {', '.join(parts)}"
