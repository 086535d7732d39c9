"""Real Redis Sentinels."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.support.process import OwnProcess, free_port, wait_until
from tests.support.releases import server_command
from tests.support.services import PrivateRedis

SERVICE = "main"


class Sentinel:
    """One that watches a Redis under the name `main`."""

    def __init__(
        self, primary: int, folder: Path, *, quorum: int = 1, port_is: str = "port", settings: Sequence[str] = ()
    ) -> None:
        """Start it.

        :param primary: port of the Redis.
        :param port_is: `tls-port` for a sentinel that listens with TLS alone.
        :param settings: more lines of its configuration.
        """
        self.port = free_port()
        configuration = folder / f"sentinel-{self.port}.conf"
        lines = [f"{port_is} {self.port}", "bind 127.0.0.1", f"dir {folder}", *settings]
        lines += [f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {quorum}"]
        configuration.write_text("\n".join(lines) + "\n")
        self._process = OwnProcess(
            [*server_command("redis-server"), str(configuration), "--sentinel"], folder / f"log-{self.port}"
        )

    def wait(self) -> None:
        """Until it watches the Redis."""
        wait_until(lambda: "+monitor" in self._process.output(), 30, "the sentinel watching")

    def hang(self) -> None:
        """It accepts connections and says nothing (SIGSTOP)."""
        self._process.send(signal.SIGSTOP)

    def end(self) -> None:
        self._process.end()


@contextmanager
def sentinel_of(primary: PrivateRedis, folder: Path) -> Iterator[int]:
    """Port of a Sentinel that watches a Redis, alone: its word is enough for a fail-over."""
    sentinel = Sentinel(primary.port, folder)
    try:
        sentinel.wait()
        yield sentinel.port
    finally:
        sentinel.end()


@contextmanager
def three_sentinels_of(primary: PrivateRedis, folder: Path) -> Iterator[list[Sentinel]]:
    """Three that watch a Redis together."""
    with ExitStack() as stack:
        sentinels = []
        for _ in range(3):
            sentinels.append(Sentinel(primary.port, folder, quorum=2))
            stack.callback(sentinels[-1].end)
        for sentinel in sentinels:
            sentinel.wait()
        yield sentinels


@contextmanager
def replica_of(primary: PrivateRedis, sentinel: int) -> Iterator[PrivateRedis]:
    """A Redis that follows another one, and that the sentinel knows."""
    with PrivateRedis() as server, redis.Redis(port=sentinel) as watcher:
        server.follow(primary)

        def is_known() -> bool:
            known = watcher.sentinel_slaves(SERVICE)
            return any(one["port"] == server.port and not one["is_disconnected"] for one in known)

        wait_until(is_known, 60, "the sentinel to know the replica")
        yield server


def fail_over(sentinel: int) -> None:
    """As an operator does; returns at once."""
    with redis.Redis(port=sentinel) as watcher:
        watcher.execute_command("SENTINEL", "FAILOVER", SERVICE)
