"""Reads the facts for the incident rules and applies the rules, in a thread with a connection of its own, so that
nothing waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ha_monitor.errors import HaMonitorError, class_and_reason
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.incidents.facts import QueueFacts
from ha_monitor.incidents.gather import FactGatherer, LeaderView, Reader
from ha_monitor.incidents.lifecycle import advance
from ha_monitor.incidents.remembered_incidents import RememberedIncidents
from ha_monitor.incidents.rules import apply_rules
from ha_monitor.schedules.model import Judgement
from ha_monitor.store.incidents import Incident, IncidentChanges, with_silences
from ha_monitor.store.schedules import ScheduleChanges
from ha_monitor.threads import OneCall, Threads, ThreadUnavailable


class Detection(NamedTuple):
    """The result of a look."""

    changes: IncidentChanges
    incidents: tuple[Incident, ...] = ()
    """All incidents after the changes; each says until when it is silenced."""
    judged_at: float | None = None
    """When all kinds of incidents were judged, in seconds since the epoch by the store's clock; None if they could not
    be judged."""
    schedules: ScheduleChanges = ScheduleChanges()
    judged: tuple[Judgement, ...] | None = None
    """The judgements of the schedules; None if they could not be judged."""
    waiting_queues: tuple[str, ...] = ()
    """The queues in which tasks wait, as producers report them, the queue with the longest wait first; and those that
    nobody consumes, according to open incidents."""
    problem: str | None = None
    """Why the look failed; None if it did not."""


NO_CHANGES = IncidentChanges([], [], [])
MAX_WAITING_QUEUES = 100
"""Maximum queues that only producers name and that the broker is asked about: events can invent any number of them."""


class LatestIncidents:
    """What the leader last saw and wrote, so that other duties need not read it again."""

    def __init__(self) -> None:
        self._incidents: Sequence[Incident] | None = None
        self._has_judged = False

    def written(self, incidents: Sequence[Incident], *, has_judged: bool) -> None:
        """Note that the store has these incidents now.

        :param has_judged: whether all kinds were judged, including those that depend on events.
        """
        self._incidents = incidents
        self._has_judged = self._has_judged or has_judged

    def forget(self) -> None:
        """Forget everything, since another instance may have led meanwhile."""
        self._incidents, self._has_judged = None, False

    def incidents(self) -> Sequence[Incident] | None:
        """All incidents; None before the first look of this leader."""
        return self._incidents

    def unjudged(self) -> frozenset[str]:
        """Ids of the incidents that this leader took over from an earlier one: they may be over, which it cannot judge
        yet."""
        if self._has_judged:
            return frozenset()
        always = {kind.name for kind in CATALOGUE if kind.always}
        return frozenset(one.id for one in self._incidents or () if one.kind not in always)


class IncidentDetector:
    """Takes one look at a time. `ask` and `take` never block."""

    def __init__(self, reader: Reader, threads: Threads) -> None:
        """:param reader: not connected yet; used only by the thread."""
        self._reader = reader
        self._gatherer = FactGatherer()
        self._remembered = RememberedIncidents()
        self._call: OneCall[Detection] = OneCall(threads.calls("incidents"))
        self._is_connected = False

    @property
    def busy(self) -> bool:
        """Whether a look is in progress, or its result was not taken yet."""
        return self._call.busy

    def start_anew(self) -> None:
        """Forget what is known of the schedules, since another instance led meanwhile."""
        self._gatherer.schedules.start_anew()

    def written(self, changes: ScheduleChanges) -> None:
        """Note that these changes of a look are in the store. Allowed only while it is not busy."""
        self._gatherer.schedules.written(changes)

    def ask(self, view: LeaderView) -> None:
        """Begin a look. Allowed only while it is not busy."""
        self._call.begin(lambda: self._look(view))

    def take(self) -> Detection | None:
        """The result, once it is available."""
        try:
            return self._call.take()
        except ThreadUnavailable as error:
            return Detection(NO_CHANGES, problem=str(error))

    def _look(self, view: LeaderView) -> Detection:
        try:
            if not self._is_connected:
                self._reader.connect()
                self._is_connected = True
            kept, facts, schedules = self._gatherer.gather(self._reader, view)
            changes = advance(
                kept, apply_rules(facts), facts.now, self._remembered.recently_open(facts.now), view.believed
            )
            now_kept = {one.id: one for one in kept} | {one.id: one for one in changes.changed}
            gone = set(changes.removed)
            left = [one for key, one in now_kept.items() if key not in gone]
            self._remembered.written(left, gone, facts.now)
            incidents = tuple(with_silences(left, self._reader.incidents.silences(), facts.now))
        except HaMonitorError as error:
            self._disconnect()
            return Detection(NO_CHANGES, problem=str(error))
        except Exception as error:  # unexpected, because of data in the store: the loop waits for a result
            self._disconnect()
            return Detection(NO_CHANGES, problem=class_and_reason(error))
        return Detection(
            changes,
            incidents,
            facts.now if facts.are_events_merged else None,
            schedules,
            None if facts.schedules is None else tuple(facts.schedules.judgements),
            _waiting_queues(facts.queues, left),
        )

    def _disconnect(self) -> None:
        self._is_connected = False
        self._reader.close()


def _waiting_queues(queues: Sequence[QueueFacts], incidents: Iterable[Incident]) -> tuple[str, ...]:
    waits = sorted((queue.oldest, queue.name) for queue in queues if queue.oldest is not None)
    # Messages may still wait there when nobody reports them any longer: only the broker knows.
    unconsumed = (one.key for one in incidents if one.kind == "no-consumer" and one.is_open)
    return tuple(dict.fromkeys([*(name for _, name in waits[:MAX_WAITING_QUEUES]), *unconsumed]))
