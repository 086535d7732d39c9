"""The store in Redis keeps the contract that the loop leans on, and that the one in memory keeps, too."""

from __future__ import annotations

import time

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.incidents.catalogue import KINDS
from ha_monitor.incidents.lifecycle import advance
from ha_monitor.incidents.rules import RuleResults
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.duties import Duties
from ha_monitor.store.error_groups import ErrorMarks
from ha_monitor.store.queries import Queries
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.redis_incidents import RedisIncidents
from ha_monitor.store.redis_schedules import RedisSchedules
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import RedisOpenTasks, first_look
from ha_monitor.store.tail import Tail
from tests.integration.faulty_scripts import Snapshot
from tests.integration.storing import NODE, Inside, settings
from tests.support.store_contract import DETAIL_TTL, LEASE, StoreContract, opened, started, tick
from tests.unit.builders import TurnedClock


class RedisBed:
    """See `store_contract.Bed`."""

    def __init__(self, url: str) -> None:
        self.clock = TurnedClock()
        self._url = url
        self._inside = Inside(url)

    def record(self, *, name_wait: float = 0.0, detail_ttl: float = 0.0) -> SharedRecord:
        stuck = StuckSettings()
        chosen = settings(self._url, lease=LEASE, name_wait=name_wait, detail_ttl=detail_ttl)
        store = RedisStore(chosen, NODE, self.clock, first_look=first_look(stuck))
        return SharedRecord(
            store,
            Duties(store),
            RedisOpenTasks(store, stuck),
            RedisAttempts(store),
            RedisDeliveries(store),
        )

    def queries(self) -> Queries:
        reader = StoreReader(settings(self._url), NODE)
        reader.connect()
        return reader.queries

    def let_lease_end(self, token: int) -> None:
        self._inside.let_lease_end(token)

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)  # Redis has a clock of its own
        self.clock.now += seconds

    def let_wait_end(self) -> None:
        self._inside.let_wait_end()

    def let_details_expire(self) -> None:
        client = self._inside.redis
        for key in client.keys(self._inside.keys.task("*")):
            if client.ttl(key) <= DETAIL_TTL:
                client.delete(key)

    def put_clock_back(self, seconds: float) -> None:
        self._inside.put_clock_back(seconds)

    def let_time_pass(self, seconds: float) -> None:
        self._inside.put_clock_back(-seconds)
        self.clock.now += seconds

    def keep(self) -> None:
        self._kept = Snapshot(self._inside.redis)

    def put_back(self) -> None:
        self._kept.restore()

    def delete_all(self) -> None:
        self._inside.redis.flushdb()

    def now(self) -> float:
        return self._inside.now()

    def error_marks(self) -> ErrorMarks:
        reader = StoreReader(settings(self._url), NODE)
        reader.connect()
        return reader.error_marks

    def incidents(self) -> RedisIncidents:
        reader = StoreReader(settings(self._url), NODE)
        reader.connect()
        return reader.incidents

    def schedules(self) -> RedisSchedules:
        reader = StoreReader(settings(self._url), NODE)
        reader.connect()
        return reader.schedules

    def tail(self) -> Tail:
        reader = StoreReader(settings(self._url), NODE)
        reader.connect()
        return reader.tail(self.clock)

    def let_wish_end(self) -> None:
        self._inside.redis.delete(self._inside.keys.tail_wanted)


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


class TestRedisStore(StoreContract):
    """The contract."""


def test_an_incident_that_cannot_be_read_is_listed_by_nobody_and_removed_by_the_leader(bed: RedisBed) -> None:
    """Given something else among the incidents, whoever asks does not see it, and the leader gets its id."""
    record = started(bed)
    assert tick(record, eligible=True).leads
    record.duties.incidents(opened("a"))
    key = bed._inside.keys.incidents
    bed._inside.redis.hset(key, mapping={"x": "{", "y": b"\xff", "z": '{"id": 1}'})

    kept = bed.incidents().kept()

    assert [one.id for one in bed.incidents().incidents()] == ["a"]
    assert sorted(advance(kept, RuleResults([], frozenset(KINDS)), bed.now()).removed) == ["x", "y", "z"]
