"""The table of what the tests with real services measured; and two instances without a broker on one real Redis."""

from __future__ import annotations

import pytest

from tests.integration.storing import Inside, Instance
from tests.support.measured import Measured, MeasuredTable

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
