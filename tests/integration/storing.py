"""Instances without a broker: stores on a real Redis, and a look into what they keep there."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from functools import partial
from struct import Struct
from typing import Any

import msgspec
import redis

from ha_monitor.config.schema import StoreSettings, StuckSettings
from ha_monitor.events.decode import Batch
from ha_monitor.pipeline.collector import split
from ha_monitor.store.keys import Keys
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.record import Facts, TaskRecord, record_of
from ha_monitor.store.results import Applied, Counting, Ticked
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import first_look
from tests.support.machine import patient
from tests.support.merging import merged
from tests.unit.builders import TurnedClock, decode

NODE = "tests"
LEASE = 100.0
BEAT = Struct(">dddd")
"""A heartbeat, as `merge/activity.lua` keeps it."""
UNPACK = """
local raw = redis.call('GET', KEYS[1])
if not raw then return false end
local facts, seen, written, waiting = cmsgpack.unpack(raw)
if written ~= true then waiting = written end
return { cmsgpack.pack(facts), seen, waiting and #waiting or 0 }
"""


def settings(url: str, **changes: Any) -> StoreSettings:
    """Settings under which nothing happens by the passing of real time alone."""
    return StoreSettings(**{"url": url, "lease": LEASE, "timeout": patient(5), "name_wait": 0.0, **changes})


UNMARK = """
local facts, seen, _, waiting = cmsgpack.unpack(redis.call('GET', KEYS[1]))
for key, value in pairs(cmsgpack.unpack(ARGV[1])) do facts[key] = value end
redis.call('SET', KEYS[1], cmsgpack.pack(facts, seen, waiting), 'KEEPTTL')
"""
MOVE_WAIT = """
local by = tonumber(ARGV[1])
local facts, seen, written, waiting, uncounted = cmsgpack.unpack(redis.call('GET', KEYS[1]) or cmsgpack.pack({}))
if not seen then return end
if written ~= true then waiting, uncounted = written, waiting end
for _, entry in ipairs(waiting or {}) do entry[4] = by and entry[4] + by or 1 end
for _, entry in ipairs(facts.gw or {}) do entry[5] = by and entry[5] + by or 1 end
for _, entry in ipairs(uncounted or {}) do entry[5] = by and entry[5] + by or 1 end
local value = (next(facts) and cmsgpack.pack(facts) or '\\128') .. cmsgpack.pack(seen, waiting or {})
redis.call('SET', KEYS[1], value .. (uncounted and cmsgpack.pack(uncounted) or ''), 'KEEPTTL')
"""


class Instance:
    """A store with what came out of it."""

    def __init__(
        self,
        url: str,
        *,
        counting: Counting | None = None,
        stuck: StuckSettings | None = None,
        requeue_delay: float = 0.0,
        **changes: Any,
    ) -> None:
        self.clock = TurnedClock()
        self.settings = settings(url, **changes)
        looks = None if stuck is None else first_look(stuck)
        self._new = partial(
            RedisStore, self.settings, NODE, self.clock, requeue_delay, counting=counting, first_look=looks
        )
        self.store = self._new()
        self.emitted: list[OutboxItem] = []

    def start(self) -> Instance:
        self.store.connect()
        self.store.register({"instance": "1", "host": "host", "pid": 1})
        return self

    def begin_anew(self) -> None:
        """As a process that has just been started."""
        self.store.close()
        self.store = self._new()
        self.emitted.clear()
        self.start()

    def apply(self, *bodies: Any, announce: bool = True) -> Applied:
        return self.apply_batch(decode(*bodies), announce=announce)

    def apply_batch(self, batch: Batch, *, announce: bool = True) -> Applied:
        """Merge a batch; returns what its last call brought, and what the first did without that did."""
        trouble = ""
        for applied in merged(self.store, batch):
            trouble = trouble or applied.trouble
            if announce:
                self.announce(applied.items)
        return applied._replace(trouble=trouble)

    def apply_batches(self, batches: Iterable[Batch], ahead: int) -> None:
        """Merge batches, of which so many are under way at most, as the loop does."""
        sent: deque[Batch] = deque()
        for batch in batches:
            self.store.send_apply(batch)
            sent.append(batch)
            if len(sent) == ahead:
                self._take_answer(sent)
        while sent:
            self._take_answer(sent)

    def _take_answer(self, sent: deque[Batch]) -> None:
        batch = sent.popleft()
        applied = self.store.receive_apply()
        self.announce(applied.items)
        if applied.merged == len(batch.tasks):
            return
        # On a busy machine a call ends early; what was under way behind it has merged nothing.
        left = [split(batch, applied.merged)[1], *sent]
        for _ in sent:
            assert self.store.receive_apply().merged == -1
        sent.clear()
        for batch in left:
            self.apply_batch(batch)

    def tick(self, *rejected: bytes, announce: bool = True) -> Ticked:
        ticked = self.store.tick(b"{}", list(rejected), watermark_age=0.0)
        if announce:
            self.announce(ticked.items)
        return ticked

    def recover(self) -> list[OutboxItem]:
        self.store.close()
        self.store.connect()
        items = self.store.recover().items
        self.announce(items)
        return items

    def announce(self, items: list[OutboxItem]) -> None:
        self.emitted += items
        if items:
            self.store.announced(items[-1].sequence + 1)

    def stay_in_contact(self) -> Ticked:
        """Be in contact for a whole lease, after which it may take others over; returns the last tick."""
        for _ in range(3):
            self.clock.now += self.settings.lease * 0.4
            ticked = self.tick()
        return ticked

    @property
    def types(self) -> list[str]:
        """The types of the events it announced."""
        return [item.entry.event.type for item in self.emitted]


class Inside:
    """Looks into Redis, and makes time pass there."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(url)
        """Not typed: the client's types name whatever a command could return under any protocol."""
        self.keys = Keys("ha-monitor", NODE)
        self._unpack = self.redis.register_script(UNPACK)
        self._move_wait = self.redis.register_script(MOVE_WAIT)

    def record(self, uuid: str) -> tuple[dict[str, Any], bytes, int]:
        """(facts, ids seen, number of announcements that wait) of a task."""
        packed, seen, waiting = self._unpack(keys=[self.keys.task(uuid)])
        # cmsgpack writes an empty table as an array.
        return msgspec.msgpack.decode(packed) or {}, seen, waiting

    def unmark(self, uuid: str, **facts: Any) -> None:
        """Write a record as something else would, with such facts."""
        self.redis.eval(UNMARK, 1, self.keys.task(uuid), msgspec.msgpack.encode(facts))

    def task(self, uuid: str) -> TaskRecord:
        return record_of(uuid, msgspec.convert(self.record(uuid)[0], Facts))

    def ttl(self, key: str) -> int:
        return self.redis.ttl(key)

    def let_lease_end(self, token: int) -> None:
        """As if the lease's time were over."""
        self.redis.zadd(self.keys.leases, {str(token): 1}, xx=True)

    def outbox(self, token: int) -> int:
        return self.redis.llen(self.keys.outbox(token))

    def put_clock_back(self, seconds: float) -> None:
        """As if Redis's clock were put back: all that it wrote lies that much further ahead."""
        keys, by = self.keys, int(seconds * 1000)
        for member in self.redis.zrange(keys.waiting, 0, -1):
            self._move_wait(keys=[keys.task("").encode() + member], args=[by])
        for key in (keys.leases, keys.waiting, keys.retries, keys.open, keys.workers, keys.processes):
            for member, at in self.redis.zrange(key, 0, -1, withscores=True):
                self.redis.zadd(key, {member: at + by})
        for key in (keys.clock, keys.requeued, keys.errors_since):
            if (at := self.redis.get(key)) is not None:
                self.redis.set(key, int(at) + by)
        for key in self.redis.scan_iter(keys.prefix + "instance:*"):
            if (at := self.redis.hget(key, "merged")) is not None:
                self.redis.hset(key, "merged", int(at) + by)
        for key in self.redis.scan_iter(keys.prefix + "g:*"):
            facts, text = msgspec.msgpack.decode(self.redis.get(key))
            facts |= {name: facts[name] + by for name in ("ra", "iu") if name in facts}
            self.redis.set(key, msgspec.msgpack.encode([facts, text]), keepttl=True)
        for key in self.redis.scan_iter(keys.prefix + "b:*"):
            beats = [[at, runs, came + by, last] for at, runs, came, last in BEAT.iter_unpack(self.redis.get(key))]
            self.redis.set(key, b"".join(BEAT.pack(*beat) for beat in beats))

    def now(self) -> float:
        """By Redis's clock."""
        seconds, microseconds = self.redis.time()
        return float(seconds + microseconds / 1e6)

    def let_wait_end(self) -> None:
        """As if the time of all that waits were over."""
        for member in self.redis.zrange(self.keys.waiting, 0, -1):
            with contextlib.suppress(redis.ResponseError):  # a record that is broken has nothing that waits
                self._move_wait(keys=[self.keys.task("").encode() + member], args=["to its end"])
        for key in (self.keys.waiting, self.keys.retries):
            for member in self.redis.zrange(key, 0, -1):
                self.redis.zadd(key, {member: 1})
