"""Refusals that only a node of a Redis Cluster knows say what it is."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions as theirs

from ha_monitor.broker.redis_errors import unavailable
from ha_monitor.config.schema import Broker, StoreSettings
from ha_monitor.errors import ConfigurationError, StoreRefused
from ha_monitor.redis_cluster import is_in_cluster
from ha_monitor.store.connection import translated_errors

HELLO = [b"server", b"redis", b"version", b"7.0.15", b"proto", 2, b"id", 3, b"mode", b"cluster", b"role", b"master"]
URL = "redis://ann:hunter2@node1:7000/0"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (HELLO, True),
        ([b"standalone" if part == b"cluster" else part for part in HELLO], False),
        ({b"server": b"redis", b"mode": b"cluster"}, True),
        ({"mode": "cluster"}, True),
        ({b"mode": b"sentinel"}, False),
        ([], False),
        (b"OK", False),
        ([b"cluster", b"mode"], False),
    ],
)
def test_the_greeting_of_a_node_is_known(reply: Any, *, expected: bool) -> None:
    """Given a reply to HELLO, by either protocol, it is that of a node of a cluster, or not."""
    assert is_in_cluster(reply) is expected


@pytest.mark.parametrize(
    "error",
    [
        theirs.MovedError("1328 127.0.0.1:21871"),
        theirs.AskError("1328 127.0.0.1:21871"),
        theirs.ClusterDownError("CLUSTERDOWN Hash slot not served"),
        theirs.ClusterCrossSlotError("Keys in request don't hash to the same slot"),
    ],
)
def test_the_refusals_of_a_node_say_what_it_is(error: Exception) -> None:
    """Given a refusal while an instance runs, the line says what the Redis is, and waiting does not help."""
    with (
        pytest.raises(ConfigurationError, match=r"^store\.url: node1:7000/0 is a node of a Redis Cluster, which"),
        translated_errors(StoreSettings(url=URL)),
    ):
        raise error

    told = unavailable(URL, Broker(url=URL), error)
    assert str(told).startswith(
        "broker.url: node1:7000/0 is a node of a Redis Cluster, which is not supported as the broker"
    )
    assert told.lasting


def test_a_replica_without_its_primary_is_no_cluster() -> None:
    """Given the refusal of such a replica, which redis-py derives from that of a cluster, it is waited for."""
    with pytest.raises(StoreRefused, match="MASTERDOWN"), translated_errors(StoreSettings()):
        raise theirs.MasterDownError("MASTERDOWN Link with MASTER is down")
