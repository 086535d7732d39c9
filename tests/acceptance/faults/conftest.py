"""The fault table: what every injected fault cost, shown at the end of the run."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest

from tests.support.ledger import Account


class Row(NamedTuple):
    """One fault and its account."""

    fault: str
    account: Account
    seconds: float


_ROWS = pytest.StashKey[list[Row]]()
_HEAD = ("published", "announced", "lost", "doubled", "other id", "nameless", "torn", "seconds")


class FaultTable:
    """Takes the accounts of one test."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._begun = time.monotonic()

    def add(self, fault: str, account: Account) -> Account:
        """Enter an account, and return it; to be called before anything is asserted of it."""
        self._rows.append(Row(fault, account, time.monotonic() - self._begun))
        return account


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture
def fault_table(request: pytest.FixtureRequest) -> FaultTable:
    """Where a test enters what its fault cost."""
    return FaultTable(request.config.stash[_ROWS])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("events published and announced, by fault")
    width = max(len(row.fault) for row in rows)
    terminalreporter.write_line(" " * width + "".join(f"{title:>11}" for title in _HEAD))
    for fault, account, seconds in rows:
        counts = (account.published, account.announced, account.lost, account.doubled, account.renamed)
        cells = [*counts, account.nameless, account.torn, f"{seconds:.1f}"]
        terminalreporter.write_line(f"{fault:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
