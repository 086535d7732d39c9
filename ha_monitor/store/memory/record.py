"""Gives each instance its own access to the shared record."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.memory.deliveries import MemoryDeliveries
from ha_monitor.store.memory.duties import MemoryAttempts, MemoryDuties, MemoryOpenTasks
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.memory.store import MemoryStore


def memory_record(
    server: MemoryServer, config: Config, clock: Clock | None = None, *, max_absence: float = 0.0
) -> SharedRecord:
    """The access of one instance, not connected yet.

    :param clock: of the instance's host; None for the server's.
    :param max_absence: see `RedisOpenTasks`.
    """
    return record_of(MemoryStore(server, config.store, clock), config, max_absence=max_absence)


def record_of(store: MemoryStore, config: Config, *, max_absence: float = 0.0) -> SharedRecord:
    """The same with a given store, which may be of a subclass."""
    open_tasks = MemoryOpenTasks(store, config.stuck, max_absence)
    return SharedRecord(
        store,
        MemoryDuties(store),
        open_tasks,
        MemoryAttempts(store),
        MemoryDeliveries(store),
    )
