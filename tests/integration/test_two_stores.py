"""Instances with two stores on one queue of a real RabbitMQ, by mistake."""

from __future__ import annotations

import re
from pathlib import Path

from ha_monitor.broker.source import max_requeue_delay
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.pipeline.broker_link import DEPTH_EVERY
from ha_monitor.pipeline.strangers import LONGER
from tests.support.instances import QUICK, Fleet
from tests.support.process import wait_until

LONGEST = max_requeue_delay(QUICK["broker"]["heartbeat"]) + LONGER + 2 * DEPTH_EVERY


def shared(fleet: Fleet) -> list[str]:
    """What `check --online` says of other consumers."""
    found = [one.text for one in check_broker(fleet.config) if one.severity is Severity.WARNING]
    return [text for text in found if "something else takes events away" in text]


def test_two_stores_on_one_queue_are_found(broker_url: str, store_url: str, result_url: str, tmp_path: Path) -> None:
    """Given a fleet with two instances, and one with the same node_id and another store, a line of each leader and the
    check of both say that the queue is shared; nothing says so of the first alone, nor once the other has stopped.
    """
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with (
        Fleet(folders[0], broker_url, store_url, size=2).start() as fleet,
        Fleet(folders[1], broker_url, result_url, size=1) as other,
    ):
        assert shared(fleet) == []
        (before,) = shared(other)
        assert re.search("has [2-4] consumers, and this store knows 0 instances", before)

        other.start()
        wait_until(lambda: fleet.said("queue-shared") and other.said("queue-shared"), 6 * LONGEST, "the lines", 0.5)

        # An instance that asks a quiet queue whether it still delivers is a second consumer for that moment.
        (line,) = fleet.said("queue-shared")
        assert (line["level"], line["consumers"] >= 3, line["instances"]) == ("error", True, 2)
        (line,) = other.said("queue-shared")
        assert (line["consumers"] >= 3, line["instances"]) == (True, 1)
        (text,) = shared(fleet)
        assert re.search("has [3-6] consumers, and this store knows 2 instances", text)
        assert other.instances[0].stop() == 0
        assert shared(fleet) == []
