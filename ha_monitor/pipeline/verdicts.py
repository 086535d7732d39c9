"""Evaluates the answers of workers and result backend about a candidate."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.backend.results import Result
from ha_monitor.broker.task_query import WorkerAnswers
from ha_monitor.store.results import Orphaned, Stuck, Suspect

BY_WORKER, BY_WORKERS, BY_LOSS, BY_BACKEND = "worker", "workers", "worker-lost", "result-backend"
"""Confirmations: a worker has the task; none that answered lists it; its worker is lost; there is no result."""
CLOCKS_APART = 60.0
"""Seconds by which the clocks of two workers may differ."""
Opinion = Stuck | Orphaned | Result | None


def opinion_of(
    suspect: Suspect,
    answers: WorkerAnswers,
    results: Mapping[str, Result | None] | None,
    acks_late: bool | None,
) -> Opinion:
    """What is confirmed, the result if the task has ended, or None if nothing is certain.

    :param results: the result backend's answers about the tasks that no worker has; None without a result backend.
    :param acks_late: whether such tasks are acknowledged when they end, not when they start; None if nobody said.
    """
    held = answers.held.get(suspect.task_id)
    if held is not None:
        return Stuck("started" if held.runs else "received", [BY_WORKER], len(answers.answered))
    if results is None:
        return _without_result(suspect, answers, [], acks_late)
    if suspect.task_id not in results:
        return None  # there may be a result that cannot be read
    result = results[suspect.task_id]
    if result is not None and _is_of_this_run(suspect, result):
        return result
    return _without_result(suspect, answers, [BY_BACKEND], acks_late)


def _is_of_this_run(suspect: Suspect, result: Result) -> bool:
    # Some applications reuse task ids: the result of an earlier task may still be there.
    return result.time is None or result.time > suspect.since / 1e6 - CLOCKS_APART


def _without_result(
    suspect: Suspect,
    answers: WorkerAnswers,
    confirmed_by: list[str],
    acks_late: bool | None,
) -> Stuck | Orphaned | None:
    answered = len(answers.answered)
    if not suspect.is_known:
        # Workers and backend know it by another id: what they do not say proves nothing.
        is_lost = suspect.worker_state == "lost"
        return Orphaned(True, [BY_LOSS], answered) if is_lost else Stuck(suspect.phase, [], answered)
    if answered:
        confirmed_by = [BY_WORKERS, *confirmed_by]
    if suspect.phase == "sent":
        return Stuck("sent", confirmed_by, answered)
    lost = suspect.worker_state == "lost"
    if lost:
        confirmed_by = [BY_LOSS, *confirmed_by]
    elif suspect.worker not in answers.answered and suspect.worker_state not in ("offline", "gone"):
        return None  # the worker is there, and has not answered
    # Only the start of a task that is acknowledged then takes its message away. Any other message is with a worker
    # (which does not list what waits for a rate limit) or comes back into its queue.
    if suspect.phase == "started" and acks_late is False:
        return Orphaned(lost, confirmed_by, answered)
    return Stuck(suspect.phase, confirmed_by, answered)
