"""A store that goes back to an earlier state under a whole fleet: nothing of the fleet's work is lost with it, and
nothing untrue is said.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ha_monitor.errors import StoreUnavailable
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_store import endless_load
from tests.support.instances import Fleet, Overrides, through
from tests.support.ledger import Account, Line
from tests.support.process import wait_until
from tests.support.proxy import CutLink
from tests.support.sentinel import SERVICE, fail_over, replica_of, sentinel_of
from tests.support.services import PrivateRabbitMQ, PrivateRedis

RATE = 200.0
JUDGED = ("task-stuck", "task-orphaned", "events-lost", "task-events-missing")
SETTINGS = {"store": {"name_wait": 5.0}}


def unmarked_doubles(lines: list[Line]) -> int:
    """Lines of an event that has an earlier one, and that do not say so."""
    by_id: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if "event_id" in line:
            by_id[line["event_id"]].append(line)
    return sum(
        not line.get("recovered") for same in by_id.values() for line in sorted(same, key=lambda x: x["timestamp"])[1:]
    )


def account_of(
    fault: str, fleet: Fleet, broker_url: str, happen: Callable[[], None], table: FaultTable
) -> tuple[Account, list[Line]]:
    """Have something happen under load, and count when all have connected again and the load has ended."""
    load = endless_load(broker_url, RATE)
    wait_until(lambda: len(fleet.said("task-succeeded")) > RATE / 10, 60, "work")
    time.sleep(2)
    begun = time.monotonic()
    happen()
    fleet.wait_until_connected("store", 2)
    back = time.monotonic() - begun
    time.sleep(3)
    account = fleet.close_account(load.stop(), 20)
    lines = list(fleet.lines())
    said = Counter(line["event"] for line in lines if line["event"] in (*JUDGED, "store-went-back"))
    marks = f"{unmarked_doubles(lines)} unmarked; back after {back:.1f} s; said {dict(said)}"
    table.add(f"{fault}: {marks}", account)
    return account, lines


def assert_nothing_lost_or_untrue(account: Account, lines: list[Line], *, names_missing: int = 0) -> None:
    """Each event is announced, with its task's name; none under another id, no second line that does not say so, no
    wrong judgement.

    :param names_missing: lines that may be without it.
    """
    assert account.lost == 0, account
    assert account.nameless <= names_missing, account
    assert account.renamed == 0, account
    assert account.bad == [], account
    assert unmarked_doubles(lines) == 0
    assert [line["event"] for line in lines if line["event"] in JUDGED] == []


def test_an_older_file_is_put_back(
    tmp_path: Path, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given a load, when Redis is killed and starts with what it had some seconds ago, one instance says so, what is
    announced again is marked, and nothing is concluded from what is lost
    """
    kept = tmp_path / "kept"
    with Fleet(tmp_path, broker_url, own_redis.url(), settings=SETTINGS).start() as fleet:

        def happen() -> None:
            own_redis.copy_data(kept)
            time.sleep(4)
            own_redis.kill()
            own_redis.replace_data(kept)
            own_redis.start()

        account, lines = account_of("Redis: an older file put back", fleet, broker_url, happen, fault_table)
    (told,) = [line for line in lines if line["event"] == "store-went-back"]
    assert told["calls"] > 0
    assert_nothing_lost_or_untrue(account, lines)


def test_an_instance_dies_together_with_redis(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given an instance whose machine dies together with Redis, which then has nothing of the last lines, and which no
    other instance misses: the next run is given their messages again, and marks each line of theirs
    """
    settings: Overrides = {
        "store": {**SETTINGS["store"], "lease": 10.0},
        "broker": {"prefetch": 1000, "heartbeat": 10.0},
        "batch": {"events": 20},
    }
    with (
        CutLink(rabbitmq.port) as link,
        Fleet(tmp_path, through(link, broker_url), own_redis.url(), settings=settings, size=1).start() as fleet,
    ):
        (one,) = fleet.instances
        load = endless_load(broker_url, RATE)
        wait_until(lambda: len(fleet.said("task-succeeded")) > RATE / 10, 60, "work")
        one.freeze()
        arrived = link.bytes_forwarded
        wait_until(lambda: link.bytes_forwarded > arrived + 400_000, 60, "messages that it has not read")
        link.cut()  # no acknowledgement arrives from now on
        with own_redis.client() as client:
            client.config_set("appendfsync", "always")
            client.set("flushed", 1)  # and all that is older
        own_redis.copy_data(tmp_path / "kept")
        written = len(list(fleet.lines()))
        one.thaw()
        wait_until(lambda: len(list(fleet.lines())) >= written + 200, 60, "lines of these messages")
        one.kill()
        own_redis.kill()
        own_redis.replace_data(tmp_path / "kept")
        own_redis.start()
        link.drop()
        link.heal()
        one.start()
        fleet.wait_until_consuming()
        account = fleet.close_account(load.stop(), 20)
        lines = list(fleet.lines())
    fault = "Redis and an instance die, and Redis lacks its last lines"
    fault_table.add(f"{fault}: {unmarked_doubles(lines)} unmarked", account)
    assert account.doubled >= 100
    assert_nothing_lost_or_untrue(account, lines)


def test_all_keys_are_deleted(
    tmp_path: Path, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given a load, when all keys are deleted, the instances register anew, and one of them says that all is lost"""
    with Fleet(tmp_path, broker_url, own_redis.url(), settings=SETTINGS).start() as fleet:

        def happen() -> None:
            with own_redis.client() as client:
                client.flushall()
            wait_until(lambda: fleet.said("store-went-back"), 60, "an instance to notice")

        account, lines = account_of("Redis: FLUSHALL", fleet, broker_url, happen, fault_table)
    (told,) = [line for line in lines if line["event"] == "store-went-back"]
    assert told["since"] is None
    assert_nothing_lost_or_untrue(account, lines)


@pytest.mark.parametrize("waits_for_replica", [False, True], ids=["min-replicas-to-write 0", "min-replicas-to-write 1"])
def test_the_sentinels_fail_over(
    tmp_path: Path, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable, *, waits_for_replica: bool
) -> None:
    """given a load, when an operator has the sentinels fail over, the instances follow, and if the new primary has not
    all that the old one had confirmed, one of them says so, and all merge again what they had merged
    """
    with sentinel_of(own_redis, tmp_path) as sentinel, replica_of(own_redis, sentinel) as replica:
        for server in (own_redis, replica):
            with server.client() as client:
                client.config_set("min-replicas-to-write", int(waits_for_replica))
                client.config_set("min-replicas-max-lag", 2)
        url = f"sentinel://127.0.0.1:{sentinel}/main"
        with Fleet(tmp_path, broker_url, url, settings=SETTINGS).start() as fleet:

            def happen() -> None:
                fail_over(sentinel)
                if waits_for_replica:
                    # The new primary has no replica before the old one has become that, some ten seconds later.
                    wait_until(lambda: fleet.said("store-unavailable"), 60, "the instances to notice")

            name = f"SENTINEL FAILOVER, min-replicas-to-write {int(waits_for_replica)}"
            account, lines = account_of(name, fleet, broker_url, happen, fault_table)
    assert len([line for line in lines if line["event"] == "store-went-back"]) <= 1
    # Until the new primary has a replica, leases end. Who is taken over then finds what a slow replica lacks when it
    # registers anew: docs/faults.md says what may be written before.
    assert_nothing_lost_or_untrue(account, lines, names_missing=5 if waits_for_replica else 0)


FAIL_OVERS = 20


def primary_of(watcher: redis.Redis) -> int:
    """Port of the Redis that the sentinel names."""
    named = watcher.sentinel_get_master_addr_by_name(SERVICE)
    assert isinstance(named, tuple)
    return named[1]


def until_failed_over(fleet: Fleet, sentinel: int) -> None:
    """Have the sentinel fail over as soon as it can, and wait until the fleet merges again."""

    def is_begun() -> bool:
        try:
            fail_over(sentinel)
        except redis.ResponseError:
            return False  # it has no replica yet that would do, or is still about the one before
        return True

    def merged() -> int:
        try:
            return sum(entry.stats.get("events", 0) for entry in fleet.entries())
        except StoreUnavailable:
            return 0

    with redis.Redis(port=sentinel) as watcher:
        before = primary_of(watcher)
        wait_until(is_begun, 120, "a replica that can become the primary")
        wait_until(lambda: primary_of(watcher) != before, 60, "the fail-over")
    level = merged()
    wait_until(lambda: merged() > level, 120, "the fleet to merge again")


@pytest.mark.long
@pytest.mark.parametrize("min_replicas", [0, 1])
def test_twenty_fail_overs(
    tmp_path: Path, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable, min_replicas: int
) -> None:
    """given a load over twenty fail-overs by hand, with and without `store.min_replicas`, nothing is lost and nothing
    untrue is said; the table has how often something had to be merged again
    """
    settings = {"store": {**SETTINGS["store"], "min_replicas": min_replicas}}
    with (
        sentinel_of(own_redis, tmp_path) as sentinel,
        replica_of(own_redis, sentinel),
        Fleet(tmp_path, broker_url, f"sentinel://127.0.0.1:{sentinel}/main", settings=settings).start() as fleet,
    ):
        load = endless_load(broker_url, RATE / 4)
        begun = time.monotonic()
        for _ in range(FAIL_OVERS):
            until_failed_over(fleet, sentinel)
        took = time.monotonic() - begun
        account = fleet.close_account(load.stop(), 120)
        lines = list(fleet.lines())
    went_back = sum(line["event"] == "store-went-back" for line in lines)
    fault_table.add(
        f"{FAIL_OVERS} fail-overs, store.min_replicas {min_replicas}: {unmarked_doubles(lines)} unmarked; went back "
        f"{went_back} times; {took / FAIL_OVERS:.1f} s each",
        account,
    )
    assert_nothing_lost_or_untrue(account, lines)
    if min_replicas:
        assert went_back == 0
