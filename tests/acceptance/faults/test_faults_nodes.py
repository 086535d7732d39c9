"""A cluster of three RabbitMQ nodes, one of which is away at a time: the queue's leader is among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_alarm import SETTINGS
from tests.acceptance.faults.test_faults_cluster import cluster
from tests.acceptance.faults.test_faults_store import endless_load
from tests.support.instances import Fleet, merged
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.rights import as_monitor
from tests.support.services import PrivateRabbitMQ

__all__ = ["cluster"]

HOW: dict[str, tuple[Callable[[PrivateRabbitMQ], object], Callable[[PrivateRabbitMQ], object]]] = {
    "killed": (PrivateRabbitMQ.kill, PrivateRabbitMQ.start),
    "restarted": (PrivateRabbitMQ.stop, PrivateRabbitMQ.start),
    "drained": (
        lambda node: node.ctl("drain", tool="rabbitmq-upgrade"),
        lambda node: node.ctl("revive", tool="rabbitmq-upgrade"),
    ),
    "disconnected": (lambda node: node.ctl("close_all_connections", "--global", "by a test"), lambda node: None),
}
"""What is done to a node, and undone."""


@pytest.mark.long
@pytest.mark.parametrize("how", HOW)
def test_each_node_in_turn(
    *, how: str, tmp_path: Path, cluster: list[PrivateRabbitMQ], store_url: str, fault_table: FaultTable
) -> None:
    """given three instances that know all nodes, and a load, when each node in turn is killed, restarted, drained or
    told to close all connections, then nothing is lost or doubled
    """
    do, undo = HOW[how]
    vhost = f"node-{how}"
    urls = [cluster[0].add_vhost(vhost), *(node.url(vhost) for node in cluster[1:])]
    known = {"broker": {"url": ";".join(as_monitor(url, broker=True) for url in urls)}}
    published = Published()
    with Fleet(tmp_path, urls[0], store_url, settings=merged(SETTINGS, known)).start() as fleet:
        for number, node in enumerate(cluster):
            load = endless_load(urls[number - 1], rate=100)
            wait_for_work(fleet, load)
            do(node)
            wait_for_work(fleet, load)
            undo(node)
            published.update(load.stop())
        # Not each new connection has a line.
        times = max(entry.stats["broker_connects"] for entry in fleet.entries())
        account = fault_table.add(f"each of three RabbitMQ nodes {how}", fleet.close_account(published))
    assert_guarantee(account)
    assert fleet.said("queue-shared") == []
    assert times > 1, "no instance was at a node that was away"


def wait_for_work(fleet: Fleet, load: Load) -> None:
    """Until so much more is published, and announced."""
    published, announced = len(load.so_far()), len(fleet.said("task-succeeded"))
    wait_until(lambda: len(load.so_far()) > published + 100, 60, "a load")
    wait_until(lambda: len(fleet.said("task-succeeded")) > announced + 20, 60, "work")
