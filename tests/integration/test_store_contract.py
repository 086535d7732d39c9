"""The store in Redis keeps the contract that the loop leans on, and that the one in memory keeps, too."""

from __future__ import annotations

import time

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.duties import Duties
from ha_monitor.store.error_groups import ErrorMarks
from ha_monitor.store.queries import Queries
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import RedisOpenTasks, first_look
from ha_monitor.store.tail import Tail
from tests.integration.faulty_scripts import Snapshot
from tests.integration.storing import NODE, Inside, settings
from tests.support.store_contract import LEASE, StoreContract
from tests.unit.builders import TurnedClock


class RedisBed:
    """See `store_contract.Bed`."""

    def __init__(self, url: str) -> None:
        self.clock = TurnedClock()
        self._url = url
        self._inside = Inside(url)

    def record(self, *, name_wait: float = 0.0) -> SharedRecord:
        stuck, chosen = StuckSettings(), settings(self._url, lease=LEASE, name_wait=name_wait)
        store = RedisStore(chosen, NODE, self.clock, first_look=first_look(stuck))
        return SharedRecord(
            store, Duties(store), RedisOpenTasks(store, stuck), RedisAttempts(store), RedisDeliveries(store)
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
