"""The rules: from facts to what is seen now. Each is a function of its arguments."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.incidents.changes import changes_before
from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.rules import errors, losses, monitor, names, queues, schedules, tasks, workers
from ha_monitor.incidents.sighting import Sighting
from ha_monitor.store.incidents import BEFORE

RULES = (
    *(workers.worker_lost, queues.queue_late, queues.no_consumer, errors.error_new, errors.error_regressed),
    *(names.failing, names.retry_storm, tasks.task_stuck, tasks.task_orphaned, tasks.poison_task),
    *(schedules.schedule_missed, schedules.schedule_doubled, schedules.beat_silent, schedules.schedule_failed),
    schedules.learned_missed,
    *(losses.events_lost, monitor.monitor, monitor.store_went_back, monitor.queue_shared),
)


OF_SCHEDULES = ("schedule-missed", "schedule-doubled", "beat-silent", "schedule-failed", "learned-missed")


class RuleResults(NamedTuple):
    """What all rules together see."""

    sightings: list[Sighting]
    judged: frozenset[str]
    """Kinds for which `sightings` is complete: incidents of other kinds neither begin nor end."""
    partial: frozenset[str] = frozenset()
    """Kinds of which not everything was looked at: incidents of them begin, but none ends because it is not seen."""


def apply_rules(facts: Facts) -> RuleResults:
    """Apply all rules to the facts."""
    unknown = set()
    if not facts.all_workers:
        unknown.add("worker-lost")
    if facts.survey is None:
        unknown.add("no-consumer")
    if facts.event_queue is None:
        unknown.add("queue-shared")
    if facts.schedules is None:
        unknown.update(OF_SCHEDULES)
    judged = {kind.name for kind in CATALOGUE if kind.always or facts.are_events_merged} - unknown
    found = [_with_changes(one, facts) for rule in RULES for one in rule(facts)]
    partial = facts.partial
    if facts.schedules is not None and not facts.schedules.is_whole:
        partial = partial.union(OF_SCHEDULES)
    return RuleResults(found, frozenset(judged), partial)


def _with_changes(sighting: Sighting, facts: Facts) -> Sighting:
    """Add in words what changed in the hour before it began: the last deployment, and a wave of worker starts."""
    since = sighting.since
    if since is None:
        return sighting
    said = [change.before(since) for change in changes_before(facts.marks, facts.workers, since)]
    return sighting._replace(facts={**sighting.facts, BEFORE: "; ".join(said)}) if said else sighting
