"""Statistics by name in Redis."""

from __future__ import annotations

import pytest

from tests.integration.storing import Inside, Instance
from tests.integration.test_store_contract import RedisBed
from tests.support.error_contract import named
from tests.support.statistics_contract import HOUR, StatisticsContract, of, run, success


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


@pytest.fixture
def inside(store_url: str) -> Inside:
    return Inside(store_url)


class TestNameStatistics(StatisticsContract):
    """The contract."""


def test_an_hour_that_is_over_is_kept_by_ten_minutes(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given an hour with runs in each minute, it has six fields once its name is seen four hours later; the numbers are
    the same, also with an event that comes after that, and the hash stays one of the small ones."""
    one = Instance(store_url).start()
    hour = int(inside.now() // HOUR) - 4
    key = inside.keys.statistics_of("shop", hour)
    for minute in range(60):
        one.apply(*run(f"t{minute}", "shop", at=hour * HOUR + minute * 60 + 30, runtime=0.001 * 1.3**minute))
    before = of(bed, "shop", hour * HOUR, (hour + 1) * HOUR)
    assert (inside.redis.hlen(key), before.runs) == (60, 60)

    one.apply(*run("later", "shop", at=(hour + 3) * HOUR + 30))
    assert inside.redis.hlen(key) == 6
    assert of(bed, "shop", hour * HOUR, (hour + 1) * HOUR) == before
    assert inside.redis.object("encoding", key) in (b"listpack", b"ziplist")

    one.apply(named("late", "shop", at=hour * HOUR), success("late", at=hour * HOUR + 90))
    assert of(bed, "shop", hour * HOUR, (hour + 1) * HOUR).runs == 61
    assert 72 * HOUR < inside.ttl(key) <= 73 * HOUR


@pytest.mark.parametrize(("ago", "is_kept"), [(0, False), (HOUR + 60, True)])
def test_there_are_statistics_of_so_many_names(
    bed: RedisBed, store_url: str, inside: Inside, ago: float, is_kept: bool
) -> None:
    """Given 2,000 names of this hour, there is no room for another; one not heard of for that long makes room."""
    one = Instance(store_url).start()
    now = inside.now()
    inside.redis.zadd(inside.keys.names, {f"name{n}": int((now - ago) * 1000) for n in range(2000)})

    one.apply(*run("a", "shop", at=now // HOUR * HOUR + 1))
    assert ("shop" in bed.queries().names()) is is_kept
    assert of(bed, "shop", now - HOUR, now + HOUR).runs == int(is_kept)
    assert len(bed.queries().names()) == 2000


@pytest.mark.parametrize("is_broken", [True, False])
def test_what_is_in_place_of_an_hour_costs_no_more_than_that(
    bed: RedisBed, store_url: str, inside: Inside, is_broken: bool
) -> None:
    """Given something foreign in place of a name's hour, or values that nobody can read, runs are counted from then on,
    and nothing else is lost; the foreign key is told of."""
    one = Instance(store_url).start()
    at = inside.now() // HOUR * HOUR + 1
    key = inside.keys.statistics_of("shop", int(at // HOUR))
    if is_broken:
        inside.redis.hset(key, mapping={str(minute): b"\xc1" for minute in (*range(60), 99)} | {"x": "y", "t0": "z"})
    else:
        inside.redis.set(key, "foreign")

    applied = one.apply(*run("a", "shop", at=at))
    assert (key in applied.trouble) is not is_broken
    assert of(bed, "shop", at - 60, at + 60).runs == 1
