"""The store behind a real Redis Sentinel."""

from __future__ import annotations

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.store.store import RedisStore
from tests.support.services import PrivateRedis


def test_the_primary_is_found_by_a_sentinel(redis_server: PrivateRedis, sentinel: int) -> None:
    """Given a sentinel that watches a Redis, an instance that knows only the sentinel registers in that Redis."""
    store = RedisStore(StoreSettings(url=f"sentinel://127.0.0.1:{sentinel}/main/9"), "sentinel", SystemClock())
    store.connect()
    store.register({"instance": "1"})
    with redis_server.client(9) as client:
        assert client.exists(f"{{ha-monitor:sentinel}}:instance:{store.token}") == 1
    assert store.unregister() == 0
