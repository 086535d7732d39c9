"""The shared record as one instance uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from itertools import islice
from typing import Any, TypeVar

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.dialing import Dialed
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.decode import Batch
from ha_monitor.store.memory.counts import MemoryCounts
from ha_monitor.store.memory.merge import Sent, merge_batch
from ha_monitor.store.memory.server import MERGE_GRACE, REQUEUED_WITHIN, MemoryInstance, MemoryServer
from ha_monitor.store.outbox import Entry, OutboxItem, read_entry
from ha_monitor.store.own_state import WHY_LOST, Lease, OutboxProgress, RecentWork, RollbackMemory
from ha_monitor.store.results import Applied, Peer, Recovered, Rollback, StoreInfo, Takeover, Ticked

Reply = TypeVar("Reply")

_read_stats = msgspec.json.Decoder().decode
MAX_WAIT, LOOK_AGAIN = 120.0, 1.0
"""Seconds; as in tick.lua."""


class MemoryStore:
    """See `api.Store`."""

    def __init__(self, server: MemoryServer, settings: StoreSettings, clock: Clock | None = None) -> None:
        """:param clock: of the instance's host; None for the server's."""
        self.server = server
        self.settings = settings
        self._shrinks_after = settings.shrinks_after
        self._clock = clock or server.clock
        self._lease = Lease(self._clock, settings.lease)
        self._progress = OutboxProgress()
        self._rollbacks = RollbackMemory()
        self._recent: RecentWork[Batch] = RecentWork(self._clock)
        self._connected, self.served_since = False, 0
        self.counts = MemoryCounts(self)
        self._in_flight: deque[Sent] = deque()

    @property
    def token(self) -> int:
        return self._lease.token

    @property
    def lease_until(self) -> float:
        return self._lease.until

    @property
    def is_slow(self) -> bool:
        return self.server.is_slow

    @property
    def connected(self) -> bool:
        return self._connected

    def dial(self) -> Dialed[None]:
        def use() -> None:
            self._in_flight.clear()
            self._connected = self.counts.outdated = True
            self._lease.replied()

        self.server.trouble("before connect")
        self.server.trouble("after connect")
        return Dialed(use, lambda: None)

    def connect(self) -> None:
        self.dial().use()

    def close(self) -> None:
        self._connected = False

    def repair(self, *, registered: bool) -> list[str]:
        return self.call("repair registered" if registered else "repair", list[str])

    def register(self, who: dict[str, Any]) -> None:
        def entered() -> int:
            server, known, report = self.server, self._rollbacks.known, None
            taken_over = server.taken_over.get(self.token)
            if server.last_token < self.token:
                report = server.note_rollback(known, max(0.0, server.ticked_at), 0)
            elif taken_over and taken_over.calls < self._rollbacks.calls:
                report = server.note_rollback(known, taken_over.seen, self._rollbacks.calls - taken_over.calls)
            self._rollbacks.registered(_reply(max(server.went_back_at, known), report))
            seen = server.clock.time()
            return server.enter(MemoryInstance(who, self._next_lease(), self._lease.duration, seen=seen))

        asked = self._clock.monotonic()
        token = self.call("register", entered)
        self._progress.start_anew()
        self._lease.granted(token, asked)
        self.served_since = self.server.served[1]

    def recover(self) -> Recovered:
        def moved(own: MemoryInstance) -> tuple[int, Recovered]:
            del self.server.instances[self.token]
            own.lease_until, own.before = self._next_lease(), self.token
            first = own.next_sequence - len(own.outbox)
            items = [
                OutboxItem(number, entry, number < own.recovered_until)
                for number, entry in enumerate(own.outbox, first)
            ]
            call, taken = own.took
            return self.server.enter(own), Recovered(
                items, own.next_sequence, taken if call > self._rollbacks.calls else ()
            )

        asked = self._clock.monotonic()
        token, recovered = self.own_call("recover", moved)
        self._lease.granted(token, asked)
        self.served_since = self.server.served[1]
        return recovered

    def announced(self, upto: int, ids: Sequence[str] = ()) -> None:
        self._progress.announce(upto)
        self._recent.announced(ids)

    def send_apply(self, batch: Batch) -> None:
        if not self._connected:
            raise StoreUnavailable("not connected")
        try:
            self.server.trouble("before send")
        except StoreUnavailable:
            self.close()
            raise
        self._in_flight.append(Sent(batch, self._progress.announced, self._rollbacks.calls))
        if self.server.merges_early():
            self._merge_all()

    def answers_within(self, seconds: float) -> bool:
        if not self._connected:
            raise StoreUnavailable("not connected")
        if self.server.answers():
            return True
        self._clock.sleep(seconds)
        return False

    def receive_apply(self) -> Applied:
        if not self._in_flight:
            raise StoreUnavailable("no batch is in flight")
        sent = self._in_flight.popleft()
        applied = self.call("apply", lambda: self._answer(sent))
        self._progress.confirm_upto(sent.announced)
        if not applied.is_refused:
            self._recent.merged(sent.batch, sent.batch.byte_count)
        return applied

    def tick(
        self,
        stats: bytes,
        rejected: Sequence[bytes],
        *,
        eligible: bool,
        watermark_age: float | None,
        looked_at: float | None = None,
        requeued: bool,
    ) -> Ticked:
        looked_after = None if looked_at is None else self._lease.since_answer(looked_at)

        def ticked(own: MemoryInstance) -> Ticked:
            now = self.server.clock.time()
            server = self.server
            looked = now if looked_after is None else min(now, own.seen + looked_after)
            own.lease_until, own.seen, own.stats = self._next_lease(), now, _read_stats(stats)
            if watermark_age is not None:
                own.merged_until = looked - watermark_age
            if requeued:
                server.requeued_at = now + server.requeue_delay
            server.rejected[:0] = rejected
            step = server.tick(self.settings.name_wait)
            leads, followed = self._elect(now, eligible=eligible)
            due = self._waited(now, receives=eligible)
            due += [entry for at, entry in server.retries if at <= now]
            server.retries = [one for one in server.retries if one[0] > now]
            # As in tick.lua: after the store went back, living instances renew their leases first.
            may_take_over = self._lease.may_take_over() and not server.went_back_within(self._lease.duration)
            left, taken = self._take_over(now) if may_take_over else ([], [])
            if taken:
                own.took = own.calls, taken
            # It is due, but has not waited long enough: other instances must merge first.
            waits = [
                task.announce_until if task.announce_until > now else now + LOOK_AGAIN
                for task in server.waiting_tasks()
                if task.announce_until is not None
            ]
            waits += [at for at, _ in server.retries]
            next_due = max(0.0, min(waits) - now) if waits else None
            items = server.put(own, server.without_announced(due) + left, recovered=len(left))
            return Ticked(items, next_due, taken, leads, followed, clock_step=step)

        asked = self._clock.monotonic()
        result = self.own_call("tick", ticked)
        self._lease.renewed(asked)
        return result

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        def recorded(own: MemoryInstance) -> None:
            if upto > own.next_sequence - len(own.outbox):
                now = self.server.clock.time()
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
            server, now = self.server, self.server.clock.time()
            soon = now + max(MERGE_GRACE, min(REQUEUED_WITHIN, server.requeue_delay))
            if not soon <= server.requeued_at <= now + server.requeue_delay:
                server.requeued_at = soon
            own.lease_until = 0.0
            if not own.outbox:
                del self.server.instances[self.token]
            return len(own.outbox)

        count = self.own_call("unregister", left) if self.token in self.server.instances else 0
        self._lease.given_up()
        return count

    def holds_lease(self) -> bool:
        return self._lease.holds()

    def peers(self) -> list[Peer]:
        def living() -> list[Peer]:
            now = self.server.clock.time()
            others = self.server.instances.items()
            return [Peer(key, one.stats, one.who) for key, one in others if key != self.token and one.lease_until > now]

        return self.call("peers", living)

    def info(self) -> StoreInfo:
        return self.call("info", lambda: self.server.info)

    # --- for the parts beside it -----------------------------------------------------------

    def call(self, name: str, work: Callable[[], Reply]) -> Reply:
        """Make a call: `StoreUnavailable` closes the connection, as it does with Redis."""
        if not self._connected:
            raise StoreUnavailable("not connected")
        try:
            self.server.trouble(f"before {name}")
            if name != "apply":
                self._merge_all()  # batches were sent before
            reply = work()
            self.server.trouble(f"after {name}")
        except StoreUnavailable:
            self.close()
            raise
        self._lease.replied()
        return reply

    def own_call(self, name: str, work: Callable[[MemoryInstance], Reply]) -> Reply:
        """Make a call that needs this instance's lease, and tells what it has announced."""

        announced = self._progress.announced
        confirmed, reply = self.call(name, lambda: self._under_lease(announced, self._rollbacks.calls, work))
        self._rollbacks.confirmed(confirmed)
        self._progress.confirm_upto(announced)
        return reply

    def _under_lease(
        self, announced: int, calls: int, work: Callable[[MemoryInstance], Reply]
    ) -> tuple[Sequence[int | list[int]], Reply]:
        """What the store does in a call; returns the argument for `RollbackMemory.confirmed`, and the reply.

        :param announced: and :param calls: what the call tells the store, as of when it was made.
        """
        own = self.server.instances.get(self.token)
        if own is None:
            raise LeaseLost(WHY_LOST[self.server.why_lost(self.token)])
        own.trim(announced)
        server, lost, report = self.server, calls - own.calls, None
        if lost > 0:
            report = server.note_rollback(self._rollbacks.known, own.seen, lost)
        own.calls = max(own.calls, calls) + 1
        server.went_back_at = max(server.went_back_at, self._rollbacks.known)
        return [own.calls, *_reply(server.went_back_at, report)], work(own)

    def _merge_all(self) -> None:
        for sent in self._in_flight:
            self._merge_sent(sent)

    def _merge_sent(self, sent: Sent) -> None:
        if sent.reply is not None:
            return
        try:
            sent.reply = self._under_lease(
                sent.announced, sent.calls, lambda own: self._merge(own, sent.batch, sent.calls)
            )
        except LeaseLost as error:
            sent.reply = error

    def _answer(self, sent: Sent) -> Applied:
        self._merge_sent(sent)
        if sent.reply is None or isinstance(sent.reply, LeaseLost):
            raise sent.reply or AssertionError
        confirmed, applied = sent.reply
        self._rollbacks.confirmed(confirmed)
        return applied

    @property
    def went_back_at(self) -> float:
        return self._rollbacks.known / 1000

    def take_rollback(self) -> Rollback | None:
        return self._rollbacks.take()

    @property
    def needs_restore(self) -> bool:
        self._recent.store_went_back(self._rollbacks.known)
        return self._recent.must_repeat

    def restore(self) -> list[OutboxItem]:
        items: list[OutboxItem] = []

        def merge(batch: Batch) -> Batch | None:
            applied = self.own_call("apply", lambda own: self._merge(own, batch, own.calls))
            items.extend(applied.items)
            left = copy(batch)
            left.tasks = dict(islice(batch.tasks.items(), applied.merged, None))
            return left if left.tasks else None

        def note(ids: Sequence[str]) -> None:
            self.own_call("restore", lambda _: self.server.interrupted.update(ids))

        self._recent.repeat_some(note, merge)
        return items

    def leads(self) -> bool:
        return self.server.leader == self.token

    def _next_lease(self) -> float:
        return self.server.clock.time() + self._lease.duration

    def _merge(self, own: MemoryInstance, batch: Batch, calls: int) -> Applied:
        applied = merge_batch(self.server, own, batch, calls, self.settings.name_wait)
        for task in filter(None, map(self.server.tasks.get, batch.tasks)):
            task.shrink_later(self.server.clock.time(), self._shrinks_after)
        return applied

    def _elect(self, now: float, *, eligible: bool) -> tuple[bool, bool]:
        """Whether this instance leads, and whether it has just followed another."""
        server, leader = self.server, self.server.leader
        if leader == self.token:
            # A token that nobody has: the next leader must know that it follows another.
            server.leader = leader if eligible else 0
            return eligible, False
        living = leader is not None and leader in server.instances and server.instances[leader].lease_until > now
        if not eligible or living:
            return False, False
        server.leader = self.token
        return True, leader is not None

    def _waited(self, now: float, *, receives: bool) -> list[Entry]:
        """What has waited long enough: for its own time, and until all have merged what they had received when it
        began.

        :param receives: whether this instance receives what the broker holds.
        """
        wait, server, enough = self.settings.name_wait, self.server, now
        if wait:
            is_back = not server.went_back_within(max(server.requeue_delay, self._lease.duration))
            merged = server.merged_by_all() - MERGE_GRACE if is_back and (receives or not server.requeue_delay) else 0.0
            enough = max(now - MAX_WAIT, min(now - wait, merged))
        for task_id, task in server.tasks.items():
            server.group_errors(task_id, task, waited_enough=enough)
        waiting = server.waiting_tasks()
        return [entry for task in waiting for entry in task.announce(wait, now, waited_enough=enough)]

    def _take_over(self, now: float) -> tuple[list[Entry], list[Takeover]]:
        left: list[Entry] = []
        taken = []
        for token, other in list(self.server.instances.items()):
            if token != self.token and other.lease_until <= now:
                left += other.outbox
                taken.append(Takeover(other.who, now - other.seen, len(other.outbox)))
                self.server.taken_over_at = now
                del self.server.instances[token]
                self.server.taken_over[token] = other
        return left, taken


def _reply(at: int, report: list[int] | None) -> list[int | list[int]]:
    return [at] if report is None else [at, report]
