"""The leader's duty for stuck tasks: find candidates, confirm them, and announce or reconcile them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ha_monitor.backend.results import Result
from ha_monitor.clock import Clock
from ha_monitor.events.facts import Fact
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.investigator import Findings, Investigator
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import OpenTasks
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Candidate, Confirmation, FinishedTask

ROUND_EVERY = 5.0
"""Seconds between two searches for candidates."""
CONFIRM_TIMEOUT = 60.0
"""Seconds after which unconfirmed results are dropped; the tasks are then found again."""

SLOW_AFTER = 120.0
"""Seconds after which an unanswered query is logged: a library may wait forever."""
LEARN_EVERY = 300.0
"""Seconds between two questions for the settings of tasks while there are no candidates: the worker that could answer
may be the next one to be lost."""
REPORT_EVERY = 3600.0
"""Seconds between two lines about results that cannot be read: their tasks come up repeatedly."""
EMPTY_WITHIN = 15.0
"""Seconds for which the event queue counts as empty after a query found it empty; it is queried every few seconds."""


class Reconciler(Protocol):
    """Builds facts with the current settings."""

    def reconcile(self, event: dict[str, Any]) -> Fact:
        """The fact for an event that never arrived."""


class Pending(NamedTuple):
    """Results to confirm once no earlier event can be in flight."""

    findings: Findings
    confirmations: list[tuple[Candidate, Confirmation]]
    drop_at: float


class StuckTaskDuty:
    """Advances one step at each `run`, and never waits for workers or the result backend.

    A missing event may still be in the queue. So results wait until the queue was empty once after the answers, and
    until the watermark of every instance is later than that. No candidates are selected while the queue is not empty.
    """

    def __init__(
        self,
        tasks: OpenTasks,
        *,
        investigator: Investigator,
        reconciler: Reconciler,
        logger: Logger,
        clock: Clock,
    ) -> None:
        self._tasks = tasks
        self._investigator = investigator
        self._reconciler = reconciler
        self._logger = logger
        self._clock = clock
        self._round = Schedule(clock, ROUND_EVERY)
        self._answer = Schedule(clock, SLOW_AFTER)
        self._learn = Schedule(clock, LEARN_EVERY)
        self._empty_at = float("-inf")
        self._pending: Pending | None = None
        self._failing = False
        self._unreadable = Schedule(clock, REPORT_EVERY)

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is no shared queue.

        :param at: time by the monotonic clock.
        """
        self._empty_at = at

    def start_anew(self) -> None:
        self._round.hasten()
        self._learn.hasten()

    def run(self) -> list[OutboxItem]:
        now = self._clock.monotonic()
        if self._pending is not None:
            return self._confirm(self._pending, now)
        if self._investigator.busy:
            self._take_answer(now)
        elif self._round.is_due() and now - self._empty_at < EMPTY_WITHIN:
            self._round.restart()
            self._look()
        return []

    def _look(self) -> None:
        found = self._tasks.candidates()
        if found is None:
            return
        if found.more:
            self._round.hasten()
        if found.tasks or (found.workers and self._learn.is_due()):
            self._learn.restart()
            self._answer.restart()
            self._investigator.ask(found)

    def _take_answer(self, now: float) -> None:
        findings = self._investigator.take()
        if findings is None:
            if self._answer.is_due():
                self._failed(f"no answer for {SLOW_AFTER:g} s")
            return
        if findings.problem is not None:
            self._failed(findings.problem)
            return
        self._failing = False
        self._report_unreadable(findings.unreadable)
        confirmations = [
            (candidate, self._finished(candidate, evaluation) if isinstance(evaluation, Result) else evaluation)
            for candidate, evaluation in findings.evaluations
            if evaluation is not None
        ]
        if confirmations:
            self._pending = Pending(findings, confirmations, now + CONFIRM_TIMEOUT)

    def _failed(self, reason: str) -> None:
        if not self._failing:
            self._logger.warning("task-inspection-failed", reason=reason)
        self._failing = True

    def _report_unreadable(self, task_ids: list[str]) -> None:
        if task_ids and self._unreadable.is_due():
            self._unreadable.restart()
            reason = f"the result backend has results that cannot be read, such as that of task {task_ids[0]}"
            self._logger.warning("task-inspection-failed", reason=reason)

    def _confirm(self, pending: Pending, now: float) -> list[OutboxItem]:
        if now >= pending.drop_at:
            self._pending = None
            return []
        waited = self._empty_at - pending.findings.answered
        if waited < 0:
            return []
        items = self._tasks.confirm(pending.findings.answered_at + int(waited * 1000) + 1, pending.confirmations)
        if items is None:
            return []
        self._pending = None
        return items

    def _finished(self, candidate: Candidate, result: Result) -> FinishedTask:
        event = {
            "type": result.event_type,
            "hostname": candidate.worker or result.worker,
            "uuid": candidate.task_id,
            # The task's time rather than the current time, so that the event is the same whichever instance builds it.
            "timestamp": candidate.since / 1e6 if result.time is None else result.time,
            **result.fields,
        }
        return FinishedTask(self._reconciler.reconcile(event))
