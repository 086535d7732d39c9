"""The leader's duty towards tasks that go no further: find them, ask about them, announce or repair them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ha_monitor.backend.results import Result
from ha_monitor.clock import Clock
from ha_monitor.events.facts import Fact
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.investigator import Findings, Investigator
from ha_monitor.store.api import OpenTasks
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Finished, Suspect, Verdict

ROUND_EVERY = 5.0
"""Seconds between two looks at what is overdue."""
PATIENCE = 60.0
"""Seconds after which verdicts are dropped that came too early all the time: then the tasks are found again."""

LONGEST_ANSWER = 120.0
"""Seconds after which a question that is not answered is worth a word: a library waits for ever."""
EMPTY_WITHIN = 15.0
"""Seconds for which the queue of events counts as empty after it was seen so; it is looked at every few seconds."""

Reconcile = Callable[[dict[str, Any]], Fact]


class Pending(NamedTuple):
    """Verdicts that are to be announced once no event that was sent before them can be on its way."""

    findings: Findings
    verdicts: list[tuple[Suspect, Verdict]]
    drop_at: float


class StuckDuty:
    """Goes on a little at each call of `proceed`, and never waits for an answer.

    An event that is missed may wait in the queue, behind others. So verdicts have to wait until the queue has been seen
    empty after the questions were answered, and until all instances have merged what they had been given by then; and
    nothing is looked for while the queue is not empty.
    """

    def __init__(
        self,
        tasks: OpenTasks,
        *,
        investigator: Investigator,
        reconcile: Reconcile,
        logger: Logger,
        clock: Clock,
    ) -> None:
        """:param reconcile: makes a fact of an event that never came."""
        self._tasks = tasks
        self._investigator = investigator
        self._reconcile = reconcile
        self._logger = logger
        self._clock = clock
        self._round_at = 0.0
        self._asked_at = 0.0
        self._empty_at = float("-inf")
        self._pending: Pending | None = None
        self._failing = False

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is none.

        :param at: by the monotonic clock.
        """
        self._empty_at = at

    def proceed(self) -> list[OutboxItem]:
        """Do what is next; returns what is to be announced."""
        now = self._clock.monotonic()
        if self._pending is not None:
            return self._judge(self._pending, now)
        if self._investigator.busy:
            self._take_answer(now)
        elif now >= self._round_at and now - self._empty_at < EMPTY_WITHIN:
            self._round_at = now + ROUND_EVERY
            self._look(now)
        return []

    def _look(self, now: float) -> None:
        found = self._tasks.suspects()
        if found is None:
            return
        if found.more:
            self._round_at = now
        if found.tasks:
            self._asked_at = now
            self._investigator.ask(found)

    def _take_answer(self, now: float) -> None:
        findings = self._investigator.take()
        if findings is None:
            if now - self._asked_at > LONGEST_ANSWER:
                self._failed(f"no answer for {LONGEST_ANSWER:g} s")
            return
        if findings.problem is not None:
            self._failed(findings.problem)
            return
        self._failing = False
        verdicts = [
            (suspect, self._finished(suspect, opinion) if isinstance(opinion, Result) else opinion)
            for suspect, opinion in findings.opinions
            if opinion is not None
        ]
        if verdicts:
            self._pending = Pending(findings, verdicts, now + PATIENCE)

    def _failed(self, reason: str) -> None:
        if not self._failing:
            self._logger.warning("tasks-not-asked-for", reason=reason)
        self._failing = True

    def _judge(self, pending: Pending, now: float) -> list[OutboxItem]:
        if now >= pending.drop_at:
            self._pending = None
            return []
        waited = self._empty_at - pending.findings.answered
        if waited < 0:
            return []
        items = self._tasks.judge(pending.findings.answered_at + int(waited * 1000) + 1, pending.verdicts)
        if items is None:
            return []
        self._pending = None
        return items

    def _finished(self, suspect: Suspect, result: Result) -> Finished:
        event = {
            "type": result.event_type,
            "hostname": suspect.worker or result.worker,
            "uuid": suspect.task_id,
            # Of the task, not of now: so that the event is the same whoever finds it.
            "timestamp": suspect.since / 1e6 if result.time is None else result.time,
            **result.fields,
        }
        return Finished(self._reconcile(event))
