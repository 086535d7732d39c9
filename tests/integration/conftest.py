"""The table of what the tests with real services measured."""

from __future__ import annotations

import pytest

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
