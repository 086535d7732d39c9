"""Runs the demo from beginning to end."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import amqp.exceptions
from kombu.connection import Connection

from ha_monitor.broker.address import is_amqp
from ha_monitor.demo import tasks
from ha_monitor.demo.monitors import Monitors
from ha_monitor.demo.process import Child
from ha_monitor.demo.producer import Producer
from ha_monitor.demo.redis_server import start_redis
from ha_monitor.demo.show import Screen
from ha_monitor.demo.summary import ENDS, Summary, summarise
from ha_monitor.errors import ServiceMissing

LEASE = 2.0
READY_WITHIN = 30.0
SETTLED_WITHIN = 30.0
RATE = 40.0


class Plan(NamedTuple):
    """What the user asked for."""

    monitors: int
    tasks: int
    broker: str | None
    """None for the demo's own Redis."""


class Demo:
    """One run. `run` does everything; `stop` may be called from a signal handler."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._stopped = False
        self._lines: list[dict[str, Any]] = []
        self._node_id = f"demo-{secrets.token_hex(4)}"

    def stop(self) -> None:
        """End early, and clean up. Only sets a flag."""
        self._stopped = True

    def run(self) -> Summary | None:
        """Run the demo; returns its summary, or None if it was stopped.

        :raises ServiceMissing: if something that the demo needs is not there.
        """
        with contextlib.ExitStack() as cleanup:
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ha-monitor-demo-")))
            self._screen.note("starting a Redis of its own")
            redis, url = start_redis(folder)
            cleanup.callback(redis.end)
            broker = self._plan.broker or f"{url}/0"
            if is_amqp(broker):
                cleanup.callback(delete_queues, broker, [self._queue, f"celeryev.{self._node_id}"])
            monitors = Monitors([str(number + 1) for number in range(self._plan.monitors)], self._settings(broker, url))
            cleanup.callback(monitors.end)
            worker = self._start_worker(broker, url, folder, cleanup)
            self._screen.note(f"starting {self._plan.monitors} monitors and a Celery worker")
            for name in monitors.names:
                monitors.start(name)
            self._wait_for(monitors, worker)
            sender, results = (tasks.make_app(broker, backend, self._queue) for backend in ("disabled://", f"{url}/2"))
            producer = Producer(sender, results.backend, self._plan.tasks, RATE)
            cleanup.callback(producer.stop)
            return self._watch(monitors, producer, evenly=is_amqp(broker))

    @property
    def _queue(self) -> str:
        return f"{self._node_id}-tasks"

    def _settings(self, broker: str, redis: str) -> dict[str, str]:
        # What the user's own configuration says must not leak in.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HA_MONITOR_")}
        return {
            **inherited,
            "HA_MONITOR_NODE_ID": self._node_id,
            "HA_MONITOR_BROKER_URL": broker,
            "HA_MONITOR_STORE_URL": f"{redis}/1",
            "HA_MONITOR_STORE_LEASE": str(LEASE),
            "HA_MONITOR_BATCH_EVENTS": "20",
            "HA_MONITOR_BROKER_PREFETCH": "20",
            "PYTHONUNBUFFERED": "1",
        }

    def _start_worker(self, broker: str, redis: str, folder: Path, cleanup: contextlib.ExitStack) -> Child:
        log = cleanup.enter_context((folder / "worker.log").open("wb"))
        environment = {**os.environ, tasks.BROKER: broker, tasks.BACKEND: f"{redis}/2", tasks.QUEUE: self._queue}
        options = ["--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-A", "ha_monitor.demo.tasks", "worker", "-E", *options]
        worker = Child([*command, "-n", "shop@demo", "-Q", self._queue], environment, log)
        cleanup.callback(worker.end)
        return worker

    def _wait_for(self, monitors: Monitors, worker: Child) -> None:
        """Until all monitors consume, and have heard of the worker. A Redis broker keeps nothing for latecomers."""
        waiting = {*monitors.names, "worker"}

        def ready() -> bool:
            for line in self._show(monitors):
                if line.get("event") == "broker-connected":
                    waiting.discard(line["instance"])
                elif line.get("event") == "worker-online":
                    waiting.discard("worker")
            if monitors.dead() or not worker.running:
                raise ServiceMissing("a monitor or the worker ended at its start; the lines above say why")
            return not waiting

        if not self._wait(ready, READY_WITHIN) and not self._stopped:
            raise ServiceMissing(f"not ready within {READY_WITHIN:g} s: {', '.join(sorted(waiting))}")

    def _watch(self, monitors: Monitors, producer: Producer, *, evenly: bool) -> Summary | None:
        victim = monitors.names[1 % len(monitors.names)] if len(monitors.names) > 1 else None
        self._screen.note(f"sending {self._plan.tasks} tasks")
        producer.start()
        half = self._plan.tasks // 2
        self._wait(lambda: (self._read(monitors) and len(producer.sent) >= half) or producer.error is not None, 600)
        if victim is not None and not self._stopped:
            self._screen.note(f"kill -9 of ha-monitor@{victim} (pid {monitors.kill(victim)})")
            back_at = time.monotonic() + LEASE
            self._wait(lambda: self._read(monitors) and time.monotonic() > back_at, LEASE + 1)
            self._screen.note(f"starting ha-monitor@{victim} again")
            monitors.start(victim)
        self._wait(lambda: self._read(monitors) and not producer.is_alive(), 600)
        if producer.error is not None:
            raise ServiceMissing(f"the tasks cannot be sent: {producer.error}")
        outcomes = producer.outcomes(SETTLED_WITHIN, lambda: self._read(monitors))
        self._wait(lambda: self._read(monitors) and self._announced(outcomes), SETTLED_WITHIN)
        if self._stopped:
            return None
        monitors.end()
        self._read(monitors)
        return summarise(len(producer.sent), outcomes, self._lines, evenly=evenly, killed=victim)

    def _announced(self, outcomes: dict[str, str]) -> bool:
        ended = {line["task_id"] for line in self._lines if line.get("event") in ENDS}
        return outcomes.keys() <= ended

    def _read(self, monitors: Monitors) -> bool:
        self._show(monitors)
        return not self._stopped

    def _show(self, monitors: Monitors) -> list[dict[str, Any]]:
        """Print the lines that have come, and return them."""
        new = []
        with contextlib.suppress(queue.Empty):
            while True:
                new.append(monitors.lines.get_nowait())
        for line in new:
            if line.get("event") != "torn-line":
                self._screen.line(line)
        self._lines += new
        return new

    def _wait(self, condition: Callable[[], bool], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not self._stopped and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.02)
        return False


def delete_queues(broker: str, names: list[str]) -> None:
    """Remove what the demo declared on somebody's RabbitMQ. Never raises."""
    with contextlib.suppress(Exception), Connection(broker, connect_timeout=3) as connection:
        for name in names:
            with contextlib.suppress(amqp.exceptions.ChannelError):
                connection.channel().queue_delete(name)
