"""Statistics by name in the store in memory."""

from __future__ import annotations

import pytest

from tests.support.statistics_contract import StatisticsContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestNameStatistics(StatisticsContract):
    """The contract."""
