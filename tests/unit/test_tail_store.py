"""The tail of the fleet in the store in memory."""

from __future__ import annotations

import pytest

from tests.support.tail_contract import TailContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestTail(TailContract):
    """The contract."""
