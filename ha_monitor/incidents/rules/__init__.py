"""The rules: from facts to what is seen now, each a function of its arguments."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.rules import errors, losses, monitor, names, queues, tasks, workers
from ha_monitor.incidents.sighting import Sighting

RULES = (
    *(workers.worker_lost, queues.queue_late, queues.no_consumer, errors.error_new, errors.error_regressed),
    *(names.failing, names.retry_storm, tasks.task_stuck, tasks.task_orphaned, losses.events_lost),
    *(monitor.monitor, monitor.store_went_back),
)


class Seen(NamedTuple):
    """What all rules see."""

    sightings: list[Sighting]
    judged: frozenset[str]
    """Kinds of which this is all there is: others neither begin nor end."""


def see(facts: Facts) -> Seen:
    """Judge the facts by all rules."""
    unknown = set()
    if not facts.all_workers:
        unknown.add("worker-lost")
    if facts.survey is None:
        unknown.add("no-consumer")
    judged = {kind.name for kind in CATALOGUE if kind.always or facts.are_events_merged} - unknown
    return Seen([found for rule in RULES for found in rule(facts)], frozenset(judged))
