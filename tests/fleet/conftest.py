"""One fleet for all tests of this folder, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import missing
from tests.fleet.bed import FleetBed, fleet_bed
from tests.fleet.watch import HEADER
from tests.support.process import ServiceMissing

_TABLE = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "fleet" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(3600), append=False)


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed at the end."""
    return pytestconfig.stash[_TABLE]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, table: list[str]) -> Iterator[FleetBed]:
    """Three bare hosts, and one with RabbitMQ and Redis; the tests follow each other on it."""
    try:
        with fleet_bed(tmp_path_factory.mktemp("fleet")) as bed:
            yield bed
            if bed.loaded:
                table += [HEADER, *map(str, bed.watch.rows)]
    except ServiceMissing as error:
        missing(error)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash.get(_TABLE, [])
    if lines:
        terminalreporter.section("measured on the fleet")
        for line in lines:
            terminalreporter.write_line(line)
