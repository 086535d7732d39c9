"""Groups of errors: the store in memory, and what is to be thought of one."""

from __future__ import annotations

from typing import Any

import pytest

from ha_monitor.store.error_groups import LEARNING, NEW_FOR, GroupFacts, GroupState, group_from
from tests.support.error_contract import ErrorContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestErrorGroups(ErrorContract):
    """The contract."""


NOW = 1_795_586_043.0
RESOLVED = int((NOW - 100) * 1000)
LATER = int((NOW + 1) * 1000)


@pytest.mark.parametrize(
    ("first", "last", "said", "expected"),
    [
        (NOW - 5, NOW, {}, GroupState.NEW),
        (NOW - NEW_FOR - 1, NOW, {}, GroupState.KNOWN),
        (NOW - 5, NOW - 101, {"resolved": RESOLVED}, GroupState.RESOLVED),
        (NOW - 500, NOW - 99, {"resolved": RESOLVED}, GroupState.REGRESSED),
        (NOW - 5, NOW, {"ignored": LATER}, GroupState.IGNORED),
        (NOW - 5, NOW, {"ignored": LATER - 2000}, GroupState.NEW),
        (NOW - 500, NOW, {"resolved": RESOLVED, "ignored": LATER}, GroupState.IGNORED),
    ],
)
def test_the_state_of_a_group(first: float, last: float, said: dict[str, Any], expected: GroupState) -> None:
    """Given when a group was first and last seen, and what a person said of it, its state follows."""
    facts = GroupFacts("n", "c", "p", int(first * 1e6), int(last * 1e6), **said)

    assert group_from("id", facts, "", now=NOW, since=NOW - 2 * NEW_FOR).state is expected
    if expected is GroupState.NEW:
        assert group_from("id", facts, "", now=NOW, since=first - LEARNING + 1).state is GroupState.KNOWN
