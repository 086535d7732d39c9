"""Groups of errors in Redis."""

from __future__ import annotations

import pytest

from tests.integration.storing import Inside
from tests.integration.test_store_contract import RedisBed
from tests.support.error_contract import ErrorContract, failure, groups, named
from tests.support.store_contract import merge, started
from tests.unit.builders import decode


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


class TestErrorGroups(ErrorContract):
    """The contract."""


def test_the_groups_that_were_seen_last_are_kept(bed: RedisBed, store_url: str) -> None:
    """Given 2,000 groups, an error of another one takes the place of that which was seen longest ago."""
    inside = Inside(store_url)
    one, now = started(bed), bed.now()
    merge(one, decode(named("a", at=now - 5), failure("a", at=now - 4)))
    (kept,) = bed.queries().error_ids()
    others = {f"{number:010}": (now - 10) * 1000 + number for number in range(1999)}
    inside.redis.zadd(inside.keys.errors, others)
    inside.redis.set(inside.keys.error("0" * 10), "x")

    merge(one, decode(named("b", at=now - 3), failure("b", at=now - 2, kind="Late")))

    ids = bed.queries().error_ids()
    assert (len(ids), ids[1], "0" * 10 in ids) == (2000, kept, False)
    assert not inside.redis.exists(inside.keys.error("0" * 10))
    assert [group.error_class for group in groups(bed)] == ["Late", "Declined"]
