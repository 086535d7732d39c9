"""The leader's duty towards tasks that go no further: find them, ask about them, announce or repair them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ha_monitor.backend.results import Result
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Stuck as StuckSettings
from ha_monitor.events.facts import Fact
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.store import Store
from ha_monitor.store.stuck import Finished, StuckTasks, Suspect, Verdict

ROUND_EVERY = 5.0
"""Seconds between two looks at what is overdue."""
PATIENCE = 60.0
"""Seconds after which verdicts are dropped that came too early all the time: then the tasks are found again."""

Reconcile = Callable[[dict[str, Any]], Fact]


class StuckDuty:
    """Goes on a little at each call of `proceed`, and never waits for an answer."""

    def __init__(
        self,
        store: Store,
        settings: StuckSettings,
        *,
        investigator: Investigator,
        reconcile: Reconcile,
        logger: Logger,
        clock: Clock,
    ) -> None:
        """:param reconcile: makes a fact of an event that never came."""
        self._tasks = StuckTasks(store, settings)
        self._investigator = investigator
        self._reconcile = reconcile
        self._logger = logger
        self._clock = clock
        self._round_at = 0.0
        self._pending: tuple[int, list[tuple[Suspect, Verdict]]] | None = None
        self._drop_at = 0.0
        self._failing = False

    def proceed(self) -> list[OutboxItem]:
        """Do what is next; returns what is to be announced."""
        now = self._clock.monotonic()
        if self._pending is not None:
            return self._judge(now)
        if self._investigator.busy:
            self._take_answer(now)
        elif now >= self._round_at:
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
            self._investigator.ask(found)

    def _take_answer(self, now: float) -> None:
        findings = self._investigator.take()
        if findings is None:
            return
        if findings.problem is not None:
            if not self._failing:
                self._logger.warning("tasks-not-asked-for", reason=findings.problem)
            self._failing = True
            return
        self._failing = False
        verdicts = [
            (suspect, self._finished(suspect, opinion) if isinstance(opinion, Result) else opinion)
            for suspect, opinion in findings.opinions
            if opinion is not None
        ]
        if verdicts:
            self._pending = findings.answered_at, verdicts
            self._drop_at = now + PATIENCE

    def _judge(self, now: float) -> list[OutboxItem]:
        assert self._pending is not None
        if now >= self._drop_at:
            self._pending = None
            return []
        items = self._tasks.judge(*self._pending)
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
