"""Gives each instance its own access to what is shared."""

from __future__ import annotations

from ha_monitor.config.schema import Config
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.memory.duties import MemoryAttempts, MemoryDuties, MemoryOpenTasks
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.memory.store import MemoryStore


def memory_record(server: MemoryServer, config: Config) -> SharedRecord:
    """The access of one instance, not connected yet."""
    store = MemoryStore(server, config.store)
    return SharedRecord(store, MemoryDuties(store), MemoryOpenTasks(store, config.stuck), MemoryAttempts(store))
