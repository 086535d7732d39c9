"""`store.min_replicas`: a write counts once replicas have it, so that a fail-over to one of them loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_monitor.errors import LeaseLost, StoreUnavailable
from tests.integration.storing import Inside, Instance
from tests.support.sentinel import replica_of, sentinel_of
from tests.support.services import PrivateRedis
from tests.unit.builders import event

EVENTS = [event("task-received"), event("task-started")]


@pytest.fixture
def replica(own_redis: PrivateRedis, tmp_path: Path) -> Iterator[PrivateRedis]:
    with sentinel_of(own_redis, tmp_path) as sentinel, replica_of(own_redis, sentinel) as server:
        yield server


def fail_over(instance: Instance, primary: PrivateRedis, replica: PrivateRedis, next_one: PrivateRedis) -> None:
    """The primary dies, the replica takes its place, and another one its own; the instance goes there."""
    primary.kill()
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    next_one.follow(replica)
    instance.store._connection._settings = Instance(replica.url()).settings


@pytest.mark.parametrize("least", [0, 1])
def test_what_a_replica_must_have_survives_a_fail_over(
    own_redis: PrivateRedis, replica: PrivateRedis, least: int
) -> None:
    """Given a replica that gets no more and takes over from a primary that dies, a merge that was confirmed is there if
    the replica must have it, since it was not confirmed before; else it is gone, and that is noticed."""
    one = Instance(own_redis.url(), min_replicas=least, timeout=2.0).start()
    one.apply(event("task-sent"))
    one.tick()
    with replica.client() as client:
        client.replicaof("NO", "ONE")  # it gets no more

    try:
        confirmed = one.apply(*EVENTS).new
    except StoreUnavailable as error:
        confirmed = 0
        assert "0 of 1 replicas have the last write" in str(error)
    with PrivateRedis() as next_one:
        fail_over(one, own_redis, replica, next_one)
        one.recover()
        repeated = one.apply(*EVENTS).new

    assert (confirmed, repeated) == ((2, 2) if least == 0 else (0, 2))
    assert (one.store.take_rollback() is not None) is (least == 0)


def test_a_call_without_a_replica_is_repeated_when_there_is_one(own_redis: PrivateRedis, replica: PrivateRedis) -> None:
    """Given a replica that is away for a while, nothing is confirmed meanwhile, and nothing lost or doubled after."""
    one = Instance(own_redis.url(), min_replicas=1, timeout=2.0).start()
    replica.pause()
    with pytest.raises(StoreUnavailable):
        one.apply(*EVENTS)
    assert not one.store.connected
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas have the last write"):
        one.recover()
    replica.resume()
    one.recover()
    one.apply(*EVENTS)

    assert one.types == ["task-received", "task-started"]
    assert one.store.take_rollback() is None


def test_an_instance_is_entered_only_where_a_replica_has_it(own_redis: PrivateRedis, replica: PrivateRedis) -> None:
    """Given a primary without a replica, as one that a fail-over has replaced, an instance that starts is not entered
    there, but once a replica has that. What its attempts left is nobody's to take over.
    """
    one = Instance(own_redis.url(), min_replicas=1, timeout=2.0)
    replica.pause()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas have the last write"):
            one.start()
    replica.resume()

    assert one.start().apply(*EVENTS).new == 2
    inside = Inside(own_redis.url())
    assert inside.redis.zrange(inside.keys.leases, 0, -1) == [str(one.store.token).encode()]


def test_a_lost_lease_leaves_the_connection_in_order(own_redis: PrivateRedis, replica: PrivateRedis) -> None:
    """Given a lease that is gone, the error is that, and the next calls get their own replies."""
    one = Instance(own_redis.url(), min_replicas=1).start()
    Inside(own_redis.url()).redis.delete(one.store.keys.leases)
    with pytest.raises(LeaseLost):
        one.tick()
    one.start()

    assert one.apply(*EVENTS).new == 2
