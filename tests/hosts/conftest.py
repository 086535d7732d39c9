"""Hosts for the tests. Where they are not possible the tests are skipped; on CI they fail."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.conftest import missing
from tests.support.hosts import Bridge
from tests.support.machine import patient
from tests.support.measured import Measured, MeasuredTable
from tests.support.process import ServiceMissing

_TABLE = pytest.StashKey[MeasuredTable]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = MeasuredTable("measured on the hosts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Not for the fixtures, which may have to build images first; they have time-outs of their own.
        if "bridge" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(patient(300), func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    # Wherever it comes from: the bridge itself, or an image that cannot be built for a host.
    try:
        return (yield)
    except ServiceMissing as error:
        missing(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the hosts' journals to the report of a test that failed."""
    report = yield
    bridge = getattr(item, "funcargs", {}).get("bridge")
    if report.failed and bridge is not None:
        report.sections += [(f"journal of {host.name}", host.log()) for host in bridge.hosts]
    return report


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    """A network for the hosts of a module's tests; it and they are gone after the last one."""
    with Bridge() as made:
        yield made


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    """Adds a row to the table of what was measured on the hosts: what, and how much with its unit."""
    return pytestconfig.stash[_TABLE].add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    config.stash[_TABLE].show(terminalreporter)
