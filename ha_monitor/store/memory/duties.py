"""What the leader does for the whole fleet, and other shared data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from ha_monitor.config.schema import StuckSettings
from ha_monitor.events.model import Event
from ha_monitor.store.api import NOTHING_NEW
from ha_monitor.store.incidents import Incident, IncidentChanges
from ha_monitor.store.memory import schedules as kept_schedules
from ha_monitor.store.memory.server import MemoryInstance
from ha_monitor.store.memory.store import MemoryStore
from ha_monitor.store.memory.worker_runs import note_lost
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.queries import Gap
from ha_monitor.store.results import (
    Candidate,
    Candidates,
    Confirmation,
    FinishedTask,
    OrphanedTask,
    Silent,
    StuckTask,
    Watched,
    Watching,
    WorkerState,
)
from ha_monitor.store.schedules import ScheduleChanges

_to_json = msgspec.json.Encoder().encode
_incident_in = msgspec.json.Decoder(Incident).decode
ASKED_FOR = 60.0
"""Seconds for which a task that was handed out is not handed out again."""


def own_event(kind: str, name: str, since: object, **rest: Any) -> Event:
    """An event of the monitor's own; `since` makes it differ from the next one of its kind."""
    return Event(kind, blake2b(f"{kind}\0{name}\0{since}".encode(), digest_size=12).hexdigest(), **rest)


def _gap_of(event: Event) -> Gap | None:
    """The gap for an event about lost events, as far as it tells: it knows only when that was reported."""
    lost = event.fields.get("lost")
    if lost is None or event.time is None:
        return None
    what = f"{lost} start{'s' if lost != 1 else ''} of {event.worker}"
    return Gap(what, event.time, event.time, event.worker, lost, event.time)


class MemoryDuties:
    """See `api.LeaderDuties`. Looks at everything at each call, and ignores wrong clocks."""

    all_accounted = True

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._server = store.server

    def start_anew(self) -> None:
        pass

    def watch(
        self,
        watching: Watching,
        queues: Sequence[str],
        *,
        may_declare_lost: bool,
        together: bool = False,
        watermark: tuple[float, float] | None = None,
        consumes: Mapping[str, str] = NOTHING_NEW,
    ) -> Watched | None:
        def watched(own: MemoryInstance) -> Watched | None:
            if not self._store.leads():
                return None
            server, now = self._server, self._server.clock.time()
            server.queues |= dict.fromkeys(queues, server.clock.time())
            server.worker_queues.update(consumes)
            entries: list[Entry] = []
            silent_until = now - watermark[0] if may_declare_lost and watermark else float("-inf")
            states = [self._look_at(name, watching, silent_until, entries) for name in sorted(server.workers)]
            lost = [entry.event.worker for entry in entries if entry.event.type == "worker-lost"]
            if together and lost:
                entries = [entry for entry in entries if entry.event.type != "worker-lost"]
                fields = {"count": len(lost), "workers": lost, "reason": "all at once"}
                entries.append(Entry(0, own_event("workers-lost", lost[0], now, time=now, fields=fields), None, False))
            late = [server.workers[one.name] for one in states if one.state == "late"]
            lengths = [now - heard for heard, said in late if said]
            return Watched(
                self._server.put(own, entries),
                sum(one.lease_until > now for one in server.instances.values()),
                len(server.waiting_tasks()),
                len(server.retries),
                len(server.dead_letters),
                states,
                sorted(server.queues),
                sum(kind == "task-stuck" for kind, *_ in server.found.values()),
                sum(kind == "task-orphaned" for kind, *_ in server.found.values()),
                silent=Silent(len(lengths), min(lengths, default=0.0), max(lengths, default=0.0)),
                merged_ago=now - server.merged_by_all(),
            )

        return self._store.own_call("watch", watched)

    def losses(self, *, report: bool) -> list[OutboxItem]:
        def looked(own: MemoryInstance) -> list[OutboxItem]:
            if not self._store.leads():
                return []
            lost, self._server.lost_events = self._server.lost_events, []
            if not report:
                return []
            self._server.gaps += [gap for event in lost if (gap := _gap_of(event)) is not None]
            return self._server.put(own, [Entry(0, event, None, False) for event in lost])

        return self._store.own_call("losses", looked)

    def incidents(self, changes: IncidentChanges) -> list[OutboxItem]:
        def written(own: MemoryInstance) -> list[OutboxItem]:
            if not self._store.leads():
                return []
            kept = self._server.incidents
            self._server.incidents = {key: one for key, one in kept.items() if key not in changes.removed}
            # As JSON, which cannot carry everything.
            self._server.incidents |= {one.id: _incident_in(_to_json(one)) for one in changes.changed}
            return self._server.put(own, [Entry(0, event, None, False) for event in changes.events])

        return self._store.own_call("incidents", written)

    def schedules(self, changes: ScheduleChanges) -> bool:
        def written(_own: MemoryInstance) -> bool:
            if not self._store.leads():
                return False
            kept_schedules.write(self._server, changes)
            return True

        return self._store.own_call("schedules", written)

    def _look_at(self, name: str, watching: Watching, silent_until: float, entries: list[Entry]) -> WorkerState:
        server, now = self._server, self._server.clock.time()
        heard, said = server.workers[name]
        heard = max(heard, min(now, server.went_back_at / 1000))
        silent = now - heard
        was_lost = name in server.lost_workers
        if said == "worker-offline":
            state = "offline"
        elif said and (silent if was_lost else silent_until - heard) > watching.lost_after:
            state = "lost"
        else:
            state = "late" if silent > watching.late_after else "online"
        if (state == "lost") is not was_lost:
            kind = "worker-recovered" if was_lost else "worker-lost"
            event = own_event(kind, name, heard, worker=name, time=now, fields={"silent": silent})
            if kind == "worker-lost" or state != "offline":
                entries.append(Entry(0, event, None, False))
            server.lost_workers ^= {name}
        return WorkerState(name, state, None, silent_for=silent, heard=heard, came=server.came.get(name))


class MemoryOpenTasks:
    """See `api.OpenTasks`."""

    def __init__(self, store: MemoryStore, settings: StuckSettings, max_absence: float = 0.0) -> None:
        """:param max_absence: see `RedisOpenTasks`."""
        self._store = store
        self._max_absence = max_absence
        self._server = store.server
        self._limits = {
            "sent": settings.sent_after,
            "received": settings.received_after,
            "started": settings.started_after,
        }
        self._asked_for: dict[str, float] = {}

    def candidates(self) -> Candidates | None:
        def found(_own: MemoryInstance) -> Candidates | None:
            if not self._store.leads():
                return None
            now = self._server.clock.time()
            note_lost(self._server)
            tasks = [one for task_id in self._server.tasks if (one := self._candidate(task_id, now)) is not None]
            self._asked_for.update({one.task_id: now for one in tasks})
            return Candidates(int(now * 1000), tasks, workers=sorted(self._server.workers))

        return self._store.own_call("candidates", found)

    def confirm(
        self, required_watermark: int, confirmations: Sequence[tuple[Candidate, Confirmation]]
    ) -> list[OutboxItem] | None:
        def confirmed(own: MemoryInstance) -> list[OutboxItem] | None:
            if not self._store.leads():
                return []
            if self._server.merged_by_all() * 1000 < required_watermark or self._is_absent():
                return None
            entries = [
                entry for candidate, confirmation in confirmations for entry in self._confirm(candidate, confirmation)
            ]
            return self._server.put(own, entries)

        return self._store.own_call("confirm", confirmed)

    def _is_absent(self) -> bool:
        return 0 <= self._server.clock.time() - self._server.taken_over_at < self._max_absence

    def _candidate(self, task_id: str, now: float) -> Candidate | None:
        stay = self._server.tasks[task_id].phase()
        if stay is None or now - self._asked_for.get(task_id, float("-inf")) < ASKED_FOR:
            return None
        phase, since = stay
        if since / 1000 <= self._server.went_back_at:
            return None
        facts = self._server.tasks[task_id].facts
        worker = facts.worker or ""
        is_lost = worker in self._server.lost_workers
        limit = self._limits[phase]
        if not (is_lost and phase == "started") and (not limit or now - since / 1e6 < limit):
            return None
        state = ("lost" if is_lost else "online") if worker in self._server.workers else ""
        return Candidate(
            task_id, phase, since, facts.name or "", facts.queue or "", worker, state, not facts.is_other_id
        )

    def _confirm(self, candidate: Candidate, confirmation: Confirmation) -> list[Entry]:
        server, now = self._server, self._server.clock.time()
        task = server.tasks.get(candidate.task_id)
        if task is None or task.phase() != (candidate.phase, candidate.since):
            return []
        if candidate.since / 1000 <= server.went_back_at:
            return []
        if isinstance(confirmation, FinishedTask):
            server.tasks[candidate.task_id] = task = task.copy()
            server.found.pop(candidate.task_id, None)
            task.merge(confirmation.fact, now)
            server.count_runs(task)
            for error in task.take_errors(waited_enough=now):
                server.keep_error(task.facts.name, error._replace(task_id=candidate.task_id))
            return task.announce(0.0, now, waited_enough=now)
        kind = "task-stuck" if isinstance(confirmation, StuckTask) else "task-orphaned"
        said = (kind, candidate.phase, candidate.since)
        if server.found.get(candidate.task_id) == said:
            return []
        if (
            isinstance(confirmation, OrphanedTask)
            and confirmation.must_be_lost
            and candidate.worker not in server.lost_workers
        ):
            return []
        server.found[candidate.task_id] = said
        server.orphaned_at[candidate.task_id] = int(now * 1000) / 1000
        fields = {
            "phase": confirmation.seen_in if isinstance(confirmation, StuckTask) else candidate.phase,
            "since": candidate.since / 1e6,
            "seconds": now - candidate.since / 1e6,
            "confirmed_by": confirmation.confirmed_by,
            "answered": confirmation.answered,
        }
        event = own_event(
            kind, candidate.task_id, said, worker=candidate.worker, time=now, task_id=candidate.task_id, fields=fields
        )
        return [Entry(0, event, task.facts_at(candidate.since), task.facts.name is None)]


class MemoryAttempts:
    """See `api.Attempts`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._server = store.server

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        def begun() -> list[int]:
            before = [self._server.begun.get(name, 0) for name in names]
            self._server.begun.update(
                {name: count + 1 for name, count in zip(names, before, strict=True) if count < below}
            )
            return before

        return self._store.call("begin", begun)

    def succeeded(self, names: Sequence[str]) -> None:
        def forgotten() -> None:
            for name in names:
                self._server.begun.pop(name, None)

        self._store.call("succeeded", forgotten)

    def set_aside(self, name: str, entry: bytes) -> None:
        def kept() -> None:
            self._server.begun.pop(name, None)
            self._server.set_aside.insert(0, entry)

        self._store.call("set aside", kept)
