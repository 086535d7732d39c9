"""The leader of a real fleet through kills and freezes: fleet-wide numbers are there once, and changes told once."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.instances import Fleet, Instance, Overrides
from tests.support.machine import Timed
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.scraping import Samples, free_listen, scrape
from tests.support.workers import CeleryWorker

HEARTBEAT = 2
"""Seconds between two of a worker."""
QUICK = {
    "store": {"lease": 5.0},
    "metrics": {"survey_interval": 1.0},
    "workers": {"late_after": 4.0, "lost_after": 8.0},
}


def scrapes(fleet: Fleet, listen: str) -> dict[str, Samples]:
    """What the running instances export, by name."""
    found = {}
    for one in fleet.instances:
        try:
            found[one.name] = scrape(listen, one.name)
        except OSError:
            continue
    return found


def leader(fleet: Fleet, listen: str) -> Instance | None:
    """The one instance that says that it leads; more than one is an error."""
    leading = [name for name, samples in scrapes(fleet, listen).items() if samples.sum("ha_monitor_leader")]
    assert len(leading) <= 1, f"{leading} all say that they lead"
    return next((one for one in fleet.instances if one.name in leading), None)


def test_fleet_wide_gauges_are_there_once_and_come_back_within_ten_seconds(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given three instances and two workers on two hosts, the sum of each fleet-wide gauge is the truth; when the
    leader is killed, and started again, it is at no scrape more than that, and back within ten seconds.
    """
    listen = free_listen(3)
    with (
        Fleet(tmp_path, broker_url, store_url, settings={**QUICK, "http": {"listen": listen}}).start() as fleet,
        CeleryWorker(broker_url, "a", concurrency=2) as first,
        CeleryWorker(broker_url, "b", concurrency=3, pool="threads"),
    ):

        def sums() -> dict[str, float]:
            samples = scrapes(fleet, listen).values()
            return {
                name: sum(one.sum(name, **labels) for one in samples)
                for name, labels in (
                    ("ha_monitor_leader", {}),
                    ("ha_monitor_instances", {}),
                    ("celery_worker_up", {}),
                    ("celery_active_worker_count", {"queue_name": "celery"}),
                    ("celery_active_process_count", {"queue_name": "celery"}),
                    ("celery_active_consumer_count", {"queue_name": "celery"}),
                )
            }

        truth = {
            "ha_monitor_leader": 1,
            "ha_monitor_instances": 3,
            "celery_worker_up": 2,
            "celery_active_worker_count": 2,
            "celery_active_process_count": 5,
            "celery_active_consumer_count": 2,
        }
        try:
            wait_for_value(sums, truth, 30, "the fleet's gauges", 0.2)
        except TimeoutError:
            assert sums() == truth
        leading = leader(fleet, listen)
        assert leading is not None
        up = scrape(listen, leading.name).of("celery_worker_up", worker=first.nodename)
        assert list(up.values()) == [1]

        def checked_sums() -> dict[str, float]:
            seen = sums()
            assert all(seen[name] <= most for name, most in limits.items()), seen
            return seen

        limits = dict(truth)
        scraped = 0
        leading.kill()
        with Timed() as timed:

            def led() -> bool:
                nonlocal scraped
                scraped += 1
                return checked_sums()["ha_monitor_leader"] == 1

            wait_until(led, 10, "the next leader", 0.1)
        measured("leader killed → the next one exports (lease 5 s)", f"{timed.seconds:.1f} s")
        assert timed.undisturbed < 10, timed
        truth["ha_monitor_instances"] = 2
        wait_for_value(checked_sums, truth, 15, "the fleet's gauges from the next leader", 0.2)
        leading.start()
        truth["ha_monitor_instances"] = 3
        wait_for_value(checked_sums, truth, 15, "the fleet's gauges with the former leader", 0.1)
        assert scraped > 10


def test_a_frozen_leader_says_nothing_when_it_wakes(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given a leader frozen past its lease, another leads, and the woken one does not export fleet-wide gauges."""
    listen = free_listen(2)
    settings: Overrides = {**QUICK, "store": {"lease": 2.0}, "http": {"listen": listen}}
    with Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet:
        frozen = wait_until(lambda: leader(fleet, listen), 20, "a leader", 0.2)
        assert frozen is not None
        (other,) = (one for one in fleet.instances if one is not frozen)
        frozen.freeze()
        wait_until(lambda: other.said("leadership-acquired"), 10, "another leader")
        frozen.thaw()
        # As soon as it answers, and until it has understood.
        for _ in range(20):
            assert scrape(listen, frozen.name).sum("ha_monitor_leader") == 0
            time.sleep(0.05)
        wait_until(lambda: frozen.said("lease-lost") or frozen.said("leadership-lost"), 10, "its understanding")
        assert scrape(listen, frozen.name).of("celery_worker_up") == {}


def test_a_killed_worker_is_lost_once_and_recovers_once(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given two workers on one host of which one is killed and comes back, one line over the fleet says each, the
    other worker is not mentioned, and celery_worker_up follows.
    """
    listen = free_listen(2)
    settings: Overrides = {**QUICK, "http": {"listen": listen}}
    with (
        Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet,
        CeleryWorker(broker_url, "a") as victim,
        CeleryWorker(broker_url, "b") as other,
    ):

        def up(worker: str) -> float | None:
            found: dict[frozenset[tuple[str, str]], float] = {}
            for samples in scrapes(fleet, listen).values():
                found |= samples.of("celery_worker_up", worker=worker)
            return next(iter(found.values()), None)

        name, rest = victim.nodename, other.nodename
        wait_until(lambda: up(name) == 1 and up(rest) == 1, 20, "two workers")
        time.sleep(9)  # until silence means something
        victim.kill()
        with Timed() as timed:
            wait_until(lambda: fleet.said("worker-lost"), 25, "the line of the lost worker", 0.1)
        measured("worker killed → worker-lost (lost_after 8 s)", f"{timed.seconds:.1f} s")
        wait_for_value(lambda: up(name), 0, 5, "the gauge of the lost worker")
        assert up(rest) == 1
        victim.start()
        started = time.monotonic()
        wait_until(lambda: fleet.said("worker-recovered"), 15, "the line of the recovered worker", 0.1)
        measured("worker ready again → worker-recovered", f"{time.monotonic() - started:.1f} s")
        wait_for_value(lambda: up(name), 1, 5, "the gauge of the recovered worker")
        time.sleep(2)

        assert [line["worker"] for line in fleet.said("worker-lost")] == [name]
        assert [line["worker"] for line in fleet.said("worker-recovered")] == [name]
        (lost,) = fleet.said("worker-lost")
        # It may have been silent for a heartbeat, or a late one, when it was killed.
        assert (lost["level"], 8 <= lost["silent"] < timed.seconds + 2 * HEARTBEAT) == ("warning", True)
