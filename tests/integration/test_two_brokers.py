"""Instances of one node_id on two virtual hosts of a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path

from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from tests.support.instances import Fleet
from tests.support.process import wait_until
from tests.support.services import PrivateRabbitMQ


def test_an_instance_on_another_vhost_waits_until_the_others_have_stopped(
    rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, tmp_path: Path
) -> None:
    """Given an instance that consumes, one with the same node_id and store on another vhost consumes nothing and says
    why; once the first has stopped, it consumes.
    """
    other_url = rabbitmq.add_vhost("another")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    try:
        with (
            Fleet(folders[0], broker_url, store_url, size=1).start() as fleet,
            Fleet(folders[1], other_url, store_url, size=1) as other,
        ):
            wait_until(lambda: any(one.stats.get("place") for one in fleet.entries()), 30, "that it says where it is")
            other.instances[0].start()
            wait_until(lambda: other.said("broker-unavailable"), 60, "the refusal")
            reason = other.said("broker-unavailable")[0]["reason"]
            assert f"consumes from vhost {broker_url.rpartition('/')[2]} of " in reason
            assert "this one is connected to vhost another of " in reason
            assert other.said("broker-connected") == []
            found = [finding.text for finding in check_broker(other.config) if finding.severity is Severity.FAILED]
            assert len(found) == 1
            assert f"of node_id fleet consume from vhost {broker_url.rpartition('/')[2]} of " in found[0]
            assert [one for one in check_broker(fleet.config) if one.severity is Severity.FAILED] == []

            assert fleet.instances[0].stop() == 0
            other.wait_until_consuming()
    finally:
        rabbitmq.delete_vhost("another")
