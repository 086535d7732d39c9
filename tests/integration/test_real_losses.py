"""The loss detector under real workers: exact when events are dropped on purpose, silent otherwise."""

from __future__ import annotations

import json
import time
from pathlib import Path

from kombu import Connection
from redis import Redis

from tests.integration.test_losses import Worker
from tests.support.capture import Capture, capture
from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.scraping import free_listen, scrape
from tests.support.workers import CeleryWorker


def lost(fleet: Fleet) -> dict[str, int]:
    """What the lines say was lost, by worker."""
    found: dict[str, int] = {}
    for line in fleet.said("events-lost"):
        found[line["worker"]] = found.get(line["worker"], 0) + line["lost"]
    return found


def exported(fleet: Fleet, listen: str) -> float:
    return sum(scrape(listen, one.name).sum("ha_monitor_events_lost_total") for one in fleet.instances if one.running)


def succeeded(fleet: Fleet) -> int:
    return len({line["event_id"] for line in fleet.said("task-succeeded")})


def wait_for_heartbeats(truth: Capture, runs: dict[str, int]) -> None:
    """Wait until workers have told, from now on, how many runs they have begun."""
    begin = len(truth.events)

    def told() -> bool:
        truth.drain()
        beats = (event for event in truth.events[begin:] if event["type"] == "worker-heartbeat")
        return {event["hostname"]: event["processed"] for event in beats} == runs

    wait_until(told, 30, f"heartbeats that tell of {runs}")


def test_no_false_alarm(tmp_path: Path, broker_url: str, store_url: str, measured: Measured) -> None:
    """Given workers with processes and with threads under load with retries and failures, of which one is killed and
    started again, and an instance that is killed and one that is frozen, nothing is said to be lost.
    """
    listen = free_listen(3)
    app = make_app(broker_url)
    with (
        Fleet(tmp_path, broker_url, store_url, settings={"http": {"listen": listen}}).start() as fleet,
        CeleryWorker(broker_url, "a", concurrency=2) as first,
        CeleryWorker(broker_url, "b", concurrency=4, pool="threads") as second,
    ):
        for number in range(30):
            for _ in range(15):
                app.tasks["tests.add"].delay(1, 2)
            app.tasks["tests.flaky"].delay(2)
            app.tasks["tests.fail"].delay()
            time.sleep(0.3)
            if number == 8:
                fleet.instances[0].kill()
                fleet.instances[0].start()
            elif number == 12:
                first.kill()
                first.start()
            elif number == 16:
                fleet.instances[1].freeze()
            elif number == 24:
                fleet.instances[1].thaw()
        time.sleep(15)  # some heartbeats more, and the time for which messages may be held back

        measured("events lost / found, with kills and freezes and no loss", f"0 / {sum(lost(fleet).values())}")
        names = {first.nodename, second.nodename}
        assert lost(fleet) == {}
        accounts = Redis.from_url(store_url).scan_iter("*:l:*")
        looked_at = {key.split(b":l:")[1].split(b"\x1f")[0].decode() for key in accounts}
        assert looked_at == names, "the detector was not at work"
        assert exported(fleet, listen) == 0


def test_a_purge_is_counted_to_the_task(tmp_path: Path, broker_url: str, store_url: str, measured: Measured) -> None:
    """Given two workers, of which one idles afterwards, and events that wait in the queue while no instance runs and
    are purged, the number of runs that nobody heard of is reported exactly, in lines and in the metric's sum.
    """
    listen = free_listen(2)
    app = make_app(broker_url)
    with (
        Fleet(tmp_path, broker_url, store_url, size=2, settings={"http": {"listen": listen}}).start() as fleet,
        capture(broker_url) as truth,
        CeleryWorker(broker_url, "a", concurrency=2) as first,
        CeleryWorker(broker_url, "b", concurrency=2, pool="threads", queues=("other",)) as second,
    ):
        for _ in range(20):
            app.tasks["tests.add"].delay(1, 2)
            app.tasks["tests.add"].apply_async((1, 2), queue="other")
        wait_for_value(lambda: succeeded(fleet), 40, 30, "the tasks before")
        # A heartbeat is looked at when the next one has come.
        for _ in range(2):
            wait_for_heartbeats(truth, {first.nodename: 20, second.nodename: 20})
        fleet.wait_until_merged(len(truth.events))
        for one in fleet.instances:
            assert one.stop() == 0
        for _ in range(123):
            app.tasks["tests.add"].delay(1, 2)
        for _ in range(45):
            app.tasks["tests.add"].apply_async((1, 2), queue="other")
        truth.wait_for("task-succeeded", 40 + 123 + 45)
        with Connection(broker_url) as connection:
            connection.default_channel.queue_purge("celeryev.fleet")
        fleet.start()
        began = time.monotonic()
        for _ in range(20):
            app.tasks["tests.add"].delay(1, 2)
        expected = {first.nodename: 123, second.nodename: 45}
        try:
            wait_for_value(lambda: lost(fleet), expected, 45, "the lines of what was lost", 0.2)
        except TimeoutError:
            assert lost(fleet) == expected
        took = time.monotonic() - began
        measured("events purged / found, on two workers", f"168 / {sum(lost(fleet).values())} after {took:.1f} s")
        wait_for_value(lambda: exported(fleet, listen), 168, 10, "the counters")
        time.sleep(6)

        assert lost(fleet) == expected
        assert exported(fleet, listen) == 168


def test_losses_are_not_looked_for_where_tasks_send_no_events(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given `workers.count_losses = false`, and a worker of whose runs some are never heard of, no line says so."""
    worker = Worker()
    stream = [worker.online()]
    for runs in (10, 10, 10, 0, 0):
        stream += worker.spell(runs)[2 if runs else 0 :]
    settings = {"workers": {"count_losses": False}}
    redis = Redis.from_url(store_url)

    def heartbeats_left() -> list[int]:
        return [redis.strlen(key) // 32 for key in redis.scan_iter("*:b:*")]

    with Fleet(tmp_path, broker_url, store_url, size=1, settings=settings).start() as fleet:
        publish(broker_url, [Recorded("task.multi", "application/json", "utf-8", json.dumps(stream))])
        wait_for_value(heartbeats_left, [1], 30, "all heartbeats but the last were looked at", 0.2)
        fleet.instances[0].stop()
        assert fleet.said("worker-online")
        assert lost(fleet) == {}
