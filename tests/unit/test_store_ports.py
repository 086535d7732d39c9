"""Each implementation of the store can be called as its port says."""

from __future__ import annotations

import inspect

import pytest

from ha_monitor.store import api, deliveries, error_groups, incidents, queries, schedules, tail
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.counting import RedisCounts
from ha_monitor.store.duties import Duties
from ha_monitor.store.error_marks import RedisErrorMarks
from ha_monitor.store.memory.counts import MemoryCounts
from ha_monitor.store.memory.deliveries import MemoryDeliveries
from ha_monitor.store.memory.duties import MemoryAttempts, MemoryDuties, MemoryOpenTasks
from ha_monitor.store.memory.errors import MemoryErrorMarks
from ha_monitor.store.memory.incidents import MemoryIncidents
from ha_monitor.store.memory.queries import MemoryQueries
from ha_monitor.store.memory.schedules import MemorySchedules
from ha_monitor.store.memory.store import MemoryStore
from ha_monitor.store.memory.tail import MemoryTail
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.redis_incidents import RedisIncidents
from ha_monitor.store.redis_queries import RedisQueries
from ha_monitor.store.redis_schedules import RedisSchedules
from ha_monitor.store.redis_tail import RedisTail
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import RedisOpenTasks

IMPLEMENTED = [
    (api.Store, MemoryStore, RedisStore),
    (api.CountStore, MemoryCounts, RedisCounts),
    (api.LeaderDuties, MemoryDuties, Duties),
    (api.OpenTasks, MemoryOpenTasks, RedisOpenTasks),
    (api.Attempts, MemoryAttempts, RedisAttempts),
    (deliveries.Deliveries, MemoryDeliveries, RedisDeliveries),
    (error_groups.ErrorMarks, MemoryErrorMarks, RedisErrorMarks),
    (incidents.IncidentList, MemoryIncidents, RedisIncidents),
    (incidents.Marks, MemoryIncidents, RedisIncidents),
    (incidents.Silences, MemoryIncidents, RedisIncidents),
    (queries.Queries, MemoryQueries, RedisQueries),
    (schedules.KeptSchedules, MemorySchedules, RedisSchedules),
    (tail.Tail, MemoryTail, RedisTail),
]


def _parameters(method: object) -> dict[str, tuple[object, bool]]:
    """The kind of each parameter, and whether it may be left out."""
    if not inspect.isfunction(method):
        return {}
    return {one.name: (one.kind, one.default is not one.empty) for one in inspect.signature(method).parameters.values()}


@pytest.mark.parametrize(
    ("port", "implementation"),
    [(port, one) for port, *both in IMPLEMENTED for one in both],
    ids=lambda one: one.__name__,
)
def test_a_method_takes_the_parameters_of_its_port_by_name(port: type, implementation: type) -> None:
    """Given a port and one of its stores, when the methods' parameters are compared, then their names, kinds and order
    are the same, and the same may be left out, or more: the type checker accepts other names, and a call by name would
    raise.
    """
    methods = [name for name, one in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")]
    assert methods
    for name in methods:
        asked = _parameters(getattr(port, name))
        offered = _parameters(getattr(implementation, name))
        assert [(one, offered[one][0]) for one in offered] == [(one, asked[one][0]) for one in asked], name
        assert all(offered[one][1] or not optional for one, (_, optional) in asked.items()), name
