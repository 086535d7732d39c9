"""Asks the workers and the result backend about candidates, in a thread, since they answer slowly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ha_monitor.backend.results import Stored, Unreadable
from ha_monitor.broker.task_query import WorkerAnswers
from ha_monitor.clock import Clock
from ha_monitor.errors import BrokerBlocked, HaMonitorError, class_and_reason
from ha_monitor.pipeline.evaluation import Evaluation, evaluate
from ha_monitor.store.results import Candidate, Candidates
from ha_monitor.threads import OneCall, Threads, ThreadUnavailable

AskWorkers = Callable[[Sequence[str], Sequence[str]], WorkerAnswers]
"""Called with task ids, and the workers to ask for their settings."""
AskBackend = Callable[[Sequence[str]], Mapping[str, Stored]]


MAX_WORKERS_ASKED = 20
"""Maximum workers that one query asks for their settings: each answers with all the tasks that it knows."""
MAX_NAMES = 10_000
"""Maximum task names whose acknowledgement setting is kept: as many as have a baseline of their run time."""


class Findings(NamedTuple):
    """The result of one query."""

    answered_at: int
    """When the query was answered, in the time of `Candidates.at`."""
    answered: float
    """The same time by the monotonic clock."""
    evaluations: list[tuple[Candidate, Evaluation]]
    problem: str | None
    """Why the query failed; None if it did not fail."""
    unreadable: list[str]
    """Ids of the tasks whose results cannot be read, so that their ends are unknown."""


class Investigator:
    """Runs one query at a time. `ask` and `take` never block."""

    def __init__(self, workers: AskWorkers, backend: AskBackend | None, clock: Clock, threads: Threads) -> None:
        """
        :param workers: asks the workers. :param backend: asks the result backend; None if there is none.
        Both may raise `HaMonitorError`.
        """
        self._workers = workers
        self._backend = backend
        self._clock = clock
        self._call: OneCall[Findings] = OneCall(threads.calls("investigator"))
        self._acks_late: dict[str, bool] = {}
        """Task name → what workers said earlier: the worker that could say it now may be the lost one."""

    @property
    def busy(self) -> bool:
        """Whether a query is in progress, or its result was not taken yet."""
        return self._call.busy

    @property
    def is_running(self) -> bool:
        """Whether a query is in progress."""
        return self._call.is_running

    def ask(self, candidates: Candidates) -> None:
        """Start a query about tasks. Allowed only while it is not busy."""
        began = self._clock.monotonic()
        self._call.begin(lambda: self._investigate(candidates, began))

    def take(self) -> Findings | None:
        """The result, once it is available."""
        try:
            return self._call.take()
        except ThreadUnavailable as error:
            return Findings(0, self._clock.monotonic(), [], str(error), [])

    def _investigate(self, candidates: Candidates, began: float) -> Findings:
        unreadable: list[str] = []
        try:
            answers = self._workers([one.task_id for one in candidates.tasks], _workers_to_ask(candidates))
            self._learn(answers.acks_late)
            results = None
            if self._backend is not None:
                asked = [one.task_id for one in candidates.tasks if one.task_id not in answers.held]
                results = self._backend(asked)
                unreadable = [task_id for task_id, found in results.items() if isinstance(found, Unreadable)]
            evaluations = [
                (one, evaluate(one, answers, results, self._acks_late.get(one.name))) for one in candidates.tasks
            ]
            problem = None
        except BrokerBlocked:
            evaluations, problem = [], None  # `broker/control.py` reports the alarm
        except HaMonitorError as error:
            evaluations, problem = [], str(error)
        except Exception as error:  # unexpected, from a library: the loop waits for a result
            evaluations, problem = [], class_and_reason(error)
        answered = self._clock.monotonic()
        at = candidates.at + int((answered - began) * 1000) + 1
        return Findings(at, answered, evaluations, problem, unreadable)

    def _learn(self, acks_late: Mapping[str, bool]) -> None:
        if len(self._acks_late) > MAX_NAMES:
            self._acks_late = {}
        self._acks_late.update(acks_late)


def _workers_to_ask(candidates: Candidates) -> list[str]:
    """The workers to ask how tasks are acknowledged: the candidates' own workers first."""
    own = (one.worker for one in candidates.tasks if one.worker)
    return list(dict.fromkeys([*own, *candidates.workers]))[:MAX_WORKERS_ASKED]
