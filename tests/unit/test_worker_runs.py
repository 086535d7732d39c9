"""What the record in memory keeps of workers."""

from __future__ import annotations

import pytest

from tests.support.worker_contract import WorkerContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestWorkerRuns(WorkerContract):
    """The contract."""
