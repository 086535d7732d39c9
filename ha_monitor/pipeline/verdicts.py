"""What to make of a task that goes no further, given what workers and result backend say of it."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.backend.results import Result
from ha_monitor.broker.whereabouts import Whereabouts
from ha_monitor.store.results import Orphaned, Stuck, Suspect

BY_WORKER, BY_WORKERS, BY_LOSS, BY_BACKEND = "worker", "workers", "worker-lost", "result-backend"
"""What confirmed it: a worker has the task; none that answered has it; its worker is lost; there is no result."""
CLOCKS_APART = 60.0
"""Seconds by which the clocks of two workers may differ."""
Opinion = Stuck | Orphaned | Result | None


def opinion_of(suspect: Suspect, whereabouts: Whereabouts, results: Mapping[str, Result | None] | None) -> Opinion:
    """The verdict, the result if the task has ended, or None if nothing is certain.

    :param results: what the result backend says of the tasks that no worker has; None if there is none to ask.
    """
    held = whereabouts.held.get(suspect.task_id)
    if held is not None:
        return Stuck("started" if held.runs else "received", [BY_WORKER], len(whereabouts.answered))
    if results is None:
        return _without_result(suspect, whereabouts, [])
    if suspect.task_id not in results:
        return None  # there may be a result that cannot be read
    result = results[suspect.task_id]
    if result is not None and _is_of_this_run(suspect, result):
        return result
    return _without_result(suspect, whereabouts, [BY_BACKEND])


def _is_of_this_run(suspect: Suspect, result: Result) -> bool:
    # Some give their tasks the same id again and again: the result of the last time may still be there.
    return result.time is None or result.time > suspect.since / 1e6 - CLOCKS_APART


def _without_result(suspect: Suspect, whereabouts: Whereabouts, confirmed_by: list[str]) -> Stuck | Orphaned | None:
    answered = len(whereabouts.answered)
    if answered:
        confirmed_by = [BY_WORKERS, *confirmed_by]
    if suspect.phase == "sent":
        return Stuck("sent", confirmed_by, answered)
    if suspect.worker_state == "lost":
        return Orphaned(True, [BY_LOSS, *confirmed_by], answered)
    if suspect.worker in whereabouts.answered or suspect.worker_state in ("offline", "gone"):
        return Orphaned(False, confirmed_by, answered)
    return None  # the worker is there, and has not answered
