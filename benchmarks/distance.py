"""Lines per second with a store that is far away, and how late a line is with one that is near.

With `BENCH_AGAINST=<another working copy>` its program is measured in turns with this one, in the same run.
"""

from __future__ import annotations

import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor

from benchmarks import latency
from benchmarks.bed import ROOT, Services, declare_queue, instance
from benchmarks.speed import LINES_BEFORE
from benchmarks.table import Row
from tests.support.delayed import delayed
from tests.support.recording import publish

TASKS = {0: 24_000, 100: 24_000, 300: 9_000}
"""How many are published, by the milliseconds to the store and back."""
ROUNDS = 3
PUBLISHERS = 3


def run(services: Services) -> list[Row]:
    copies = [str(ROOT), *filter(None, [os.environ.get("BENCH_AGAINST")])]
    rows = []
    for milliseconds, tasks in TASKS.items():
        rates: dict[str, list[float]] = {copy: [] for copy in copies}
        for number in range(ROUNDS):
            # Whatever changes on the machine meanwhile must not always hit the same one first.
            for copy in copies if number % 2 == 0 else reversed(copies):
                rates[copy].append(measure(services, copy, milliseconds / 1000, tasks))
        print(milliseconds, rates, file=sys.stderr)
        ours, *others = [statistics.median(rates[copy]) for copy in copies]
        what = f"Redis {milliseconds} ms away, {3 * tasks:,} events, median of {ROUNDS}"
        shown = f"{ours:,.0f} lines/s" + "".join(
            f", {ours / other:.2f} × the {other:,.0f} of the other" for other in others
        )
        rows.append(Row(what, shown))
    return rows


def measure(services: Services, copy: str, seconds: float, tasks: int) -> float:
    """Lines a second of a program that finds its queue full.

    :param copy: the folder that it is in.
    """
    client = services.redis.client(3)
    client.flushdb()
    with services.vhost("distance") as broker, delayed(services.redis.port, seconds / 2) as port:
        declare_queue(broker, services.redis.url(3))
        with ThreadPoolExecutor(PUBLISHERS) as publishers:
            parts = [latency.messages(tasks // PUBLISHERS) for _ in range(PUBLISHERS)]
            list(publishers.map(lambda part: publish(broker, part), parts))
        store = (
            services.redis.url(3).replace(f":{services.redis.port}", f":{port}") if seconds else services.redis.url(3)
        )
        with instance(broker, store, copy=copy) as monitor:
            began = monitor.wait_lines(LINES_BEFORE + 1)
            ended = monitor.wait_lines(LINES_BEFORE + tasks)
        return tasks / (ended - began)
