"""Instances that die, freeze, stop, or are all away, while events keep coming."""

from __future__ import annotations

import signal
import time
from itertools import islice
from pathlib import Path

import pytest

from tests.acceptance.faults.conftest import FaultTable
from tests.support.instances import Fleet
from tests.support.kills import kill_at_random
from tests.support.ledger import Published, assert_guarantee
from tests.support.machine import Timed
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.recording import publish, read_stream, replicate

ENDLESS = 1000
"""Copies of the recording: more than any test publishes."""
KILLS = 20
STOP_TIMEOUT = 30
"""Seconds after which systemd would kill."""


@pytest.mark.parametrize("detail_ttl", [0, 1], ids=["whole records", "records that shrink after 1 s"])
def test_random_kills_on_rabbitmq(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable, detail_ttl: int
) -> None:
    """given three instances under load, when each is killed again and again, so that events come late and again, then
    nothing is lost, whether the records of succeeded tasks stay whole or shrink meanwhile"""
    settings = {"store": {"detail_ttl": detail_ttl}}
    with Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet:
        load = Load(broker_url, replicate(read_stream("small"), ENDLESS, start=time.time()), rate=1500)
        kill_at_random(fleet, KILLS, seed=1)
        published = load.stop()
        fleet.wait_until_consuming()
        of_records = ", records shrink after 1 s" if detail_ttl else ""
        account = fault_table.add(f"{KILLS} x kill -9, RabbitMQ{of_records}", fleet.close_account(published))
    assert_guarantee(account, may_double=True)


def test_random_kills_on_redis(tmp_path: Path, redis_broker_url: str, store_url: str, fault_table: FaultTable) -> None:
    """given pub/sub, when instances are killed, then nothing is lost that another one was there for, too"""
    with Fleet(tmp_path, redis_broker_url, store_url).start() as fleet:
        load = Load(redis_broker_url, replicate(read_stream("small"), ENDLESS, start=time.time()), rate=800)
        kill_at_random(fleet, KILLS, seed=2, at_stake=load.so_far)
        published = load.stop()
        fleet.wait_until_consuming()
        account = fault_table.add(f"{KILLS} x kill -9, Redis as broker", fleet.close_account(published))
    assert_guarantee(account, may_double=True)


def test_frozen_instance_is_taken_over_and_returns(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given a load, when an instance is frozen past its lease, then others take over, and it joins in again"""
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        frozen, *others = fleet.instances
        load = Load(broker_url, replicate(read_stream("small"), ENDLESS, start=time.time()), rate=600)
        wait_until(lambda: any(True for _ in frozen.lines()), 30, "work of the instance")
        time.sleep(1)
        frozen.freeze()
        wait_until(
            lambda: any(
                line["event"] == "outbox-taken-over" and line["of_instance"] == frozen.name
                for one in others
                for line in one.lines()
            ),
            30,
            "the take-over",
        )
        frozen.thaw()
        wait_until(lambda: frozen.said("lease-lost"), 30, "that the frozen instance notices")
        wait_until(lambda: frozen.said("store-connected") >= 2, 30, "that it registers again")
        before = frozen.said("task-succeeded")
        wait_until(lambda: frozen.said("task-succeeded") > before, 30, "that it announces again")
        published = load.stop()
        account = fault_table.add("SIGSTOP past the lease, SIGCONT", fleet.close_account(published))
    assert_guarantee(account, may_double=True)


def test_all_instances_away_for_a_minute(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given a fleet that is killed at once, when it is started a minute later, then it announces that minute too"""
    messages = replicate(read_stream("small"), ENDLESS, start=time.time())
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        load = Load(broker_url, messages, rate=60)
        wait_until(lambda: any(one.said("task-succeeded") for one in fleet.instances), 30, "work")
        for instance in fleet.instances:
            instance.kill()
        time.sleep(60)
        fleet.start()
        published = load.stop()
        account = fault_table.add("all instances away for 60 s", fleet.close_account(published))
    assert_guarantee(account, may_double=True)


def test_orderly_stops_under_load(tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable) -> None:
    """given a load, when instances are stopped by SIGTERM in turn, then each ends in time and nothing is doubled"""
    durations = []
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        load = Load(broker_url, replicate(read_stream("small"), ENDLESS, start=time.time()), rate=600)
        for instance in fleet.instances * 2:
            fleet.wait_until_consuming()
            with Timed() as timed:
                assert instance.stop() == 0
            durations.append(timed.undisturbed)
            assert instance.said("instance-stopped") == 1
            instance.start()
        published = load.stop()
        fleet.wait_until_consuming()
        account = fault_table.add("6 x SIGTERM", fleet.close_account(published))
    assert max(durations) < STOP_TIMEOUT, durations
    assert_guarantee(account)


def test_stop_of_all_at_once_leaves_the_rest_in_the_queue(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given a full queue, when all instances are stopped at once, then each puts away what it has in hand in time,
    and the next start has the rest
    """
    messages = list(islice(replicate(read_stream("small"), 8, start=time.time()), 10_000))
    # No lease may run out while the queue is filled: that would be another test.
    settings = {"store": {"lease": 60.0}, "broker": {"heartbeat": 60.0}}
    with Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet:
        for instance in fleet.instances:
            instance.freeze()
        publish(broker_url, messages)
        for instance in fleet.instances:
            instance.process.send(signal.SIGTERM)
            instance.thaw()
        assert [instance.process.wait(STOP_TIMEOUT) for instance in fleet.instances] == [0, 0, 0]
        published = Published(messages)
        assert published.missing(fleet.lines()) > 0, "all was done before the stop: the test would prove nothing"
        fleet.start()
        account = fault_table.add("SIGTERM to all, queue of 10,000", fleet.close_account(published))
    assert_guarantee(account)
