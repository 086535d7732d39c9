"""What the benchmarks stand on: private services, and processes whose cost is measured from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from tests.support.services import PrivateRabbitMQ, PrivateRedis, wait_until

ROOT = Path(__file__).resolve().parents[1]


class Services(NamedTuple):
    """A broker and a store of the benchmark's own."""

    rabbitmq: PrivateRabbitMQ
    redis: PrivateRedis

    @contextlib.contextmanager
    def vhost(self, name: str) -> Iterator[str]:
        """The URL of a new virtual host, deleted afterwards with its queues."""
        url = self.rabbitmq.add_vhost(name)
        try:
            yield url
        finally:
            self.rabbitmq.delete_vhost(name)


class Measured:
    """A process whose lines are counted and whose CPU time is read from outside."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str] | None = None, folder: str | None = None
    ) -> None:
        """:param folder: in which it runs, and whose modules it imports first."""
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._usage = psutil.Process(self._process.pid)
        self.data: list[tuple[float, bytes]] = []
        """Pieces of the output, and when each was read."""
        self._keep = False
        self.lines = 0
        self.last_line = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def keep_output(self) -> None:
        """From now on keep what is read, for a look at the lines themselves."""
        self._keep = True

    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        used = self._usage.cpu_times()
        return float(used.user + used.system)

    def memory(self) -> float:
        """Resident megabytes."""
        return float(self._usage.memory_info().rss) / 1e6

    def wait_lines(self, count: int, timeout: float = 300) -> float:
        """Wait for so many lines in all; returns when the last of them was read."""
        wait_until(lambda: self.lines >= count, timeout, f"{count} lines (there are {self.lines})", interval=0.005)
        return self.last_line

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    def _read(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while piece := os.read(descriptor, 1 << 16):
            now = time.time()
            if self._keep:
                self.data.append((now, piece))
            self.lines += piece.count(b"\n")
            self.last_line = now


def instance(broker: str, store: str, *, copy: str = str(ROOT), **settings: Any) -> Measured:
    """One ha-monitor instance, as it is by default.

    :param copy: the working copy whose program it is.
    """
    environment = {"HA_MONITOR_BROKER_URL": broker, "HA_MONITOR_STORE_URL": store}
    environment |= {f"HA_MONITOR_{key.upper()}": str(value) for key, value in settings.items()}
    return Measured(["-m", "ha_monitor", "run"], environment, copy)


def declare_queue(broker: str, store: str) -> None:
    """Let an instance declare the queue, so that it can be filled before the one that is measured starts."""
    with instance(broker, store) as first:
        first.wait_lines(3)


def redis_cpu(redis: PrivateRedis) -> float:
    """Seconds of CPU time that Redis has used."""
    info = redis.client().info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])
