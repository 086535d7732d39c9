"""A highly available monitor of Celery events. What is exported here is for handlers that users write."""

from ha_monitor.events.catalogue import State
from ha_monitor.events.model import Event
from ha_monitor.handling import on
from ha_monitor.store.record import TaskRecord

__all__ = ["Event", "State", "TaskRecord", "on"]
