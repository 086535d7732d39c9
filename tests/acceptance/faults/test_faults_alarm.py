"""A RabbitMQ that is short of memory or disk space: it takes nothing that is published, and delivers all the same."""

from __future__ import annotations

from pathlib import Path

from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.check.workers import check_workers
from ha_monitor.store.reader import StoreReader, Workers
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_workers import Tap, ended, run_tasks, tap
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, Overrides
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.services import PrivateRabbitMQ
from tests.support.workers import CeleryWorker

LOST_AFTER = 6.0
OTHERS = ("no-worker-answered", "store-at-risk")
"""What is said as well: there are no workers yet at first, and the tests' Redis does not persist its data."""
SETTINGS: Overrides = {
    "workers": {"late_after": 3.0, "lost_after": LOST_AFTER},
    # The defaults: nodes, workers and instances are much for a busy machine.
    "store": {"lease": 5.0, "timeout": 2.0},
    "broker": {"heartbeat": 10.0},
}


def known_workers(fleet: Fleet) -> Workers:
    """Those of which the store knows."""
    reader = StoreReader(fleet.config.store, fleet.node_id)
    reader.connect()
    try:
        return reader.workers(SETTINGS["workers"]["late_after"])
    finally:
        reader.close()


def silence_of_workers(fleet: Fleet) -> float:
    """Seconds for which no worker was heard, by the store."""
    return min(worker.silent for worker in known_workers(fleet).entries)


def note_all(published: Published, tapped: Tap) -> None:
    for message in tapped.messages():
        published.add(message)


def test_broker_alarm(
    *,
    tmp_path: Path,
    own_rabbitmq: PrivateRabbitMQ,
    store_url: str,
    result_url: str,
    fault_table: FaultTable,
) -> None:
    """given workers that run tasks, when RabbitMQ has an alarm for longer than a worker may be silent, then each
    instance that asks workers meanwhile says so once, and that it is over, `check` fails by its name, no worker is
    called lost, nothing is lost; and a worker that is killed afterwards is lost
    """
    url = own_rabbitmq.add_vhost("alarm")
    with (
        tap(url) as tapped,
        Fleet(tmp_path, url, store_url, size=2, settings=SETTINGS).start() as fleet,
        CeleryWorker(url, "a", result_backend=result_url, send_sent_event=True) as victim,
        CeleryWorker(url, "b", result_backend=result_url, send_sent_event=True),
    ):
        ids = run_tasks(url, result_url, 60)
        app = make_app(url, result_url, send_sent_event=True)
        during = {app.tasks["tests.add"].apply_async((1, 2), countdown=LOST_AFTER).id for _ in range(10)}
        wait_until(lambda: ids <= ended(fleet), 60, "the tasks before", 0.1)
        own_rabbitmq.begin_alarm("memory")
        wait_until(lambda: fleet.said("broker-alarm"), 30, "the line of the alarm", 0.1)
        wait_until(lambda: silence_of_workers(fleet) > 3 * LOST_AFTER, 60, "a long silence", 0.5)
        failures = [
            finding.text
            for finding in (*check_broker(fleet.config), *check_workers(fleet.config))
            if finding.severity is Severity.FAILED
        ]
        own_rabbitmq.end_alarms()
        wait_until(lambda: fleet.said("broker-alarm-over"), 30, "the line of its end", 0.1)
        wait_until(lambda: ids | during <= ended(fleet), 60, "the tasks during the alarm", 0.1)
        assert fleet.said("worker-lost") + fleet.said("workers-lost") == []
        name = victim.nodename
        victim.kill()
        wait_until(lambda: fleet.said("worker-lost"), 60, "the line of the worker that was killed", 0.2)
        published = Published()
        note_all(published, tapped)
        account = fault_table.add("RabbitMQ: memory alarm of three times lost_after", fleet.account(published))
        said = [
            (line["event"], line["instance"])
            for line in fleet.lines()
            if line["level"] != "info" and "event_time" not in line and line["event"] not in OTHERS
        ]
        lost = [line["worker"] for line in fleet.said("worker-lost")]
    assert_guarantee(account)
    assert lost == [name]
    (failure,) = failures
    assert "RabbitMQ has a memory or disk alarm" in failure
    assert {event for event, _ in said} == {"broker-alarm"}
    assert len(said) == len(set(said)), "each instance that hears of it says so once"
