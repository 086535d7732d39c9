"""What must hold, whatever happens: watched while a world runs, and checked at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.broker import HEARTBEAT, Client
from tests.simulation.hosts import CONFIG, LEASE
from tests.simulation.workers import NAMING

if TYPE_CHECKING:
    from tests.simulation.hosts import Process
    from tests.simulation.world import World

LONGEST_WAIT = 120.0
"""Seconds after which a name is waited for no longer, whatever is away (docs/architecture.md)."""
DEAF_FOR = 3 * HEARTBEAT + 8.0
"""Seconds within which /readyz must say that nothing can be received."""
BACK_WITHIN = 60.0
"""Seconds within which the fleet must be at rest once all is well."""
LOST_AFTER = CONFIG.workers.lost_after
QUIET_FOR = 3.0
"""Seconds for which the fleet must be at rest: longer than an event is under way."""
NEVER = {"queue-shared", "events-lost", "message-set-aside", "events-rejected"}
"""Lines that nothing in these worlds is a reason for."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Written(NamedTuple):
    """A line of an event."""

    at: float
    instance: str
    recovered: bool
    incomplete: bool


class Watch:
    """Sees all lines, and knows what is true."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.lines: dict[str, list[Written]] = defaultdict(list)
        """Those of Celery's events, by event id."""
        self.said: Counter[str] = Counter()
        """The other lines, by event."""
        self.story: list[str] = []
        """What happened, for people."""
        self.violations: list[str] = []
        self.handlings: Counter[str] = Counter()
        """How often a handler was called for an event."""
        self.crashed: set[Client] = set()
        self.received: dict[bytes, set[Client]] = defaultdict(set)
        """Where a message of a broker that does not redeliver has arrived."""
        self.went_back: list[tuple[float, float]] = []
        """To when the store went back, and when."""
        self._deaf_since: dict[str, float] = {}
        self.detailed = False

    # --- what happens -----------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Something happened."""
        if self.detailed:
            self.story.append(f"{self._world.elapsed:8.3f}  {text}")

    def wrong(self, text: str) -> None:
        self.violations.append(f"at {self._world.elapsed:.3f}: {text}")
        self.note(f"WRONG: {text}")

    def line(self, process: Process, line: dict[str, Any], *, held_up: bool) -> None:
        """A process has written a line.

        :param held_up: after it had been frozen between the last look at its lease and the call of the system. That
            nobody can prevent: another one has announced the same meanwhile, marked.
        """
        kind = line["event"]
        if self.detailed:
            rest = {key: value for key, value in line.items() if key not in _DULL}
            self.note(f"{process.name}: {kind} {rest}")
        if process.is_killed:
            self.wrong(f"a killed process wrote {kind}")
        if "event_time" in line and kind in _JUDGEMENTS:
            self._judged(line)
        elif "event_time" in line:
            self._announced(process, line, held_up=held_up)
        else:
            self.said[kind] += 1
            self._own(process, line)

    def handled(self, event_id: str) -> None:
        self.handlings[event_id] += 1

    def ended(self, process: Process, error: Exception) -> None:
        """A process has ended by itself."""
        self.wrong(f"{process.name} ended: {type(error).__name__}: {error}")

    def killed(self, process: Process) -> None:
        self.crashed.add(process)

    # --- while it runs ----------------------------------------------------------------------

    def _announced(self, process: Process, line: dict[str, Any], *, held_up: bool) -> None:
        written = self.lines[line["event_id"]]
        is_marked = bool(line.get("recovered") or line.get("repeated"))
        is_incomplete = bool(line.get("incomplete"))
        world = self._world
        if line["event_id"] not in world.load.book.taken:
            self.wrong(f"{line['event']} of {line.get('task_id')} was announced and never sent")
        # What it had in its hands when the store went back, and has not heard of that: docs/faults.md.
        is_unaware = world.server.went_back_at / 1000 > process.record.store.went_back_at
        is_excused = (held_up or is_unaware) and all(one.recovered for one in written)
        if written and not is_marked and not is_excused:
            self.wrong(f"{line['event']} of {line.get('task_id')} was announced twice, the second time unmarked")
        written.append(Written(world.timeline.now, process.name, is_marked, is_incomplete))
        if is_incomplete and line.get("task_name") is None:
            self._nameless(line)

    def _nameless(self, line: dict[str, Any]) -> None:
        world, task = self._world, line["task_id"]
        sent = world.load.book.taken[line["event_id"]]
        if world.timeline.now - sent.at >= LONGEST_WAIT - 1:
            return
        if any(world.load.book.names(body, task) for body in world.broker.held()):
            self.wrong(f"{line['event']} of {task} has no name, and the broker still holds it")
        elif not self.went_back and self._should_have_name(task, world.timeline.now):
            self.wrong(f"{line['event']} of {task} has no name, though it was received")

    def _should_have_name(self, task: str, before: float) -> bool:
        taken = self._world.load.book.taken
        return self._world.broker.redelivers and any(
            one.task == task and one.type in NAMING and one.at < before for one in taken.values()
        )

    def _judged(self, line: dict[str, Any]) -> None:
        world, kind, now = self._world, line["event"], self._world.timeline.now
        if kind in ("worker-lost", "workers-lost"):
            for name in line.get("workers") or [line["worker"]]:
                worker = next(one for one in world.load.workers if one.name == name)
                if worker.is_alive and worker.is_linked and now - worker.linked_since > LOST_AFTER + 4.0:
                    self.wrong(f"{kind} though {name} lives")
        elif kind in ("task-stuck", "task-orphaned"):
            task = line["task_id"]
            ended, asked = world.load.book.ended.get(task), world.load.asked_at.get(task, now)
            if world.worker_clocks_stepped:
                return  # the store in memory knows no wrong clocks of workers
            if ended is not None and ended < asked and not world.was_lost(task):
                self.wrong(f"{kind} though the end of {task} was taken {now - ended:.1f} s before")
            if kind == "task-orphaned" and any(task in one.running for one in world.load.workers if one.is_alive):
                self.wrong(f"task-orphaned though a worker runs {task}")

    def _own(self, process: Process, line: dict[str, Any]) -> None:
        kind = line["event"]
        if kind in NEVER:
            self.wrong(f"{kind}: {line.get('reason')}")
        if line["level"] != "info" and not self._world.faults:
            self.wrong(f"{kind} without any fault: {line.get('reason')}")
        if kind == "store-went-back" and not self.went_back:
            self.wrong("store-went-back, and it did not")

    def look(self) -> None:
        """Once a second: what /readyz says is true."""
        world = self._world
        now = world.timeline.now
        for host in world.hosts:
            process = host.process
            can_receive = host.is_linked and world.broker.is_up and world.broker.delivers
            if process is None or can_receive or process.is_held_up:
                self._deaf_since.pop(host.name, None)
                continue
            since = self._deaf_since.setdefault(host.name, now)
            if now - since > DEAF_FOR and process.telemetry.health.ready().good:
                self.wrong(f"/readyz of {host.name} is 200 though nothing could be received for {now - since:.0f} s")
                self._deaf_since[host.name] = now

    # --- at the end -------------------------------------------------------------------------

    def check_end(self) -> None:
        """All that was sent was announced, and each handler called."""
        taken = self._world.load.book.taken
        for identity in self.expected():
            sent = taken[identity]
            if sent.at > self._world.timeline.now - QUIET_FOR:
                continue  # it may be under way
            at = self._world.since(sent.at)
            if identity not in self.lines:
                self.wrong(f"{sent.type} of {sent.task or 'a worker'} was lost, taken at {at:.3f}")
            elif sent.type == "task-succeeded" and not self.handlings[identity] and not self.went_back:
                self.wrong(f"no handler was called for {sent.type} of {sent.task}")
        for kind in ("outbox-taken-over", "lease-lost"):
            if self.said[kind] and not self._world.may_lose_leases:
                self.wrong(f"{kind} without a reason")

    def expected(self) -> list[str]:
        """The events that must be announced."""
        book = self._world.load.book
        if self._world.broker.redelivers:
            return [identity for identity, sent in book.taken.items() if not self._may_be_lost(sent.at)]
        found = []
        for body, processes in self.received.items():
            if processes - self.crashed:
                found += [identity for identity in book.ids_of(body) if not self._may_be_lost(book.taken[identity].at)]
        return found

    def _may_be_lost(self, at: float) -> bool:
        """Merged in a span that the store has lost, it may have waited there for its name."""
        return any(at <= until for _, until in self.went_back)

    def _taken_at(self, body: bytes) -> float:
        book = self._world.load.book
        return book.taken[book.ids_of(body)[0]].at

    def restless(self) -> list[str]:
        """Why the fleet is not at rest; nothing if it is."""
        world = self._world
        server = world.server
        why = []
        if not world.load.is_settled:
            why.append("senders have events")
        old = [body for body in world.broker.held() if self._taken_at(body) < world.timeline.now - 2.0]
        if old:
            why.append(f"the broker holds {len(old)} messages")
        living = {one.process.record.store.token for one in world.hosts if one.process is not None}
        if sum(len(one.outbox) for one in server.instances.values()):
            why.append("outboxes are not empty")
        if set(server.instances) != living:
            why.append(f"the store knows {sorted(server.instances)}, and {sorted(living)} live")
        if any(task.announce_until is not None for task in server.tasks.values()):
            why.append("announcements wait")
        if server.retries:
            why.append("handlers are to be called again")
        for host in world.hosts:
            ready = None if host.process is None else host.process.telemetry.health.ready()
            if ready is None or not ready.good:
                why.append(f"{host.name} is not ready: {ready and ready.details['reasons']}")
        leaders = [host.name for host in world.hosts if host.process and host.process.telemetry.is_leader()]
        if len(leaders) != 1:
            why.append(f"leaders: {leaders}")
        return why


_DULL = {"timestamp", "level", "node_id", "host", "pid", "event", "instance", "event_time", "args", "kwargs", "root_id"}
_JUDGEMENTS = {"worker-lost", "workers-lost", "task-stuck", "task-orphaned", "worker-recovered"}
LEASE_LENGTH = LEASE
