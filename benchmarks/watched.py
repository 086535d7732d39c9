"""How late lines are while many browsers look at the pages, and while none does, in turns."""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading

from benchmarks import latency
from benchmarks.bed import Measured, Services
from benchmarks.table import Row
from benchmarks.web import BROWSERS, answers, browse
from ha_monitor.web.routes import PAGES
from tests.support.process import free_port, wait_until

ROUNDS = 5
MOST = 0.10
"""By how much one line of a hundred may be later."""


def run(services: Services) -> list[Row]:
    pairs = []
    for number in range(ROUNDS):
        # Whatever changes on the machine meanwhile must not always hit the same one first.
        turns = [measure_watched, latency.measure] if number % 2 else [latency.measure, measure_watched]
        taken = {turn: turn(services) for turn in turns}
        pairs.append((taken[latency.measure], taken[measure_watched]))
        print("alone", pairs[-1][0], "watched", pairs[-1][1], file=sys.stderr, flush=True)
    alone, watched = (statistics.median(one[side].late for one in pairs) for side in (0, 1))
    more = statistics.median(two.late / one.late for one, two in pairs) - 1
    return [
        Row(
            f"publish to line at {latency.RATE:,} events/s beside {BROWSERS} browsers: p99, median of {ROUNDS} pairs",
            f"{watched * 1000:.0f} ms, {alone * 1000:.0f} without: {more:+.0%}",
            f"≤ {MOST:+.0%}",
            "",
            more <= MOST,
        )
    ]


def measure_watched(services: Services) -> latency.Delays:
    """How late lines are while all browsers look."""
    port = free_port()
    paths = [f"/{noun}" for noun in PAGES]
    environment = {"HA_MONITOR_STORE_URL": services.redis.url(2)}
    with Measured(["-m", "ha_monitor", "web", "--listen", f"127.0.0.1:{port}"], environment):
        wait_until(lambda: answers(port), 30, "the pages")
        browsers = threading.Thread(target=lambda: asyncio.run(browse(port, paths, latency.SECONDS + 2)))
        browsers.start()
        try:
            return latency.measure(services)
        finally:
            browsers.join()
