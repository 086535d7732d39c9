"""Groups of errors: each error is kept, and groups are computed on request. No bounds except for what is shown."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from ha_monitor.events.catalogue import Code
from ha_monitor.store.error_groups import HOURS, MAX_TASKS, ErrorGroup, GroupFacts, group_from
from ha_monitor.store.memory.server import MemoryServer

HOUR = 3_600_000_000


def ids_in(server: MemoryServer) -> list[str]:
    """The ids of the groups, the one seen last coming first."""
    by_last = {one: max(error.at for error in group.errors) // 1000 for one, group in server.errors.groups.items()}
    return sorted(by_last, key=lambda one: (by_last[one], one), reverse=True)


def group_in(server: MemoryServer, group_id: str) -> ErrorGroup | None:
    """A group; None if there is none."""
    group = server.errors.groups.get(group_id)
    if group is None:
        return None
    errors = group.errors
    newest = max(errors, key=lambda error: (error.at, error.message))
    last = max(error.at for error in errors)
    failures = [error for error in errors if error.code == Code.FAILED]
    hours = Counter(error.at // HOUR for error in failures)
    tasks: dict[str, int] = {}
    for error in errors:
        tasks[error.task_id] = max(error.at, tasks.get(error.task_id, 0))
    traces = [(error.at, error.traceback) for error in errors if error.traceback is not None]
    facts = GroupFacts(
        name=group.name,
        error_class=newest.error[1],
        place=newest.error[2],
        first=min(error.at for error in errors),
        last=last,
        failures=len(failures),
        retries=len(errors) - len(failures),
        hours={hour: count for hour, count in hours.items() if hour > last // HOUR - HOURS},
        tasks=sorted(tasks.items(), key=lambda task: (task[1], task[0]), reverse=True)[:MAX_TASKS],
        message=newest.message,
        resolved=group.resolved,
        ignored=group.ignored,
    )
    text = max(traces, default=(0, ""))[1] or ""
    return group_from(group_id, facts, text, now=server.clock.time(), since=server.errors.since or 0.0)


class MemoryErrorMarks:
    """See `error_groups.ErrorMarks`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def resolve(self, group_id: str) -> bool:
        return self._mark(group_id, resolved=int(self._server.clock.time() * 1000), ignored=None)

    def ignore(self, group_id: str, seconds: float) -> bool:
        return self._mark(group_id, ignored=int((self._server.clock.time() + seconds) * 1000))

    def reopen(self, group_id: str) -> bool:
        return self._mark(group_id, resolved=None, ignored=None)

    def _mark(self, group_id: str, **said: int | None) -> bool:
        group = self._server.errors.groups.get(group_id)
        if group is None:
            return False
        self._server.errors.groups[group_id] = replace(group, **said)
        return True
