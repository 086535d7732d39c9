"""Workers that are lost within a minute are one incident, because that is one fault and should be one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ha_monitor.incidents.catalogue import FLAP_WINDOW, JOIN_WINDOW
from ha_monitor.incidents.facts import LostTasks
from ha_monitor.incidents.rules.workers import outcome_text, tasks_as_facts
from ha_monitor.incidents.sighting import Sighting, command_of, names_of
from ha_monitor.store.incidents import Incident

KIND = "worker-lost"
MAX_MEMBERS = 1000
MAX_TASKS = 200
"""Tasks that are followed. Further tasks are only counted."""


def merge_lost_workers(sightings: Sequence[Sighting], kept: Sequence[Incident], now: float) -> list[Sighting]:
    """The sightings, with those of lost workers merged into one per incident.

    A worker stays in the incident that it is a member of. A newly lost worker joins the incident that began within the
    last minute, or begins a new one with the other newly lost workers.
    """
    open_ones = [one for one in kept if one.kind == KIND and one.is_open]
    home = {name: one.key for one in open_ones for name in one.members}
    recent = max(
        (one for one in open_ones if 0 <= now - one.born < JOIN_WINDOW and len(one.members) < MAX_MEMBERS),
        key=lambda one: one.born,
        default=None,
    )
    groups: dict[str, list[Sighting]] = {}
    others, new = [], []
    for sighting in sightings:
        if sighting.kind != KIND:
            others.append(sighting)
        elif sighting.key in home:
            groups.setdefault(home[sighting.key], []).append(sighting)
        else:
            new.append(sighting)
    if new:
        # A worker that was back for a moment takes the key of the incident that was just resolved, and so its id.
        over = {name: one.key for one in kept if _is_recently_resolved(one, now) for name in one.members}
        first = next((over[one.key] for one in new if one.key in over), min(one.key for one in new))
        groups.setdefault(first if recent is None else recent.key, []).extend(new)
    members = {one.key: one.members for one in open_ones}
    return others + [_merged(key, found, members.get(key, ())) for key, found in groups.items()]


def _is_recently_resolved(one: Incident, now: float) -> bool:
    return one.kind == KIND and not one.is_open and now - one.changed < FLAP_WINDOW


def _merged(key: str, found: Sequence[Sighting], before: tuple[str, ...]) -> Sighting:
    """:param before: the members until now; some may be back."""
    names = sorted(one.key for one in found)
    members = tuple(dict.fromkeys([*before, *names]))[:MAX_MEMBERS]
    if len(found) == 1 and len(members) == 1:
        return found[0]._replace(key=key, members=members)
    sums: Counter[str] = Counter()
    for one in found:
        sums.update({name: value for name, value in one.facts.items() if isinstance(value, int)})
    ids = tuple(task_id for one in found for task_id in one.tasks)
    had = LostTasks(
        ids,
        any(one.facts.get("incomplete") for one in found),
        sums["run_again"],
        sums["ended"],
        sums["orphaned"],
        sums["undecided"],
        sums["tasks"] - len(ids),
    )
    back = len(members) - len(names)
    of = f" of {len(members)}" if back > 0 else ""
    are = "is" if len(names) == 1 else "are"
    return Sighting(
        KIND,
        key,
        f"{len(names):,}{of} workers {are} lost, {names_of(names)}{outcome_text(had)}",
        size=len(names),
        since=min((one.since for one in found if one.since is not None), default=None),
        facts={**tasks_as_facts(had), "workers": len(members), "back": max(0, back)},
        command=command_of("workers"),
        workers=frozenset(names),
        members=members,
        tasks=ids[:MAX_TASKS],
    )
