"""The store in memory has the guarantees that Redis has, so that what the loop does with it means something."""

from __future__ import annotations

from typing import Any

import pytest

from ha_monitor.config.schema import Config, StoreSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.error_groups import ErrorMarks
from ha_monitor.store.memory.errors import MemoryErrorMarks
from ha_monitor.store.memory.incidents import MemoryIncidents
from ha_monitor.store.memory.queries import MemoryQueries
from ha_monitor.store.memory.record import memory_record
from ha_monitor.store.memory.schedules import MemorySchedules
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.memory.tail import MemoryTail
from ha_monitor.store.queries import Queries
from ha_monitor.store.tail import Tail
from tests.support.store_contract import LEASE, WATCHING, StoreContract, life, merge, started, tick, types
from tests.unit.builders import TurnedClock, decode, event


class MemoryBed:
    """See `store_contract.Bed`."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.server = MemoryServer(self.clock)
        self._kept: dict[str, Any] = {}

    def record(self, *, name_wait: float = 0.0, detail_ttl: float = 0.0) -> SharedRecord:
        return memory_record(
            self.server, Config(store=StoreSettings(lease=LEASE, name_wait=name_wait, detail_ttl=detail_ttl))
        )

    def queries(self) -> Queries:
        return MemoryQueries(self.server)

    def let_lease_end(self, token: int) -> None:
        self.server.instances[token].lease_until = 0.0

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def let_wait_end(self) -> None:
        now = self.clock.time()
        for task in self.server.tasks.values():
            task.let_wait_end()
        self.server.retries = [(now, entry) for _, entry in self.server.retries]

    def let_details_expire(self) -> None:
        for task in self.server.tasks.values():
            task.shrinks_at = None if task.shrinks_at is None else 0.0

    def put_clock_back(self, seconds: float) -> None:
        self.clock.put_back += seconds

    def let_time_pass(self, seconds: float) -> None:
        self.clock.now += seconds

    def keep(self) -> None:
        self._kept = self.server.state()

    def put_back(self) -> None:
        self.server.go_back(self._kept)

    def delete_all(self) -> None:
        self.server.go_back(MemoryServer(self.clock).state())

    def now(self) -> float:
        return self.server.clock.time()

    def error_marks(self) -> ErrorMarks:
        return MemoryErrorMarks(self.server)

    def incidents(self) -> MemoryIncidents:
        return MemoryIncidents(self.server)

    def schedules(self) -> MemorySchedules:
        return MemorySchedules(self.server)

    def tail(self) -> Tail:
        return MemoryTail(self.server)

    def let_wish_end(self) -> None:
        self.server.tail_wanted_until = 0.0


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestMemoryStore(StoreContract):
    """The contract."""


def test_after_a_rollback_a_worker_is_lost_when_it_has_been_silent_since(bed: MemoryBed) -> None:
    """Given a record that went back, a worker that says no more is lost when it has been silent for so long since."""
    one = started(bed)
    merge(one, decode(event("worker-heartbeat")))
    tick(one, eligible=True)
    bed.keep()
    merge(one, decode(event("worker-heartbeat", clock=2)))
    bed.clock.now += WATCHING.lost_after - 1
    bed.put_back()

    def announced() -> list[str]:
        tick(one, eligible=True)
        watched = one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
        assert watched is not None
        return types(watched.items)

    assert announced() == []
    bed.clock.now += 2
    assert announced() == []
    bed.clock.now += WATCHING.lost_after
    assert announced() == ["worker-lost"]


def test_a_merge_that_fails_half_way_changes_nothing(bed: MemoryBed) -> None:
    """Given a batch whose second task cannot be merged, nothing of the first is, and it can be merged later."""
    one = started(bed)
    batch = decode(*life("a"), *life("b"))
    batch.tasks["b"][1] = ["broken"]
    with pytest.raises(IndexError):
        merge(one, batch)

    assert bed.server.tasks == {}
    assert len(merge(one, decode(*life("a")))) == 3


@pytest.mark.parametrize(("moment", "merged"), [("before send", 0), ("before apply", 0), ("after apply", 3)])
def test_the_store_may_go_away_at_each_step_of_a_merge(bed: MemoryBed, moment: str, merged: int) -> None:
    """Given a store that goes away before, during or after a merge, the connection is closed, and what was merged is in
    the outbox."""
    one = started(bed)

    def away(now: str) -> None:
        if now == moment:
            raise StoreUnavailable(now)

    bed.server.trouble = away
    with pytest.raises(StoreUnavailable, match=moment):
        merge(one, decode(*life("a")))

    assert not one.store.connected
    bed.server.trouble = lambda _moment: None
    one.store.dial().use()
    assert len(one.store.recover().items) == merged
    assert len(merge(one, decode(*life("a")))) == 3 - merged


def test_workers_that_fall_silent_together_are_lost_in_one_event(bed: MemoryBed) -> None:
    """Given two workers that are silent, the leader sees how many and for how long, and announces both in one event if
    it is told that they belong together."""
    one = started(bed)
    tick(one, eligible=True)
    merge(one, decode(*(event("worker-heartbeat", hostname=name) for name in ("a@host", "b@host"))))
    bed.clock.now += WATCHING.lost_after + 1
    watched = one.duties.watch(WATCHING, [], may_declare_lost=False)
    assert watched is not None
    assert (watched.items, watched.silent.workers) == ([], 2)
    assert watched.silent.least > WATCHING.lost_after
    watched = one.duties.watch(WATCHING, [], may_declare_lost=True, together=True, watermark=(0.0, 0.0))
    assert watched is not None

    assert types(watched.items) == ["workers-lost"]
    assert watched.items[0].entry.event.fields["workers"] == ["a@host", "b@host"]
    assert watched.silent.workers == 0


def test_a_worker_that_falls_silent_is_lost_and_comes_back_once(bed: MemoryBed) -> None:
    """Given a worker that is silent and speaks again, the leader announces each of that once."""
    one = started(bed)
    tick(one, eligible=True)
    merge(one, decode(event("worker-heartbeat")))

    def announced(*, may_declare_lost: bool = True, behind: float = 0.0) -> list[str]:
        watched = one.duties.watch(WATCHING, [], may_declare_lost=may_declare_lost, watermark=(behind, behind))
        assert watched is not None
        return types(watched.items)

    bed.clock.now += WATCHING.lost_after + 1
    assert announced(may_declare_lost=False) == announced(behind=2) == []
    assert (announced(), announced()) == (["worker-lost"], [])
    merge(one, decode(event("worker-heartbeat", clock=2)))
    assert (announced(), announced()) == (["worker-recovered"], [])
