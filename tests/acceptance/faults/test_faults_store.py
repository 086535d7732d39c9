"""A store that restarts, is away for a while, or goes silent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ha_monitor.store.reader import StoreReader
from tests.acceptance.faults.conftest import FaultTable
from tests.conftest import missing
from tests.support.instances import Fleet, queue_depth, through, vhost_of
from tests.support.ledger import assert_guarantee
from tests.support.process import ServiceMissing, wait_until
from tests.support.proxy import CutLink
from tests.support.publishing import Load
from tests.support.recording import read_stream, replicate
from tests.support.services import PrivateRabbitMQ, PrivateRedis

QUEUE = "celeryev.fleet"


@pytest.fixture
def safe_redis() -> Iterator[PrivateRedis]:
    """A Redis that has on disk whatever it has answered."""
    try:
        server = PrivateRedis(appendonly=True, options=("--appendfsync", "always"))
    except ServiceMissing as error:
        missing(error)
    with server:
        yield server


def endless_load(url: str, rate: float) -> Load:
    return Load(url, replicate(read_stream("small"), 1000, start=time.time()), rate)


def all_said(fleet: Fleet, event: str, times: int = 1) -> bool:
    return all(one.said(event) >= times for one in fleet.instances)


def leases(fleet: Fleet, server: PrivateRedis) -> list[float]:
    """Seconds that the lease of each instance still has, as the store itself says."""
    reader = StoreReader(msgspec.structs.replace(fleet.config.store, url=server.url()), fleet.node_id)
    reader.connect()
    try:
        return [entry.lease_left for entry in reader.instances()]
    finally:
        reader.close()


def test_store_restarts(tmp_path: Path, broker_url: str, safe_redis: PrivateRedis, fault_table: FaultTable) -> None:
    """given a load, when Redis is killed and started several times, then nothing is lost and nothing doubled"""
    with Fleet(tmp_path, broker_url, safe_redis.url()).start() as fleet:
        load = endless_load(broker_url, rate=500)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        for number in range(1, 4):
            time.sleep(0.5)
            safe_redis.kill()
            safe_redis.start()
            fleet.wait_until_connected("store", number + 1)
        published = load.stop()
        account = fault_table.add("3 x Redis: kill -9, start", fleet.close_account(published))
    assert_guarantee(account)


def test_store_is_away_for_a_while(
    tmp_path: Path,
    rabbitmq: PrivateRabbitMQ,
    broker_url: str,
    safe_redis: PrivateRedis,
    fault_table: FaultTable,
) -> None:
    """given a load, when Redis is away for 20 s, then the events wait in the queue, not one acknowledged, and are
    announced once afterwards
    """
    with Fleet(tmp_path, broker_url, safe_redis.url()).start() as fleet:
        load = endless_load(broker_url, rate=200)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        safe_redis.kill()
        begun = time.monotonic()
        wait_until(lambda: all_said(fleet, "store-unavailable"), 30, "that all instances notice")
        said_before = Counter(line["event"] for line in fleet.lines())
        before = queue_depth(broker_url)
        time.sleep(max(0.0, 20 - (time.monotonic() - begun)))
        after = queue_depth(broker_url)
        in_flight = rabbitmq.queues(vhost_of(broker_url))[QUEUE]["messages_unacknowledged"]
        said_meanwhile = Counter(line["event"] for line in fleet.lines()) - said_before
        safe_redis.start()
        published = load.stop()
        account = fault_table.add("Redis away for 20 s", fleet.close_account(published))
    assert_guarantee(account)
    # The recording has no workers, so nobody answers to the instances' greeting, which has ten seconds.
    assert said_meanwhile.keys() - {"no-worker-answered"} == {"store-unavailable"}
    assert after > before, "the queue grows while nothing is acknowledged"
    assert in_flight == 0, "nobody keeps what it cannot handle"
    assert queue_depth(broker_url) == 0


def test_store_is_away_with_redis_as_broker(
    tmp_path: Path, redis_broker_url: str, safe_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given pub/sub, which sends nothing twice, when the store is away, then the instances keep what comes"""
    with Fleet(tmp_path, redis_broker_url, safe_redis.url()).start() as fleet:
        load = endless_load(redis_broker_url, rate=100)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        safe_redis.kill()
        wait_until(lambda: all_said(fleet, "store-unavailable"), 30, "that all instances notice")
        time.sleep(5)
        safe_redis.start()
        wait_until(lambda: all_said(fleet, "store-connected", 2), 30, "the instances' return")
        published = load.stop()
        account = fault_table.add("Redis store away for 5 s, Redis as broker", fleet.close_account(published))
    assert fleet.said("events-dropped") == []
    assert_guarantee(account)


def test_link_to_the_store_is_cut_without_a_word(
    tmp_path: Path, broker_url: str, safe_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given a load, when the network swallows all packets to Redis, then the instances notice by the time-out, and
    nothing is lost or doubled although nobody can know what became of the last calls
    """
    with (
        CutLink(safe_redis.port) as link,
        Fleet(tmp_path, broker_url, through(link, safe_redis.url())).start() as fleet,
    ):
        load = endless_load(broker_url, rate=500)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        for _ in range(3):
            time.sleep(0.5)
            link.cut()
            wait_until(lambda: all(left < -1 for left in leases(fleet, safe_redis)), 30, "the end of all leases", 0.1)
            link.heal()
            wait_until(lambda: all(left > 0 for left in leases(fleet, safe_redis)), 30, "their return", 0.1)
        published = load.stop()
        account = fault_table.add("3 x Redis: link half-open", fleet.close_account(published))
    assert_guarantee(account)


def test_store_freezes(tmp_path: Path, broker_url: str, safe_redis: PrivateRedis, fault_table: FaultTable) -> None:
    """given a load, when Redis hangs past every lease, then no instance takes the others for dead"""
    # Long enough that an instance renews its new lease in time on a busy machine, too.
    settings = {"store": {"lease": 10.0}}
    with Fleet(tmp_path, broker_url, safe_redis.url(), settings=settings).start() as fleet:
        load = endless_load(broker_url, rate=400)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        safe_redis.pause()
        wait_until(lambda: all_said(fleet, "store-unavailable"), 30, "that all instances notice")
        time.sleep(12)
        safe_redis.resume()
        wait_until(lambda: all_said(fleet, "store-connected", 2), 30, "the instances' return")
        published = load.stop()
        account = fault_table.add("Redis: SIGSTOP for 12 s", fleet.close_account(published))
        takeovers = fleet.said("outbox-taken-over")
    assert_guarantee(account)
    assert takeovers == []
