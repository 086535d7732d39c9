"""Which settings of Redis can cost what the program has written."""

from __future__ import annotations

import pytest

from ha_monitor.store.server_info import read_info, risks_of

SAFE = {"role": "master", "connected_slaves": "0", "aof_enabled": "1", "maxmemory": "0"}


def test_a_redis_that_stands_alone_and_persists_is_safe() -> None:
    """Given a persistent Redis without replicas or sentinels, there is nothing to say."""
    assert risks_of(SAFE, by_sentinel=False) == []


@pytest.mark.parametrize(
    ("changes", "by_sentinel", "said"),
    [
        ({"connected_slaves": "2"}, False, "min-replicas-to-write is 0 on a Redis with 2 replicas"),
        ({}, True, "min-replicas-to-write is 0 on a Redis with sentinels"),
        ({"aof_enabled": "0"}, False, "appendonly is off"),
        ({"maxmemory": "100", "maxmemory_policy": "volatile-ttl"}, False, "maxmemory-policy is volatile-ttl"),
        (
            {"maxmemory": "100", "maxmemory_policy": "allkeys-lru", "evicted_keys": "3"},
            False,
            "has dropped 3 keys since it started",
        ),
    ],
)
def test_each_risk_is_told_with_its_cure(changes: dict[str, str], by_sentinel: bool, said: str) -> None:
    """Given a setting under which Redis may lose what it confirmed, the one sentence names it and what to set."""
    (risk,) = risks_of({**SAFE, **changes}, by_sentinel=by_sentinel)

    assert said in risk
    assert "; set " in risk


@pytest.mark.parametrize(
    "changes", [{"min_slaves_good_slaves": "1", "connected_slaves": "1"}, {"role": "slave", "connected_slaves": "1"}]
)
def test_a_primary_that_waits_for_replicas_is_safe(changes: dict[str, str]) -> None:
    """Given `min-replicas-to-write`, or a replica that takes no writes at all, a fail-over is no risk."""
    assert risks_of({**SAFE, **changes}, by_sentinel=True) == []
    assert risks_of({**SAFE, "connected_slaves": "1"}, by_sentinel=True, waits=True) == []


def test_info_is_read_by_field() -> None:
    """Given Redis's reply, headings are left out, and a value may have colons."""
    assert read_info(b"# Server\r\nredis_version:7.0.15\r\nslave0:ip=::1,port=1\r\n") == {
        "redis_version": "7.0.15",
        "slave0": "ip=::1,port=1",
    }
