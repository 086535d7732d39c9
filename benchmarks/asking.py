"""How long the commands take that ask, with many tasks and with ten times as many.

`ASKED=<tasks>` measures with so many alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

from benchmarks.bed import ROOT, Services
from benchmarks.table import Row
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import StoreSettings, StuckSettings
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import MAX_RECORDS, RedisOpenTasks, first_look
from tests.support.merging import merged
from tests.unit.builders import decode, event

NODE = "asked"
TASKS = (100_000, 1_000_000)
"""Finished tasks."""
OPEN, NAMES, FAILURES, WORKERS, CHILDREN = 50_000, 2000, 20_000, 50, 200
ROUNDS = 5
A_BATCH = 125
"""Tasks that are merged by one call."""
MOST_SECONDS, MOST_HELD = 0.3, 5.0
"""What a command may take with its start; ms for which a call may hold Redis."""


class Asked(NamedTuple):
    """What a command takes, with its start."""

    seconds: float
    cpu: float
    """Seconds of a core, which are nearly the same on a busy machine."""
    held: float
    """The most ms for which a call of it held Redis."""


def run(services: Services) -> list[Row]:
    sizes = (int(os.environ["ASKED"]),) if "ASKED" in os.environ else TASKS
    measured = [measure(services, tasks) for tasks in sizes]
    rows = []
    for what in measured[0]:
        asked = [one[what] for one in measured]
        shown = " / ".join(f"{one.seconds * 1000:.0f} ({one.cpu * 1000:.0f})" for one in asked)
        held = max(one.held for one in asked)
        rows.append(
            Row(
                f"`{what}`, {' / '.join(f'{one:,}' for one in sizes)} finished tasks",
                f"{shown} ms, Redis ≤ {held:.1f} ms",
                f"≤ {MOST_SECONDS * 1000:.0f} ms, ≤ {MOST_HELD:.0f} ms",
                "",
                max(one.seconds for one in asked) <= MOST_SECONDS and held <= MOST_HELD,
            )
        )
    return rows


def measure(services: Services, tasks: int) -> dict[str, Asked]:
    """What each command takes, as the median of some runs."""
    client = services.redis.client(9)
    client.flushdb()
    url = services.redis.url(9)
    began = time.monotonic()
    fill(url, tasks)
    print(f"{tasks:,} tasks merged in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    client.config_set("slowlog-log-slower-than", 500)
    client.config_set("slowlog-max-len", 10_000)
    found = {}
    for words in commands(tasks):
        client.slowlog_reset()
        taken = [taken_by(url, words) for _ in range(ROUNDS)]
        held = max((entry["duration"] for entry in client.slowlog_get(10_000) if not is_ours(entry)), default=0) / 1000
        seconds, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        what = " ".join(["ha-monitor", *words])
        found[what] = Asked(seconds, cpu, held)
        print(what, found[what], file=sys.stderr, flush=True)
    client.flushdb()
    return found


def is_ours(entry: dict[str, Any]) -> bool:
    """Whether a command is one of the benchmark."""
    return bool(entry["command"].upper().startswith((b"SLOWLOG", b"CONFIG", b"FLUSHDB")))


def commands(tasks: int) -> list[list[str]]:
    """What is asked; the same texts whatever the number of tasks."""
    assert tasks > CHILDREN
    return [
        ["--version"],
        ["tasks"],
        ["tasks", "state=FAILURE", "name=shop.task_1*", "--since", "-1h"],
        ["tasks", "name=shop.task_17"],
        ["tasks", "state=open"],
        ["tasks", "state=STARTED", "runtime>10m"],
        ["tasks", "worker=celery@app7"],
        ["tasks", "root=task-0"],
        ["task", "task-17"],
        ["task", "task-0", "--tree"],
        ["errors"],
        ["names"],
        ["workers"],
    ]


def taken_by(url: str, words: list[str]) -> tuple[float, float]:
    """Seconds that one command takes, start included, and of a core."""
    environment = {**os.environ, "HA_MONITOR_STORE_URL": url, "HA_MONITOR_NODE_ID": NODE}
    began, before = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "ha_monitor", *words], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    took, after = time.monotonic() - began, os.times()
    assert done.returncode == 0, done.stderr
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return took, used


def events_of(number: int, tasks: int, at: float) -> list[dict[str, Any]]:
    """What is sent of one task; some are open, some fail, and the first ones are of one tree.

    :param tasks: how many finish.
    """
    task_id, worker = f"task-{number}", f"celery@app{number % WORKERS}"
    root = "task-0" if number < CHILDREN else task_id
    parent = f"task-{number // 3}" if 0 < number < CHILDREN else None
    own = {"name": f"shop.task_{number % NAMES}", "root_id": root, "parent_id": parent, "queue": f"queue-{number % 5}"}
    found = [
        event("task-sent", at=at, uuid=task_id, hostname="gen1@app", **own),
        event("task-received", at=at + 0.01, uuid=task_id, hostname=worker, **own),
    ]
    is_open = number % (1 + tasks // OPEN) == 1
    if not is_open or number % 2:
        found.append(event("task-started", at=at + 0.02, uuid=task_id, hostname=worker))
    if not is_open:
        ended = "task-failed" if number % (tasks // FAILURES) == 0 else "task-succeeded"
        found.append(event(ended, at=at + 0.3, uuid=task_id, hostname=worker))
    return found


def fill(url: str, tasks: int) -> None:
    """Have the tasks of the last hour merged, as an instance does."""
    settings = StoreSettings(url=url, lease=600.0, timeout=60.0)
    store = RedisStore(settings, NODE, SystemClock(), first_look=first_look(StuckSettings()))
    store.connect()
    store.register({"instance": "1", "host": "host", "pid": 1})
    total = tasks + OPEN
    start = time.time() - 3600
    for first in range(0, total, A_BATCH):
        numbers = range(first, min(total, first + A_BATCH))
        batch = decode(*(events_of(number, tasks, start + 3600 * number / total) for number in numbers))
        for applied in merged(store, batch):
            if applied.items:
                store.announced(applied.items[-1].sequence + 1)
        if first % (A_BATCH * 400) == 0:
            store.tick(b"{}", [], watermark_age=0.0)
    store.flush()
    # As in a fleet that runs: the leader has looked at what has been open for long, and the instance is there.
    store.tick(b"{}", [], watermark_age=0.0)
    open_tasks = RedisOpenTasks(store, StuckSettings())
    for _ in range(2 * OPEN // MAX_RECORDS):
        open_tasks.candidates()
    store.close()
