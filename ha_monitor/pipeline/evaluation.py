"""Evaluates the answers of the workers and the result backend about a candidate for stuck or orphaned."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.backend.results import Result, Stored, Unreadable
from ha_monitor.broker.task_query import WorkerAnswers
from ha_monitor.store.results import Candidate, OrphanedTask, StuckTask

BY_WORKER, BY_WORKERS, BY_LOSS, BY_BACKEND = "worker", "workers", "worker-lost", "result-backend"
"""Confirmations: a worker has the task; no worker that answered lists it; its worker is lost; the result backend has no
result."""
MAX_CLOCK_DIFFERENCE = 60.0
"""Seconds by which the clocks of two workers may differ."""
Evaluation = StuckTask | OrphanedTask | Result | None


def evaluate(
    candidate: Candidate,
    answers: WorkerAnswers,
    results: Mapping[str, Stored] | None,
    acks_late: bool | None,
) -> Evaluation:
    """What is confirmed about the task: stuck or orphaned, or its result if it has ended; None if nothing is certain.

    :param results: the result backend's answers about the tasks that no worker has; None without a result backend.
    :param acks_late: whether tasks of this name are acknowledged when they end rather than when they start; None if no
        worker said.
    """
    held = answers.held.get(candidate.task_id)
    if held is not None:
        return StuckTask("started" if held.runs else "received", [BY_WORKER], len(answers.answered))
    if results is None:
        return _without_result(candidate, answers, [], acks_late)
    # The task may have a result that cannot be read, or was not read.
    result = results.get(candidate.task_id, Unreadable())
    if isinstance(result, Unreadable):
        return None
    if result is not None and _is_of_this_run(candidate, result):
        return result
    return _without_result(candidate, answers, [BY_BACKEND], acks_late)


def _is_of_this_run(candidate: Candidate, result: Result) -> bool:
    # Some applications reuse task ids: the result of an earlier task may still be there.
    return result.time is None or result.time > candidate.since / 1e6 - MAX_CLOCK_DIFFERENCE


def _without_result(
    candidate: Candidate,
    answers: WorkerAnswers,
    confirmed_by: list[str],
    acks_late: bool | None,
) -> StuckTask | OrphanedTask | None:
    answered = len(answers.answered)
    if not candidate.is_known:
        # The workers and the backend know the task by another id, so nothing follows from what they do not report.
        is_lost = candidate.worker_state == "lost"
        return OrphanedTask(True, [BY_LOSS], answered) if is_lost else StuckTask(candidate.phase, [], answered)
    if answered:
        confirmed_by = [BY_WORKERS, *confirmed_by]
    if candidate.phase == "sent":
        return StuckTask("sent", confirmed_by, answered)
    lost = candidate.worker_state == "lost"
    if lost:
        confirmed_by = [BY_LOSS, *confirmed_by]
    elif candidate.worker not in answers.answered and candidate.worker_state not in ("offline", "gone"):
        return None  # the worker is online, and has not answered
    # A started task has no message left only if it is acknowledged at its start. In all other cases, a worker holds the
    # message (workers do not list tasks that wait for a rate limit), or the message is requeued.
    if candidate.phase == "started" and acks_late is False:
        return OrphanedTask(lost, confirmed_by, answered)
    return StuckTask(candidate.phase, confirmed_by, answered)
