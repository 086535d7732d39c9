"""The fault table: what every injected fault cost, shown at the end of the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.ledger import Account


class Row(NamedTuple):
    """One fault and its account."""

    fault: str
    account: Account
    seconds: float
    test: str
    """Where in this folder it was made."""


_ROWS = pytest.StashKey[list[Row]]()
_HEAD = ("published", "announced", "lost", "doubled", "other id", "nameless", "alarms", "torn", "away", "seconds")


class FaultTable:
    """Takes the accounts of one test."""

    def __init__(self, rows: list[Row], test: str) -> None:
        self._rows = rows
        self._test = test
        self._begun = time.monotonic()

    def add(self, fault: str, account: Account) -> Account:
        """Enter an account, and return it; to be called before anything is asserted of it."""
        self._rows.append(Row(fault, account, time.monotonic() - self._begun, self._test))
        return account


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture
def fault_table(request: pytest.FixtureRequest) -> FaultTable:
    """Where a test enters what its fault cost."""
    return FaultTable(request.config.stash[_ROWS], request.node.nodeid.rpartition("/")[2])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("events published and announced, by fault")
    # As in docs/faults.md.
    for cells in (("fault", *_HEAD, "said", "test"), ("---",) * (len(_HEAD) + 3), *map(_cells, rows)):
        terminalreporter.write_line(f"| {' | '.join(cells)} |")


def _cells(row: Row) -> Iterator[str]:
    account = row.account
    yield row.fault
    counts = (account.published, account.announced, account.lost, account.doubled, account.renamed)
    yield from map(str, (*counts, account.nameless, account.alarms, account.torn))
    yield from (f"{account.away:.1f}", f"{row.seconds:.1f}")
    yield ", ".join(f"{event} {count}" for event, count in sorted(account.said.items()))
    yield row.test
