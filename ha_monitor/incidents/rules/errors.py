"""Error groups that are new, and those that have recurred."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.catalogue import DAY
from ha_monitor.incidents.changes import new_since
from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of, count_of
from ha_monitor.store.error_groups import ErrorGroup, GroupState
from ha_monitor.text.visible import visible


def error_new(facts: Facts) -> Iterator[Sighting]:
    """A group is new for a day; the incident lasts as long as its errors keep coming."""
    for group in facts.errors:
        is_known = group.state is GroupState.KNOWN and facts.is_open("error-new", group.id)
        if (group.state is GroupState.NEW or is_known) and facts.now - group.last < DAY:
            yield _sighting("error-new", "new error", group, facts)


def error_regressed(facts: Facts) -> Iterator[Sighting]:
    """An error of a group that a person had marked as resolved."""
    for group in facts.errors:
        if group.state is GroupState.REGRESSED and facts.now - group.last < DAY:
            yield _sighting("error-regressed", "error that was resolved is back", group, facts)


def _sighting(kind: str, what: str, group: ErrorGroup, facts: Facts) -> Sighting:
    change = new_since(facts.marks, facts.workers, group.first) if kind == "error-new" else None
    since = "" if change is None else f", new since {visible(change.name)}"
    mark = None if change is None else change.mark
    failures = count_of(group.failures, "failure")
    retries = f" and {count_of(group.retries, 'retry', 'retries')}" if group.retries else ""
    return Sighting(
        kind,
        group.id,
        f"{what} in {visible(group.name)}: {visible(group.error_class)} at {visible(group.place)}, "
        f"{failures}{retries}{since}",
        size=max(1, group.failures + group.retries),
        since=group.first if kind == "error-new" else None,
        facts={
            "name": group.name,
            "error_class": group.error_class,
            "place": group.place,
            "failures": group.failures,
            "retries": group.retries,
            "new_since": None if mark is None else mark.label,
            "deployed": None if mark is None else mark.at,
        },
        command=command_of("errors", group.id),
        tasks=tuple(task.task_id for task in group.tasks[:5]),
    )
