"""Which settings of Redis can cost what the program has written."""

from __future__ import annotations

import pytest

from ha_monitor.store.server_info import read_info, risks_of, store_info

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


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("aof_last_write_status", "cannot write its append-only file: a restart loses everything since then"),
        ("aof_last_bgrewrite_status", "could not rewrite its append-only file"),
        ("rdb_last_bgsave_status", "could not save to disk"),
    ],
)
def test_a_disk_that_redis_cannot_write_is_told(field: str, said: str) -> None:
    """Given a write to disk that failed, the one sentence says which, and what to do."""
    (risk,) = risks_of({**SAFE, field: "err"}, by_sentinel=False)

    assert said in risk
    assert "make room on its disk" in risk


def test_a_redis_that_does_not_tell_about_itself() -> None:
    """Given Redis's refusal in place of what it says about itself, nothing is read out of it, and nothing is a risk."""
    info = read_info(b"NOPERM User m has no permissions to run the 'info' command")

    assert info == {}
    assert risks_of(info, by_sentinel=True) == []


@pytest.mark.parametrize(("changes", "dropped"), [({}, 0), ({"evicted_keys": "3"}, 3), ({"evicted_keys": "?"}, 0)])
def test_dropped_keys_are_counted_by_redis(changes: dict[str, str], dropped: int) -> None:
    """Given how many keys Redis has dropped, or a Redis that does not say, the number is that, or none."""
    assert store_info({**SAFE, **changes}, by_sentinel=False, waits=False).dropped == dropped


def test_info_is_read_by_field() -> None:
    """Given Redis's reply, headings are left out, and a value may have colons."""
    assert read_info(b"# Server\r\nredis_version:7.0.15\r\nslave0:ip=::1,port=1\r\n") == {
        "redis_version": "7.0.15",
        "slave0": "ip=::1,port=1",
    }
