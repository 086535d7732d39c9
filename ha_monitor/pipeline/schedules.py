"""The leader's duty for schedules: find out which schedules exist. Whether they ran is judged with the incidents
(`incidents/schedules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.schedule_discovery import Answer, ScheduleDiscovery
from ha_monitor.schedule import Schedule
from ha_monitor.schedules.model import Source
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Watched
from ha_monitor.store.schedules import KnownSource

ASK_EVERY = 600.0
"""Seconds between two inquiries."""
RETRY_AFTER = 60.0
"""Seconds until the next inquiry if a source did not answer, or a worker that was not silent before."""
SETTLED_AFTER = 5.0
"""Seconds to wait before a new or restarted worker is asked: others may start at the same time."""
MAX_WORKERS_ASKED = 20
"""Maximum workers to ask: each answers with all its settings."""
PRESENT_STATES = ("online", "late")


class Watch(Protocol):
    """Looks at the workers."""

    @property
    def watched(self) -> Watched | None:
        """The result of the latest look; None if this instance has not looked since it leads."""


class SchedulesDuty:
    """Advances one step at each `run`. Never waits for an answer."""

    def __init__(self, discovery: ScheduleDiscovery, watch: Watch, logger: Logger, clock: Clock) -> None:
        self._discovery = discovery
        self._watch = watch
        self._logger = logger
        self._clock = clock
        self._due = Schedule(clock, ASK_EVERY)
        self._is_outdated = False
        """Whether the inquiry in progress began before the leader changed."""
        self._present: frozenset[tuple[str, float | None]] = frozenset()
        """The workers that were there at the previous look, and since when, by their own reports: a worker that was
        restarted under the same name may have other settings."""
        self._asked: Sequence[str] = ()
        self._silent: frozenset[str] = frozenset()
        """The workers that did not answer the latest inquiry and are still there. While there are any, no schedule is
        forgotten: one of them may have it."""
        self._troubles: dict[Source, str] = {}
        self.sources: Mapping[Source, KnownSource] = {}
        """The answer of each source since this instance leads."""

    def start_anew(self) -> None:
        self._is_outdated = self._discovery.busy
        self._present = frozenset()
        self._silent = frozenset()
        self.sources = {}
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if self._discovery.busy:
            self._take()
            return []
        watched = self._watch.watched
        if watched is None:
            return []
        present = frozenset((one.name, one.came) for one in watched.workers if one.state in PRESENT_STATES)
        if present - self._present:
            self._due.hasten(SETTLED_AFTER)
        self._present = present
        names = frozenset(name for name, _ in present)
        if self._silent - names:
            self._silent &= names
            self._due.hasten(SETTLED_AFTER)
        if self._due.is_due() and (present or self._discovery.asks_redbeat):
            self._due.restart()
            self._asked = workers_to_ask(names)
            self._discovery.ask(self._asked)
        return []

    def _take(self) -> None:
        answers = self._discovery.take()
        if answers is None:
            return
        if self._is_outdated:
            self._is_outdated = False
            self._due.hasten()
            return
        found = {source: self._known(source, one) for source, one in answers.items() if not one.is_held_up}
        self.sources = {**self.sources, **found}
        silent = frozenset(name for one in answers.values() for name in one.silent)
        # One that never answers is not asked again and again.
        is_new, self._silent = bool(silent - self._silent), silent
        if is_new or any(one.problem for one in found.values()) or len(found) < len(answers):
            self._due.hasten(RETRY_AFTER)

    def _known(self, source: Source, answer: Answer) -> KnownSource:
        problem = answer.problem
        if not problem and answer.silent and len(answer.silent) == len(self._asked):
            problem = _nobody_answered(len(self._asked))
        if problem and problem != self._troubles.get(source):
            self._logger.warning("schedules-not-read", source=source.value, reason=problem)
        self._troubles[source] = problem
        if problem:
            return KnownSource(problem=problem)
        return KnownSource(tuple(answer.definitions), self._clock.time(), is_partial=bool(answer.silent))


def _nobody_answered(asked: int) -> str:
    if asked == 1:
        return "the only worker asked for its settings did not answer"
    return f"none of the {asked} workers asked for their settings answered"


def workers_to_ask(workers: frozenset[str]) -> list[str]:
    """The workers to ask: for each name before the @, the first worker, then the second, until there are enough. They
    are the same each time, so that another worker's answer is not taken for a change.
    """
    by_name: dict[str, list[str]] = {}
    for worker in sorted(workers):
        by_name.setdefault(worker.partition("@")[0], []).append(worker)
    turns = [(number, worker) for some in by_name.values() for number, worker in enumerate(some)]
    return [worker for _, worker in sorted(turns)[:MAX_WORKERS_ASKED]]
