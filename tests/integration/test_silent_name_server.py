"""An instance whose name server does not answer: a library that resolves a name blocks for many seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from ha_monitor.store.keys import Keys
from tests.support.machine import patient
from tests.support.process import wait_until

ADDRESS = ("127.0.0.66", 53)
NODE = "silent"
LEASE = 1.0

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root for a resolv.conf of its own"
)


@pytest.fixture
def name_server(tmp_path: Path) -> Iterator[socket.socket]:
    """Takes questions, and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(ADDRESS)
        server.settimeout(patient(30))
        (tmp_path / "resolv.conf").write_text(f"nameserver {ADDRESS[0]}\n")
        yield server


@contextmanager
def instance(folder: Path, broker: str, store: str) -> Iterator[subprocess.Popen[str]]:
    settings = {"node_id": NODE, "broker_url": broker, "store_url": store, "store_lease": LEASE}
    settings |= {"store_timeout": LEASE / 2, "broker_connect_timeout": LEASE / 2}
    own = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", own, str(folder / "resolv.conf"), sys.executable, "-m", "ha_monitor", "run"],
        env=os.environ | {f"HA_MONITOR_{key.upper()}": str(value) for key, value in settings.items()},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_at_the_end(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What it has written until it was told to stop, and has stopped."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=patient(30))
    return [json.loads(line) for line in said.splitlines()]


def test_the_lease_is_kept_while_the_brokers_name_is_looked_up(
    store_url: str, name_server: socket.socket, tmp_path: Path
) -> None:
    """Given a silent name server for the broker, the lease is renewed for more than its length while the question is
    open; and a stop does not wait for the answer, and gives the lease up."""
    keys = Keys("ha-monitor", NODE)
    client: Any = redis.Redis.from_url(store_url, decode_responses=True)

    def calls() -> int:
        tokens = client.zrange(keys.leases, 0, -1)
        return int(client.hget(keys.instance(int(tokens[0])), "calls") or 0) if tokens else 0

    with instance(tmp_path, "amqp://guest:guest@rabbit.test//", store_url) as process:
        name_server.recv(512)
        asked_at = calls()
        wait_until(lambda: calls() >= asked_at + 7, 10, "ticks for longer than a lease")
        assert client.zcard(keys.leases) == 1
        lines = lines_at_the_end(process)

    assert [line["event"] for line in lines] == ["instance-started", "store-connected", "instance-stopped"]
    assert client.zcard(keys.leases) == 0
    assert process.returncode == 0


def test_a_stop_does_not_wait_for_the_stores_name(name_server: socket.socket, tmp_path: Path) -> None:
    """Given a silent name server for the store, the loop goes round meanwhile: it hears of a stop, and stops."""
    with instance(tmp_path, "amqp://guest:guest@rabbit.test//", "redis://redis.test/0") as process:
        name_server.recv(512)
        lines = lines_at_the_end(process)

    assert [line["event"] for line in lines] == ["instance-started", "instance-stopped"]
    assert process.returncode == 0
