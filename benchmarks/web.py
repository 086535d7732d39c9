"""What the pages cost while many browsers look at them, with many tasks: a core of the process, the first byte, memory.

`ASKED=<tasks>` measures with so many.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks.asking import NODE, fill
from benchmarks.bed import Measured, Services
from benchmarks.table import Row
from ha_monitor.web.endpoints import ENDPOINTS
from ha_monitor.web.routes import PAGES
from tests.support.process import free_port, wait_until
from tests.support.web import get

TASKS = 1_000_000
BROWSERS, EVERY, SECONDS = 100, 3.0, 30.0
"""Browsers, how often each asks, and for how long."""
ASKED_ALONE = 20
"""Times that each page is asked for alone."""
MOST_CPU, MOST_FIRST_BYTE, MOST_MEMORY, MOST_SENT = 0.10, 0.050, 60.0, 30_000


def run(services: Services) -> list[Row]:
    tasks = int(os.environ.get("ASKED", TASKS))
    services.redis.client(9).flushdb()
    url, port = services.redis.url(9), free_port()
    fill(url, tasks)
    environment = {"HA_MONITOR_STORE_URL": url, "HA_MONITOR_NODE_ID": NODE}
    with Measured(["-m", "ha_monitor", "web", "--listen", f"127.0.0.1:{port}"], environment) as web:
        wait_until(lambda: answers(port), 30, "the pages")
        paths = [f"/{noun}" for noun in PAGES]
        data = [f"/api/v1/{endpoint.name}" for endpoint in ENDPOINTS if not endpoint.takes_name]
        rows = [alone(port, path, tasks) for path in [*paths, *data]]
        began, before = time.monotonic(), web.cpu()
        first_bytes, answered, unchanged = asyncio.run(browse(port, paths, SECONDS))
        share = (web.cpu() - before) / (time.monotonic() - began)
        idle_from = web.cpu()
        time.sleep(5)
        idle, memory = (web.cpu() - idle_from) / 5, web.memory()
    p95 = statistics.quantiles(first_bytes, n=20)[18]
    what = f"{BROWSERS} browsers, each every {EVERY:g} s, {tasks:,} finished tasks"
    return [
        *rows,
        Row(f"{what}: of a core", f"{share:.1%}", f"≤ {MOST_CPU:.0%}", "", share <= MOST_CPU),
        Row(f"{what}: first byte, p50 / p95", f"{statistics.median(first_bytes) * 1000:.1f} / {p95 * 1000:.1f} ms",
            f"≤ {MOST_FIRST_BYTE * 1000:.0f} ms", "", p95 <= MOST_FIRST_BYTE),
        Row(f"{what}: answers, of these unchanged", f"{answered:,}, {unchanged / answered:.0%}"),
        Row("nobody looks: of a core", f"{idle:.2%}"),
        Row("resident", f"{memory:.1f} MB", f"≤ {MOST_MEMORY:.0f} MB", "", memory <= MOST_MEMORY),
    ]  # fmt: skip


def answers(port: int) -> bool:
    try:
        return get(port, "/livez").status == 200
    except OSError:
        return False


def alone(port: int, path: str, tasks: int) -> Row:
    """What an answer takes that is made for it, from the request to its last byte, and how long it is."""
    taken, sent = [], 0
    for number in range(ASKED_ALONE):
        began = time.monotonic()
        got = get(port, f"{path}?limit={50 - number}", encoded=True)
        taken.append(time.monotonic() - began)
        if got.status != 200:  # takes no limit: what is shared is measured
            began = time.monotonic()
            got = get(port, path, encoded=True)
            taken[-1] = time.monotonic() - began
        sent = max(sent, len(got.body))
    p95 = statistics.quantiles(taken, n=20)[18]
    print(path, f"{statistics.median(taken) * 1000:.0f} ms", f"{sent:,} bytes", file=sys.stderr, flush=True)
    return Row(
        f"`{path}`, {tasks:,} finished tasks, asked alone: p50 / p95; compressed",
        f"{statistics.median(taken) * 1000:.0f} / {p95 * 1000:.0f} ms; {sent / 1000:.1f} kB",
        f"≤ {MOST_SENT / 1000:.0f} kB",
        "",
        sent <= MOST_SENT,
    )


async def browse(port: int, paths: Sequence[str], seconds: float) -> tuple[list[float], int, int]:
    """Have all browsers look for so long; returns the times to the first byte, the answers, and how many of these said
    that nothing has changed.
    """
    until = time.monotonic() + seconds
    chance = random.Random(1)
    done = await asyncio.gather(
        *(_browser(port, paths[number % len(paths)], chance.random() * EVERY, until) for number in range(BROWSERS))
    )
    taken = [one for first_bytes, _ in done for one in first_bytes]
    return taken, len(taken), sum(unchanged for _, unchanged in done)


async def _browser(port: int, path: str, begins_after: float, until: float) -> tuple[list[float], int]:
    tag, taken, unchanged = "", [], 0
    await asyncio.sleep(begins_after)
    while time.monotonic() < until:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        fields = f"Host: localhost\r\nAccept-Encoding: gzip\r\nIf-None-Match: {tag or '-'}\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        taken.append(time.monotonic() - began)
        await reader.read()
        writer.close()
        unchanged += head.startswith(b"HTTP/1.1 304")
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("etag: "):
                tag = line[6:]
        await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))
    return taken, unchanged
