"""A cluster of three RabbitMQ nodes, of which two fail or are out of reach: the queue can be found on the third, and
cannot deliver.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_alarm import LOST_AFTER, SETTINGS, note_all, silence_of_workers
from tests.acceptance.faults.test_faults_workers import ended, run_tasks, tap
from tests.conftest import missing
from tests.support.cluster import cluster_of_three, heal, part
from tests.support.instances import Fleet, Instance, merged
from tests.support.ledger import Published, assert_guarantee
from tests.support.machine import Timed
from tests.support.process import wait_until
from tests.support.scraping import free_listen, probe
from tests.support.services import PrivateRabbitMQ, ServiceMissing
from tests.support.workers import CeleryWorker


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[PrivateRabbitMQ]]:
    """Three nodes in one cluster."""
    try:
        with cluster_of_three() as nodes:
            yield nodes
    except ServiceMissing as error:
        missing(error)


@pytest.fixture
def parting_cluster(request: pytest.FixtureRequest) -> Iterator[list[PrivateRabbitMQ]]:
    """Three nodes of this test's own, which deal with partitions as it says."""
    try:
        with cluster_of_three(partition_handling=request.param) as nodes:
            yield nodes
    except ServiceMissing as error:
        missing(error)


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
    silent, then each instance says that the queue cannot deliver and is not ready, `check` fails by the same name,
    no worker is called lost, and all is well when the nodes are back
    """
    survivor, *others = cluster
    url = survivor.add_vhost(fault)
    listen = free_listen(2)
    settings = merged(SETTINGS, {"http": {"listen": listen}})
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
    assert all("cannot deliver" in str(body["reasons"]) for _, body in probes), probes
    assert any("cannot deliver" in text for text in findings), findings
    assert ready == [200, 200]


@pytest.mark.long
@pytest.mark.parametrize("parting_cluster", ["ignore", "autoheal", "pause_minority"], indirect=True)
def test_partition(
    *,
    tmp_path: Path,
    parting_cluster: list[PrivateRabbitMQ],
    store_url: str,
    result_url: str,
    fault_table: FaultTable,
    request: pytest.FixtureRequest,
) -> None:
    """given instances and workers at one node of three, when it is parted from the others for longer than a worker may
    be silent, then each instance says what it can know and is not ready, no worker is called lost, and when the nodes
    have met again all is well without a restart of anything, whatever RabbitMQ does about a partition
    """
    node, *others = parting_cluster
    handling = request.node.callspec.params["parting_cluster"]
    url = node.add_vhost("parted")
    listen = free_listen(2)
    settings = merged(SETTINGS, {"http": {"listen": listen}})
    published = Published()
    with (
        Fleet(tmp_path, url, store_url, size=2, settings=settings).start() as fleet,
        CeleryWorker(url, "a", result_backend=result_url, send_sent_event=True),
        CeleryWorker(url, "b", result_backend=result_url, send_sent_event=True),
    ):
        announce_tasks(fleet, url, result_url, published)
        part(node, others)
        wait_until(lambda: all(one.said("broker-unavailable") for one in fleet.instances), 60, "that all say so", 0.1)
        probes = [probe(listen, one.name) for one in fleet.instances]
        wait_until(lambda: silence_of_workers(fleet) > 3 * LOST_AFTER, 90, "a long silence", 0.5)
        heal(node, others)
        with Timed() as timed:
            fleet.wait_until_connected("broker", 2)
        announce_tasks(fleet, url, result_url, published)
        account = fleet.account(published)._replace(renamed=0)  # what no tap has seen is not among them
        reasons = {line["reason"] for line in fleet.said("broker-unavailable")}
        fault_table.add(f"RabbitMQ cluster: partition, {handling}; back after {timed.seconds:.1f} s", account)
        lost = fleet.said("worker-lost") + fleet.said("workers-lost")
        ready = [probe(listen, one.name)[0] for one in fleet.instances]
    assert_guarantee(account)
    assert lost == []
    assert [status for status, _ in probes] == [503, 503]
    if handling != "pause_minority":
        assert any("cannot deliver" in reason for reason in reasons), reasons
    assert ready == [200, 200]


def announce_tasks(fleet: Fleet, url: str, result_url: str, published: Published) -> None:
    """Have tasks run, and note their events."""
    with tap(url) as tapped:
        ids = run_tasks(url, result_url, 60)
        wait_until(lambda: ids <= ended(fleet), 60, "the end of all tasks", 0.1)
        note_all(published, tapped)
    fleet.wait_until_announced(published)


def says_why(instance: Instance) -> bool:
    """Whether an instance has said that the queue cannot deliver."""
    lines = instance.lines()
    return any("cannot deliver" in line.get("reason", "") for line in lines if line["event"] == "broker-unavailable")
