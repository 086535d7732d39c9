"""Open tasks that make no progress, as the leader finds and confirms them in the shared record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ha_monitor.config.schema import StuckSettings, TaskLimits
from ha_monitor.store.outbox import OutboxItem, read_items
from ha_monitor.store.results import Candidate, Candidates, Confirmation, FinishedTask, OrphanedTask, StuckTask
from ha_monitor.store.store import RedisStore

MIN_RUN_TIME = 300.0
"""Seconds that a run may take at least with `run_time_factor`, however short its baseline run time is."""
MAX_RECORDS = 1000
"""Records that one round looks at, so that many open tasks cannot block Redis for long."""
MAX_CANDIDATES = 100
"""Tasks that one round asks about, so that neither the question nor the answers are long."""
MAX_ABSENCE = 120.0
"""Seconds for which a vanished instance may come back with events that no other received, on a broker that does not
redeliver: it may be alive, but without a store."""
MAX_WORKERS = 20
"""Workers that one round returns."""

KINDS: dict[type[Confirmation], str] = {StuckTask: "stuck", OrphanedTask: "orphaned", FinishedTask: "finished"}


class RedisOpenTasks:
    """The part of the shared record about tasks that make no progress."""

    def __init__(self, store: RedisStore, settings: StuckSettings, max_absence: float = 0.0) -> None:
        """:param max_absence: `MAX_ABSENCE`, or 0 if the broker redelivers the messages of an instance that
        vanished."""
        self._store = store
        self._max_absence = _milliseconds(max_absence)
        self._limits = limits_of(settings)

    def candidates(self) -> Candidates | None:
        """The tasks to ask about; None if this instance does not lead."""
        options = {
            "limits": self._limits,
            "most_records": MAX_RECORDS,
            "most_found": MAX_CANDIDATES,
            "most_workers": MAX_WORKERS,
        }
        reply = self._store.run("candidates", options)
        if reply is None:
            return None
        at, rows, more, workers = reply
        names = [name.decode("utf-8", "replace") for name in workers]
        return Candidates(at, [_candidate(row) for row in rows], bool(more), names)

    def confirm(
        self, required_watermark: int, confirmations: Sequence[tuple[Candidate, Confirmation]]
    ) -> list[OutboxItem] | None:
        """Announce or reconcile tasks that are still as they were found; None if it is too early for that.

        :param required_watermark: when the questions were answered and the queue of events was empty, in the same unit
            as `Candidates.at`: all instances must have merged what they had received by then.
        """
        rows = [_row(candidate, confirmation) for candidate, confirmation in confirmations]
        items: list[OutboxItem] = []
        while True:
            options = {
                "absent": self._max_absence,
                "limits": self._limits,
                "required_watermark": required_watermark,
                "confirmations": rows,
            }
            reply = self._store.run("confirm", options)
            if reply is None:
                return items
            first, raw, confirmed = reply
            if confirmed < 0:
                # The rest is found again later: an instance has vanished since, so it is too early again.
                return items or None
            items += read_items(first, raw)
            rows = rows[confirmed:]
            if not rows or self._store.is_far:
                return items  # the rest is found again later


def _row(candidate: Candidate, confirmation: Confirmation) -> dict[str, Any]:
    found = {"task_id": candidate.task_id, "phase": candidate.phase, "since": candidate.since}
    return {**found, "kind": KINDS[type(confirmation)], **confirmation._asdict()}


def _candidate(row: list[Any]) -> Candidate:
    task_id, phase, since = row[:3]
    name, queue, worker, state = (text.decode("utf-8", "replace") for text in row[3:7])
    is_known = len(row) == 7
    return Candidate(task_id.decode("utf-8", "replace"), phase.decode(), since, name, queue, worker, state, is_known)


def limits_of(settings: StuckSettings) -> dict[str, Any]:
    """The limits as `limits.lua` reads them."""
    return {
        **_by_phase(settings),
        "run_time_factor": settings.run_time_factor,
        "least_run_time": _milliseconds(MIN_RUN_TIME),
        "tasks": [{"pattern": lua_pattern(pattern), **_by_phase(limits)} for pattern, limits in settings.tasks.items()],
    }


def first_look(settings: StuckSettings) -> float | None:
    """The earliest time after which a task may be stuck, in seconds; None if nothing is checked."""
    if not settings.enabled:
        return None
    limits = [settings.sent_after, settings.received_after, settings.started_after]
    if settings.run_time_factor:
        limits.append(MIN_RUN_TIME)
    for own in settings.tasks.values():
        limits += [limit for limit in (own.sent_after, own.received_after, own.started_after) if limit is not None]
    # Even without any limit, a task is checked when its worker is lost.
    return min((limit for limit in limits if limit), default=86400.0)


def lua_pattern(pattern: str) -> str:
    """A pattern in which `*` stands for any text, as a Lua pattern."""
    return "^" + re.sub(r"[^\w*]", lambda found: "%" + found[0], pattern).replace("*", ".*") + "$"


def _by_phase(limits: StuckSettings | TaskLimits) -> dict[str, int]:
    """The limits that are set, in ms."""
    of: dict[str, float | None] = {
        "sent": limits.sent_after,
        "received": limits.received_after,
        "started": limits.started_after,
    }
    return {phase: _milliseconds(limit) for phase, limit in of.items() if limit is not None}


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
