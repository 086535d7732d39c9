"""The shared record as one instance uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.catalogue import Code
from ha_monitor.events.decode import Batch
from ha_monitor.store.counts import Counts
from ha_monitor.store.lease import Lease, RollbackMemory
from ha_monitor.store.memory.server import MemoryInstance, MemoryServer
from ha_monitor.store.memory.task import MemoryTask, read_event
from ha_monitor.store.outbox import Entry, OutboxItem, OutboxProgress, read_entry
from ha_monitor.store.packing import bytes_of
from ha_monitor.store.results import Applied, Peer, Recovered, Rollback, Takeover, Ticked

Reply = TypeVar("Reply")

MERGE_GRACE, LONGEST_WAIT, LOOK_AGAIN = 1.0, 120.0, 1.0
"""Seconds; as in merged.lua and tick.lua."""


class MemoryStore:
    """See `api.Store`."""

    def __init__(self, server: MemoryServer, settings: StoreSettings) -> None:
        self.server = server
        self.settings = settings
        self._clock = server.clock
        self._lease = Lease(self._clock, settings.lease)
        self._progress = OutboxProgress()
        self._rollbacks = RollbackMemory()
        self._connected = False
        self._counts_changed = True
        self._in_flight: Batch | None = None

    @property
    def token(self) -> int:
        return self._lease.token

    @property
    def lease_until(self) -> float:
        return self._lease.until

    @property
    def connected(self) -> bool:
        return self._connected

    def connect(self) -> None:
        self._in_flight = None
        self._connected = self._counts_changed = True
        self.call("connect", lambda: None)

    def close(self) -> None:
        self._connected = False

    def repair(self, *, registered: bool) -> list[str]:
        return self.call("repair registered" if registered else "repair", list[str])

    def register(self, who: dict[str, Any]) -> None:
        def entered() -> int:
            server, known, told = self.server, self._rollbacks.known, None
            if server.last_token < self.token:
                told = server.note_rollback(known, max(0.0, server.ticked_at), 0)
            self._rollbacks.registered(_reply(max(server.went_back_at, known), told))
            return server.enter(MemoryInstance(who, self._next_lease(), self._lease.duration))

        asked = self._clock.monotonic()
        token = self.call("register", entered)
        self._progress.start_anew()
        self._lease.granted(token, asked)

    def recover(self) -> Recovered:
        def moved(own: MemoryInstance) -> tuple[int, Recovered]:
            del self.server.instances[self.token]
            own.lease_until = self._next_lease()
            first = own.behind - len(own.outbox)
            items = [OutboxItem(first + number, entry) for number, entry in enumerate(own.outbox)]
            return self.server.enter(own), Recovered(items, own.behind)

        asked = self._clock.monotonic()
        token, recovered = self.own_call("recover", moved)
        self._lease.granted(token, asked)
        return recovered

    def announced(self, upto: int) -> None:
        self._progress.announce(upto)

    def send_apply(self, batch: Batch) -> None:
        if not self._connected:
            raise StoreUnavailable("not connected")
        try:
            self.server.trouble("before send")
        except StoreUnavailable:
            self.close()
            raise
        self._in_flight = batch

    def receive_apply(self) -> Applied:
        batch, self._in_flight = self._in_flight, None
        if batch is None:
            raise StoreUnavailable("no batch was handed over")
        return self.own_call("apply", lambda own: self._merge(own, batch))

    def tick(
        self,
        stats: bytes,
        rejected: Sequence[bytes],
        *,
        eligible: bool,
        watermark_age: float | None,
        requeued: bool,
    ) -> Ticked:
        def ticked(own: MemoryInstance) -> Ticked:
            now = self._clock.time()
            server = self.server
            own.lease_until, own.seen, own.stats = self._next_lease(), now, json.loads(stats)
            if watermark_age is not None:
                own.merged_until = now - watermark_age
            if requeued:
                server.requeued_at = now
            server.rejected[:0] = rejected
            step = server.tick(self.settings.name_wait)
            leads, followed = self._elect(now, eligible=eligible)
            due = self._waited(now)
            due += [entry for at, entry in server.retries if at <= now]
            server.retries = [one for one in server.retries if one[0] > now]
            left, taken = self._take_over(now) if self._lease.may_take_over() else ([], [])
            # What has waited for its time and not long enough: others have to merge first.
            waits = [
                task.announce_until if task.announce_until > now else now + LOOK_AGAIN
                for task in server.tasks.values()
                if task.announce_until is not None
            ]
            waits += [at for at, _ in server.retries]
            next_due = max(0.0, min(waits) - now) if waits else None
            items = own.push(due + left, recovered=len(left))
            return Ticked(items, next_due, taken, leads, followed, clock_step=step)

        asked = self._clock.monotonic()
        result = self.own_call("tick", ticked)
        self._lease.renewed(asked)
        return result

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        def recorded(own: MemoryInstance) -> None:
            if upto > own.behind - len(own.outbox):
                now = self._clock.time()
                self.server.retries += [(now + delay / 1000, read_entry(entry)) for delay, entry in retries]
                self.server.dead_letters[:0] = dead
                del self.server.dead_letters[keep:]
                own.trim(upto)

        self.own_call("record_outcome", recorded)
        self._progress.confirm_upto(upto)

    def flush(self) -> None:
        if not self._progress.is_confirmed:
            self.record_outcome(self._progress.announced, [], [], 1_000_000)

    def unregister(self) -> int:
        def left(own: MemoryInstance) -> int:
            self.server.requeued_at = self._clock.time()
            own.lease_until = 0.0
            if not own.outbox:
                del self.server.instances[self.token]
            return len(own.outbox)

        count = self.own_call("unregister", left) if self.token in self.server.instances else 0
        self._lease.given_up()
        return count

    def holds_lease(self) -> bool:
        return self._lease.holds()

    @property
    def counts_changed(self) -> bool:
        return self._counts_changed

    def peers(self) -> list[Peer]:
        def living() -> list[Peer]:
            now = self._clock.time()
            others = self.server.instances.items()
            return [Peer(key, one.stats) for key, one in others if key != self.token and one.lease_until > now]

        return self.call("peers", living)

    def risks(self) -> list[str]:
        return self.call("risks", lambda: list(self.server.risks))

    def counts(self) -> Counts:
        counts = self.call("counts", Counts)
        self._counts_changed = False
        return counts

    # --- for the parts beside it -----------------------------------------------------------

    def call(self, name: str, work: Callable[[], Reply]) -> Reply:
        """Make a call: `StoreUnavailable` closes the connection, as it does with Redis."""
        if not self._connected:
            raise StoreUnavailable("not connected")
        try:
            self.server.trouble(f"before {name}")
            reply = work()
            self.server.trouble(f"after {name}")
        except StoreUnavailable:
            self.close()
            raise
        self._lease.replied()
        return reply

    def own_call(self, name: str, work: Callable[[MemoryInstance], Reply]) -> Reply:
        """Make a call that needs this instance's lease, and tells what it has announced."""

        def checked() -> Reply:
            own = self.server.instances.get(self.token)
            if own is None:
                raise LeaseLost("the lease of this instance expired and another one took over")
            own.trim(self._progress.announced)
            server, lost, told = self.server, self._rollbacks.calls - own.calls, None
            if lost > 0:
                told = server.note_rollback(self._rollbacks.known, own.seen, lost)
            own.calls = max(own.calls, self._rollbacks.calls) + 1
            server.went_back_at = max(server.went_back_at, self._rollbacks.known)
            self._rollbacks.confirmed([own.calls, *_reply(server.went_back_at, told)])
            return work(own)

        self._progress.tell()
        reply = self.call(name, checked)
        self._progress.confirm()
        return reply

    @property
    def went_back_at(self) -> float:
        return self._rollbacks.known / 1000

    def take_rollback(self) -> Rollback | None:
        return self._rollbacks.take()

    def restore_counts(self, counts: Mapping[bytes, int]) -> None:
        pass  # it counts nothing

    def counted(self) -> None:
        """A duty has counted something."""
        self._counts_changed = True

    def leads(self) -> bool:
        return self.server.leader == self.token

    def _next_lease(self) -> float:
        return self._clock.time() + self._lease.duration

    def _merge(self, own: MemoryInstance, batch: Batch) -> Applied:
        """Compute first, then write: what raises on the way has changed nothing."""
        server, now = self.server, self._clock.time()
        is_left = server.most_tasks is not None and len(batch.tasks) > server.most_tasks
        tasks: dict[str, MemoryTask] = {}
        entries: list[Entry] = []
        others: set[bytes] = set()
        new = repeated = 0
        for task_id, facts in islice(batch.tasks.items(), server.most_tasks):
            task = tasks[task_id] = server.tasks[task_id].copy() if task_id in server.tasks else MemoryTask()
            merged = sum([task.merge(fact, now) for fact in facts])
            new, repeated = new + merged, repeated + len(facts) - merged
            entries += task.announce(self.settings.name_wait)
        apart = [(fact[1], fact[4]) for fact in batch.workers] + [(fact[0], fact[1]) for fact in batch.others]
        for raw_id, payload in () if is_left else apart:
            identity = bytes_of(raw_id)
            if identity in server.others or identity in others:
                repeated += 1
                continue
            others.add(identity)
            new += 1
            if payload is not None:
                entries.append(Entry(0, read_event(bytes_of(payload)), None, False))
        self._counts_changed = self._counts_changed or new > 0
        server.tasks.update(tasks)
        server.others |= others
        if not is_left:
            server.workers.update({fact[0]: (now, fact[3]) for fact in batch.workers})
        for fact in (fact for task_id in tasks for fact in batch.tasks[task_id]):
            if fact[1] not in (Code.SENT, Code.OTHER) and fact[3]:
                server.workers[fact[3]] = (now, server.workers.get(fact[3], (now, ""))[1])
        for task_id, (_, *stay) in list(server.found.items()):
            if task_id in tasks and tasks[task_id].phase() != tuple(stay):
                del server.found[task_id]
        waiting = sum(task.announce_until is not None for task in server.tasks.values())
        return Applied(own.push(entries), new, repeated, waiting, merged=len(tasks))

    def _elect(self, now: float, *, eligible: bool) -> tuple[bool, bool]:
        """Whether this instance leads, and whether it has just followed another."""
        server, leader = self.server, self.server.leader
        if leader == self.token:
            # A token that nobody has: whoever is next must know that it follows another.
            server.leader = leader if eligible else 0
            return eligible, False
        living = leader is not None and leader in server.instances and server.instances[leader].lease_until > now
        if not eligible or living:
            return False, False
        server.leader = self.token
        return True, leader is not None

    def _waited(self, now: float) -> list[Entry]:
        """What has waited enough: for its time, and until all have merged what they were given when it began to."""
        wait = self.settings.name_wait
        if wait:
            merged = self.server.merged_by_all() - MERGE_GRACE
            enough = max(now - LONGEST_WAIT, min(now - wait, merged))
        else:
            enough = now
        tasks = [task for task in self.server.tasks.values() if task.announce_until is not None]
        return [entry for task in tasks for entry in task.announce(wait, waited_enough=enough)]

    def _take_over(self, now: float) -> tuple[list[Entry], list[Takeover]]:
        left: list[Entry] = []
        taken = []
        for token, other in list(self.server.instances.items()):
            if token != self.token and other.lease_until <= now:
                left += other.outbox
                taken.append(Takeover(other.who, now - other.seen, len(other.outbox)))
                del self.server.instances[token]
        return left, taken


def _reply(at: int, told: list[int] | None) -> list[int | list[int]]:
    return [at] if told is None else [at, told]
