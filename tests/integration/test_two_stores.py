"""Instances with two stores on one queue of a real RabbitMQ, by mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from ha_monitor.broker.source import max_requeue_delay
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.pipeline.broker_link import DEPTH_EVERY
from ha_monitor.pipeline.shared_queue import GRACE
from tests.support.instances import QUICK, Fleet
from tests.support.ledger import Line
from tests.support.process import wait_until

LONGEST = max_requeue_delay(QUICK["broker"]["heartbeat"]) + GRACE + 2 * DEPTH_EVERY


def shared(fleet: Fleet) -> list[str]:
    """What `check --online` says of other consumers."""
    found = [one.text for one in check_broker(fleet.config) if one.severity is Severity.WARNING]
    return [text for text in found if "something else takes events away" in text]


def opened(fleet: Fleet) -> list[Line]:
    """What was announced of the incident."""
    return [line for line in fleet.said("incident-opened") if line["kind"] == "queue-shared"]


def test_two_stores_on_one_queue_are_found(
    broker_url: str, store_url: str, result_url: str, tmp_path: Path, problems: Callable[..., tuple[int, str]]
) -> None:
    """Given a fleet with two instances, and one with the same node_id and another store, a line of each leader and the
    check of both say that the queue is shared, and an incident of each fleet that wakes: `ha-monitor problems` has it.
    Nothing says so of the first alone, nor does the check once the other has stopped.
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

        for one, folder, instances in ((fleet, folders[0], 2), (other, folders[1], 1)):
            wait_until(lambda one=one: opened(one), 6 * LONGEST, "the incident", 0.5)  # type: ignore[misc]
            (line,) = opened(one)
            assert (line["severity"], line["key"]) == ("page", one.config.queue_name)
            assert f"and this store knows {instances} instance" in line["summary"]
            status, out = problems(folder, "-o", "jsonl")
            row = json.loads(out.splitlines()[0])
            assert (status, row["kind"], row["phase"], row["summary"]) == (1, "queue-shared", "firing", line["summary"])

        assert other.instances[0].stop() == 0
        assert shared(fleet) == []
