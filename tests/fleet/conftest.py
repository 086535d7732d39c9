"""One fleet for all tests of this folder, the order of what is done to it, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.fleet.bed import CONFIGURED, THREE, FleetBed, fleet_bed
from tests.fleet.watch import HEADER
from tests.support.machine import patient
from tests.support.process import ServiceMissing

ORDER = (
    "test_install",
    "test_scale",
    "test_upgrade",
    "test_refusals",
    "test_outages",
    "test_configuration",
    "test_pip",
    "test_uninstall",
)
"""From bare hosts to nothing: each module begins where the one before ended. Where the first ones are left out, the
fleet is made as they would leave it.
"""
LEFT_BEFORE: dict[str, dict[str, Any]] = {
    "test_upgrade": THREE,
    "test_refusals": THREE,
    "test_pip": CONFIGURED,
    "test_uninstall": CONFIGURED,
}
"""Variables for the fleet that the modules before this one leave, where they differ from the inventory's."""

_TABLE = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = []


def _is_of_fleet(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent and "fleet" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if _is_of_fleet(item)]
    for item in mine:
        item.add_marker(pytest.mark.timeout(patient(1200)), append=False)
    # Only those are moved, to the places where such are.
    ordered = iter(sorted(mine, key=lambda item: ORDER.index(item.path.stem)))
    items[:] = [next(ordered) if item in mine else item for item in items]


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed at the end."""
    return pytestconfig.stash[_TABLE]


@pytest.fixture(scope="session")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, table: list[str]
) -> Iterator[FleetBed]:
    """Three hosts, and one with RabbitMQ and Redis; the tests follow each other on it."""
    first = next(item.path.stem for item in request.session.items if _is_of_fleet(item))
    try:
        with fleet_bed(tmp_path_factory.mktemp("fleet")) as bed:
            if first != ORDER[0]:
                bed.ansible.play(**LEFT_BEFORE.get(first, {})).assert_good()
                bed.begin_load()
            yield bed
            if bed.loaded:
                table += [HEADER, *map(str, bed.watch.rows)]
            table += [f"{bed.ansible.plays} runs of Ansible took {bed.ansible.seconds:.0f} s"]
    except ServiceMissing as error:
        missing(error)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash.get(_TABLE, [])
    if lines:
        terminalreporter.section("measured on the fleet")
        for line in lines:
            terminalreporter.write_line(line)
