"""Redis as the broker, and a store that is away for longer than there is room."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import psutil

from ha_monitor.pipeline.collector import MAX_BUFFERED_BYTES
from tests.support.instances import Fleet
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.scraping import free_listen, scrape
from tests.support.services import PrivateRedis
from tests.unit.builders import event

LARGE = 90
"""Messages of a mebibyte, more than are kept."""
DROPPED = "ha_monitor_events_dropped_total"


def message(name: str, size: int = 0) -> Recorded:
    """A custom event."""
    body = event("custom-event", at=time.time(), uuid=None, name=name, padding="x" * size)
    return Recorded("custom.event", "application/json", "utf-8", json.dumps(body))


def test_what_there_is_no_room_for_is_dropped_and_what_comes_later_is_announced(
    tmp_path: Path, redis_broker_url: str, own_redis: PrivateRedis
) -> None:
    """Given a store that is away while more comes than is kept, the instance's memory stays bounded, what it dropped is
    counted and said, and all that came afterwards has its line when the store is back."""
    listen = free_listen(1)
    settings = {"http": {"listen": listen}}
    with Fleet(tmp_path, redis_broker_url, own_redis.url(), size=1, settings=settings).start() as fleet:
        publish(redis_broker_url, [message("before")])
        wait_until(lambda: fleet.said("custom-event"), 30, "the first line")
        memory = psutil.Process(fleet.instances[0].process.pid).memory_info
        before = memory().rss
        own_redis.kill()
        wait_until(lambda: fleet.said("store-unavailable"), 30, "that the instance notices")
        # Redis cuts off a subscriber that is too far behind.
        publish(redis_broker_url, (message(f"large-{number}", 1 << 20) for number in range(LARGE)), rate=20)
        publish(redis_broker_url, (message(f"later-{number}") for number in range(50)))
        # The instance may read more slowly than Redis passes on: what it has not read is not dropped yet.
        wait_until(lambda: scrape(listen, "1").sum(DROPPED) > LARGE - 70, 60, "that all that is too much is dropped")
        wait_until(lambda: fleet.said("events-dropped"), 30, "that it is said")
        grown = memory().rss - before
        own_redis.start()
        wait_for_value(
            lambda: sum("later" in json.dumps(line) for line in fleet.said("custom-event")), 50, 60, "the rest"
        )

        said = sum(line["count"] for line in fleet.said("events-dropped"))
        # A page is used again for a while.
        wait_for_value(lambda: scrape(listen, "1").sum(DROPPED), said, 60, "the metric to say as much as the lines")
        assert fleet.instances[0].stop() == 0
    assert grown < 2 * MAX_BUFFERED_BYTES
    assert LARGE - 70 < said < LARGE
    assert sum(line["count"] for line in fleet.said("events-dropped")) == said
    names = [re.findall(r"large-\d+", json.dumps(line)) for line in fleet.said("custom-event")]
    assert [name for found in names for name in found] == [f"large-{one}" for one in range(int(said), LARGE)]
