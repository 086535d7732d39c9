"""Redis as the broker, which keeps nothing: what an instance does not read in time is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.broker.pubsub_limit import SETTING
from tests.acceptance.faults.conftest import FaultTable
from tests.conftest import served
from tests.support.fault_handlers import SLOW, VARIABLE, calls
from tests.support.hosts_events import fresh_event, message
from tests.support.instances import Fleet, Overrides, merged, through
from tests.support.ledger import Account, Published, assert_guarantee, is_event, key_of_event, key_of_line
from tests.support.process import wait_for_value, wait_until
from tests.support.proxy import CutLink
from tests.support.recording import publish
from tests.support.scraping import free_listen, probe, scrape
from tests.support.services import PrivateRedis
from tests.support.slow_handlers import WAITING, Gate
from tests.support.steady_workers import SteadyWorkers

MIB = 1024 * 1024
HANDLERS = {"modules": ["tests.support.slow_handlers"]}
FALSE_ALARMS = ("worker-lost", "workers-lost", "events-lost", "library-message", "task-events-missing")
QUICK_ALARMS = {"late_after": 5.0, "lost_after": 15.0}


@pytest.fixture
def own_broker() -> Iterator[PrivateRedis]:
    """A Redis of this test's own, whose limits it sets."""
    yield from served(PrivateRedis)


def handled(folder: Path) -> int:
    """How many calls of the slow handler have returned."""
    return sum(handler == "slow" for handler, _ in calls(folder))


def alone(tmp_path: Path, broker_url: str, store_url: str, **settings: Mapping[str, Any]) -> Fleet:
    """An instance beside which nobody receives anything, with handlers that leave their traces."""
    # Of a task that came to its end after a gap the name may have been lost in it: its line is to come soon.
    usual: Overrides = {"handlers": HANDLERS, "workers": QUICK_ALARMS, "store": {"name_wait": 5.0}}
    sections = merged(usual, settings)
    env = {VARIABLE: str(tmp_path)}
    return Fleet(tmp_path, broker_url, store_url, size=1, settings=sections, env=env).start()


def occupy(broker_url: str, *seconds: float) -> Published:
    """Let a handler be called for so long each, with what one message brings; without seconds, once, until the gate is
    opened.
    """
    sent = message(*[fresh_event(SLOW, seconds=one) for one in seconds] or [fresh_event(WAITING)])
    publish(broker_url, [sent])
    return Published([sent])


def lost_outside_the_gap(fleet: Fleet, published: Published) -> list[str]:
    """The events without a line that were not sent in the gap that the latest `broker-connected` tells of."""
    connected = fleet.said("broker-connected")[-1]
    end = datetime.fromisoformat(connected["timestamp"]).timestamp()
    begin = end - connected["gap"]
    announced = {key_of_line(line) for line in fleet.lines() if is_event(line)}
    # Between sending and receiving, and between connecting and writing the line, there is some time.
    return [
        f"{event['timestamp'] - begin:+.3f} of {end - begin:.3f} s: {event['type']}"
        for event in published.events.values()
        if key_of_event(event) not in announced and not begin - 0.5 <= event["timestamp"] <= end + 0.5
    ]


def assert_only_lost(account: Account, fleet: Fleet) -> None:
    """What is not lost is announced once, with its name."""
    # The line that says how many were lost is about no event.
    assert account.renamed == len(fleet.said("events-lost")), account
    assert (account.doubled, account.shared, account.bad) == (0, 0, []), account
    # Of these tasks, the event with the name is what was lost.
    assert account.nameless <= 3, account


@pytest.mark.parametrize("seconds", [[13.0], [1.0] * 13], ids=["one call", "many calls"])
def test_slow_handlers_miss_nothing(
    tmp_path: Path, redis_broker_url: str, store_url: str, fault_table: FaultTable, seconds: list[float]
) -> None:
    """given three publishers and one instance, when its handlers take far longer than a silent subscription is
    tolerated, in one call or in many, then nothing is lost, nobody is called lost, and the subscription stays
    """
    with alone(tmp_path, redis_broker_url, store_url) as fleet, SteadyWorkers(redis_broker_url) as workers:
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        slow = occupy(redis_broker_url, *seconds)
        wait_for_value(lambda: handled(tmp_path), len(seconds), 60, "the end of the handlers", 0.1)
        published = workers.stop()
        published.update(slow)
        name = f"Redis broker: handlers, {len(seconds)} x {seconds[0]:g} s"
        account = fault_table.add(name, fleet.close_account(published))
        alarms = [line for event in FALSE_ALARMS for line in fleet.said(event)]
        outages = fleet.said("broker-unavailable")

    assert_guarantee(account)
    assert alarms == []
    assert outages == []


def test_a_connection_that_is_closed_amid_a_handler_is_made_again_at_once(
    tmp_path: Path, own_broker: PrivateRedis, store_url: str, fault_table: FaultTable
) -> None:
    """given a handler that works for long, when Redis closes the subscription meanwhile, then that is said with how
    long nothing was received, the subscription is made again before the handler returns, and only what was sent in
    the gap is lost
    """
    url = own_broker.url(0)
    with alone(tmp_path, url, store_url) as fleet, SteadyWorkers(url) as workers:
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        slow, gate = occupy(url), Gate(tmp_path)
        gate.wait_until_begun()
        with own_broker.client() as client:
            assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        wait_until(lambda: len(fleet.said("broker-connected")) >= 2, 30, "the new subscription amid the handler", 0.1)
        gate.open()
        published = workers.stop()
        published.update(slow)
        account = fault_table.add("Redis broker: connection closed amid a handler", fleet.close_account(published, 5))
        (outage,) = fleet.said("broker-unavailable")
        outside = lost_outside_the_gap(fleet, published)

    assert "Connection closed by server" in outage["reason"]
    assert "everything was received until" in outage["reason"]
    assert outside == []
    assert_only_lost(account, fleet)


def test_a_half_open_subscription_is_not_ready(
    tmp_path: Path, own_broker: PrivateRedis, store_url: str, fault_table: FaultTable
) -> None:
    """given the default heartbeat, when the network swallows everything, then the instance is not ready long before it
    gives the connection up, no worker is called lost, and only what was sent in the gap is lost
    """
    url, listen = own_broker.url(0), free_listen(1)
    settings: Overrides = {"http": {"listen": listen}, "broker": {"heartbeat": 10.0}}
    with (
        CutLink(own_broker.port) as link,
        alone(tmp_path, through(link, url), store_url, **settings) as fleet,
        SteadyWorkers(url) as workers,
    ):
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        link.cut()
        wait_for_value(lambda: probe(listen, "1")[0], 503, 30, "that it is not ready", 0.1)
        _, answer = probe(listen, "1")
        given_up = fleet.said("broker-unavailable")
        wait_until(lambda: fleet.said("broker-unavailable"), 60, "that it gives up", 0.1)
        link.drop()
        link.heal()
        wait_until(lambda: len(fleet.said("broker-connected")) >= 2, 60, "its return", 0.1)
        wait_for_value(lambda: probe(listen, "1")[0], 200, 30, "that it is ready", 0.1)
        gap = fleet.said("broker-connected")[-1]["gap"]
        false_alarms = fleet.said("worker-lost")
        counted = scrape(listen, "1").sum("ha_monitor_broker_gap_seconds_total")
        published = workers.stop()
        account = fault_table.add("Redis broker: link half-open, alone", fleet.close_account(published, 5))
        outside = lost_outside_the_gap(fleet, published)

    assert given_up == []
    assert [reason.partition(" for ")[0] for reason in answer["reasons"]] == ["broker: has not answered"]
    assert outside == []
    assert account.lost > 0, "the link was not cut"
    assert counted == pytest.approx(gap, abs=0.001)
    assert false_alarms == []
    assert_only_lost(account, fleet)


def test_what_comes_amid_a_handler_does_not_wait_in_redis(
    tmp_path: Path, own_broker: PrivateRedis, store_url: str, fault_table: FaultTable
) -> None:
    """given a low limit for subscribers, when several times as much is published while a handler works, then Redis
    need not close the subscription, and nothing is lost
    """
    url = own_broker.url(0)
    with own_broker.client() as client:
        client.config_set(SETTING, f"pubsub {8 * MIB} 0 0")
    with alone(tmp_path, url, store_url) as fleet, SteadyWorkers(url) as workers:
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        slow, gate = occupy(url), Gate(tmp_path)
        gate.wait_until_begun()
        with SteadyWorkers(url, first=3, padding=60_000) as loud:
            # base64 and kombu's envelope make more of it.
            wait_until(lambda: loud.begun * 60_000 > 32 * MIB, 60, "32 MiB", 0.1)
            published = loud.stop()
        gate.open()
        published.update(workers.stop())
        published.update(slow)
        account = fault_table.add("Redis broker: 4 x the limit amid a handler", fleet.close_account(published))
        alarms = [line for event in FALSE_ALARMS for line in fleet.said(event)]
        outages = fleet.said("broker-unavailable")

    assert outages == []
    assert_guarantee(account)
    assert alarms == []


def test_a_subscriber_that_redis_drops_says_why_and_what_is_missing(
    tmp_path: Path, own_broker: PrivateRedis, store_url: str, fault_table: FaultTable
) -> None:
    """given a low limit for subscribers, when an instance freezes while more than that is published, then it says that
    Redis closed its subscription for that, what was sent since when may be missing, and how many runs are
    """
    url = own_broker.url(0)
    with own_broker.client() as client:
        client.config_set(SETTING, f"pubsub {2 * MIB} 0 0")

        def dropped() -> bool:
            return not client.execute_command("CLIENT", "LIST", "TYPE", "pubsub")

        with (
            alone(tmp_path, url, store_url, store={"lease": 30.0}) as fleet,
            SteadyWorkers(url, rate=150, padding=20_000) as workers,
        ):
            wait_until(lambda: len(fleet.said("task-succeeded")) > 100, 60, "work")
            fleet.instances[0].freeze()
            wait_until(dropped, 60, "that Redis closes the subscription", 0.1)
            fleet.instances[0].thaw()
            wait_until(lambda: len(fleet.said("broker-connected")) >= 2, 60, "the new subscription", 0.1)
            published = workers.stop()
            fleet.wait_until_announced(published, 5)
            missing = published.missing(fleet.lines())

            def counted() -> int:
                workers.beat(1)
                return sum(line["lost"] for line in fleet.said("events-lost"))

            # Each worker may be between start and end at either side of the gap.
            wait_until(lambda: abs(counted() - missing) <= 6, 60, "that the missing runs are counted")
            account = fault_table.add("Redis broker: dropped at the limit", fleet.close_account(published, 1))
            (outage,) = fleet.said("broker-unavailable")
            outside = lost_outside_the_gap(fleet, published)

    assert account.lost > 0
    # Where the kernel drops what Redis had sent before it closed the connection, the cause is likely, not certain.
    certain, likely = (
        f": more was buffered for it than {SETTING} pubsub allows",
        f" (perhaps because of {SETTING} pubsub)",
    )
    assert outage["reason"].partition("; ")[0].endswith((certain, likely)), outage
    assert outside == []
    assert_only_lost(account, fleet)
