"""The store behind a real Redis Sentinel."""

from __future__ import annotations

from pathlib import Path

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Store as StoreSettings
from ha_monitor.store.store import Store
from tests.support.process import OwnProcess, free_port, program, wait_until
from tests.support.services import PrivateRedis


def test_the_primary_is_found_by_a_sentinel(redis_server: PrivateRedis, tmp_path: Path) -> None:
    """Given a sentinel that watches a Redis, an instance that knows only the sentinel registers in that Redis."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {redis_server.port} 1\n"
    )
    sentinel = OwnProcess([program("redis-server"), str(configuration), "--sentinel"], tmp_path / "log")
    try:
        wait_until(lambda: "+monitor" in sentinel.output(), 30, "the sentinel watching")
        store = Store(StoreSettings(url=f"sentinel://127.0.0.1:{port}/main/9"), "sentinel", SystemClock())
        store.connect()
        store.register({"instance": "1"})
        with redis_server.client(9) as client:
            assert client.exists(f"{{ha-monitor:sentinel}}:instance:{store.token}") == 1
        assert store.leave() == 0
    finally:
        sentinel.end()
