"""What the store in memory keeps of queues."""

from __future__ import annotations

import pytest

from tests.support.queue_contract import QueueContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestQueueFlow(QueueContract):
    """The contract."""
