"""The store behind a real Redis Sentinel."""

from __future__ import annotations

from pathlib import Path

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.store.sentinel import SentinelWatch
from ha_monitor.store.store import RedisStore
from tests.support.process import wait_until
from tests.support.sentinel import fail_over, replica_of, sentinel_of
from tests.support.services import PrivateRedis
from tests.unit.builders import TurnedClock


def test_the_primary_is_found_by_a_sentinel(redis_server: PrivateRedis, sentinel: int) -> None:
    """Given a sentinel that watches a Redis, an instance that knows only the sentinel registers in that Redis."""
    store = RedisStore(StoreSettings(url=f"sentinel://127.0.0.1:{sentinel}/main/9"), "sentinel", SystemClock())
    store.connect()
    store.register({"instance": "1"})
    with redis_server.client(9) as client:
        assert client.exists(f"{{ha-monitor:sentinel}}:instance:{store.token}") == 1
    assert store.unregister() == 0


def test_an_instance_leaves_a_primary_that_the_sentinels_replaced(own_redis: PrivateRedis, tmp_path: Path) -> None:
    """Given a fail-over by hand, an instance goes to the new primary while the old one still takes writes."""
    with sentinel_of(own_redis, tmp_path) as sentinel, replica_of(own_redis, sentinel) as replica:
        store = RedisStore(StoreSettings(url=f"sentinel://127.0.0.1:{sentinel}/main"), "sentinel", SystemClock())
        store.connect()
        store.register({"instance": "1"})
        with replica.client() as client:
            wait_until(lambda: client.exists(store.keys.instance(store.token)), what="the replica to have it")
        fail_over(sentinel)

        def leaves() -> bool:
            try:
                store.tick(b"{}", [])
            except StoreUnavailable as error:
                return f"another primary now: 127.0.0.1:{replica.port}" in str(error)
            return False

        wait_until(leaves, 60, "the instance to leave the old primary", 0.1)
        with own_redis.client() as client:
            assert client.info("replication")["role"] == "master", "the old one was turned away first: no proof"
        store.connect()
        store.recover()
        assert store.unregister() == 0


def test_a_sentinel_that_does_not_answer_costs_nothing() -> None:
    """Given sentinels that cannot be reached, nothing is known, and each is tried some seconds after the other."""
    clock = TurnedClock()
    watch = SentinelWatch([("127.0.0.1", 1), ("127.0.0.1", 2)], "main", clock)

    assert [watch.primary() for _ in range(3)] == [None] * 3
    assert watch._turn == 1
    clock.now += 5
    assert watch.primary() is None
    assert watch._turn == 2
