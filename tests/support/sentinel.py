"""A real Redis Sentinel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.process import OwnProcess, free_port, program, wait_until
from tests.support.services import PrivateRedis

SERVICE = "main"


@contextmanager
def sentinel_of(primary: PrivateRedis, folder: Path) -> Iterator[int]:
    """Port of a Sentinel that watches a Redis under the name `main`, alone: its word is enough for a fail-over."""
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
    )
    process = OwnProcess([program("redis-server"), str(configuration), "--sentinel"], folder / "log")
    try:
        wait_until(lambda: "+monitor" in process.output(), 30, "the sentinel watching")
        yield port
    finally:
        process.end()


@contextmanager
def replica_of(primary: PrivateRedis, sentinel: int) -> Iterator[PrivateRedis]:
    """A Redis that follows another one, and that the sentinel knows."""
    with PrivateRedis() as server, server.client() as client, redis.Redis(port=sentinel) as watcher:
        client.replicaof("127.0.0.1", str(primary.port))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replication")

        def is_known() -> bool:
            known = watcher.sentinel_slaves(SERVICE)
            return any(one["port"] == server.port and not one["is_disconnected"] for one in known)

        wait_until(is_known, 60, "the sentinel to know the replica")
        yield server


def fail_over(sentinel: int) -> None:
    """As an operator does; returns at once."""
    with redis.Redis(port=sentinel) as watcher:
        watcher.execute_command("SENTINEL", "FAILOVER", SERVICE)
