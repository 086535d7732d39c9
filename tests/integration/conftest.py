"""The table of what the tests with real services measured; and two instances without a broker on one real Redis."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ha_monitor.cli.main import main
from tests.integration.storing import Inside, Instance
from tests.support.instances import environment_of_commands
from tests.support.measured import Measured, MeasuredTable
from tests.support.process import free_port
from tests.support.sentinel import sentinel_of
from tests.support.services import PrivateRedis

_TABLE = pytest.StashKey[MeasuredTable]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = MeasuredTable("measured with real brokers, workers and Prometheus")


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    """Adds a row to the table of what was measured: what, and how much with its unit."""
    return pytestconfig.stash[_TABLE].add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    config.stash[_TABLE].show(terminalreporter)


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`ha-monitor problems` about the fleet of a folder, with more arguments: its exit status and what it prints."""

    def ask(folder: Path, *arguments: str) -> tuple[int, str]:
        for name, value in environment_of_commands(folder).items():
            monkeypatch.setenv(name, value)
        return main(["problems", *arguments]), capsys.readouterr().out

    return ask


@pytest.fixture
def inside(store_url: str) -> Inside:
    """What Redis holds."""
    return Inside(store_url)


@pytest.fixture
def one(store_url: str) -> Instance:
    """An instance that has registered."""
    return Instance(store_url).start()


@pytest.fixture
def two(store_url: str, one: Instance) -> Instance:
    """Another one, which came later."""
    return Instance(store_url).start()


@pytest.fixture
def sentinel(redis_server: PrivateRedis, tmp_path: Path) -> Iterator[int]:
    """Port of a Sentinel that watches the Redis server under the name `main`."""
    with sentinel_of(redis_server, tmp_path) as port:
        yield port


@pytest.fixture
def unanswering() -> Iterator[Callable[[str], int]]:
    """Makes ports without a server: connections to them are made and nothing is said (`silent`), are not made and
    nothing is said either (`swallowed`), or are refused (`refused`).
    """
    with contextlib.ExitStack() as stack:

        def port(kind: str) -> int:
            if kind == "refused":
                return free_port()
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            number: int = listener.getsockname()[1]
            if kind == "silent":
                listener.listen(100)
                return number
            # Once the listener's backlog is full, the kernel drops every request to connect.
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", number))
            return number

        yield port
