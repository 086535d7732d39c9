"""A cluster of three RabbitMQ nodes, of which two fail: the queue can be found on the third, and delivers nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_alarm import LOST_AFTER, SETTINGS, note_all, silence_of_workers
from tests.acceptance.faults.test_faults_workers import ended, run_tasks, tap
from tests.conftest import missing
from tests.support.instances import Fleet, Instance, Overrides, merged
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.scraping import free_listen, probe
from tests.support.services import PrivateRabbitMQ, ServiceMissing
from tests.support.workers import CeleryWorker


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[PrivateRabbitMQ]]:
    """Three nodes in one cluster."""
    with ExitStack() as stack:
        try:
            first = stack.enter_context(PrivateRabbitMQ())
        except ServiceMissing as error:
            missing(error)
        yield [first, *(stack.enter_context(PrivateRabbitMQ(joins=first)) for _ in range(2))]


@pytest.mark.parametrize("fault", ["paused", "killed"])
def test_queue_without_a_majority(
    *,
    fault: str,
    tmp_path: Path,
    cluster: list[PrivateRabbitMQ],
    store_url: str,
    result_url: str,
    fault_table: FaultTable,
) -> None:
    """given instances and workers at one node of three, when the other two stop or die for longer than a worker may be
    silent, then each instance says that the queue delivers nothing and is not ready, `check` fails by the same name,
    no worker is called lost, and all is well when the nodes are back
    """
    survivor, *others = cluster
    url = survivor.add_vhost(fault)
    listen = free_listen(2)
    # The defaults: three nodes, workers and instances are much for a busy machine.
    times: Overrides = {"store": {"lease": 5.0, "timeout": 2.0}, "broker": {"heartbeat": 10.0}}
    settings = merged(SETTINGS, times, {"http": {"listen": listen}})
    with (
        tap(url) as tapped,
        Fleet(tmp_path, url, store_url, size=2, settings=settings).start() as fleet,
        CeleryWorker(url, "a", result_backend=result_url, send_sent_event=True),
        CeleryWorker(url, "b", result_backend=result_url, send_sent_event=True),
    ):
        ids = run_tasks(url, result_url, 60)
        wait_until(lambda: ids <= ended(fleet), 60, "the tasks before", 0.1)
        for node in others:
            (node.pause if fault == "paused" else node.kill)()
        wait_until(lambda: all(map(says_why, fleet.instances)), 60, "that each instance says why", 0.1)
        probes = [probe(listen, one.name) for one in fleet.instances]
        findings = [one.text for one in check_broker(fleet.config) if one.severity is Severity.FAILED]
        wait_until(lambda: silence_of_workers(fleet) > 3 * LOST_AFTER, 90, "a long silence", 0.5)
        for node in others:
            (node.resume if fault == "paused" else node.start)()
        fleet.wait_until_connected("broker", 2)
        ids |= run_tasks(url, result_url, 60)
        wait_until(lambda: ids <= ended(fleet), 60, "the tasks afterwards", 0.1)
        published = Published()
        note_all(published, tapped)
        account = fault_table.add(f"RabbitMQ cluster: two of three nodes {fault}", fleet.account(published))
        lost = fleet.said("worker-lost") + fleet.said("workers-lost")
        ready = [probe(listen, one.name)[0] for one in fleet.instances]
    assert_guarantee(account)
    assert lost == []
    assert [status for status, _ in probes] == [503, 503]
    assert all("delivers nothing" in str(body["reasons"]) for _, body in probes), probes
    assert any("delivers nothing" in text for text in findings), findings
    assert ready == [200, 200]


def says_why(instance: Instance) -> bool:
    """Whether an instance has said that the queue delivers nothing."""
    lines = instance.lines()
    return any("delivers nothing" in line.get("reason", "") for line in lines if line["event"] == "broker-unavailable")
