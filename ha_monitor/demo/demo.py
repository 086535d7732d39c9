"""Runs the demo from beginning to end."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ha_monitor.broker.address import is_amqp
from ha_monitor.config.urls import address_of
from ha_monitor.demo import tasks
from ha_monitor.demo.brokers import EXPIRES, clean_broker, prepare_broker
from ha_monitor.demo.environment import clean, monitor_environment
from ha_monitor.demo.folder import demo_folder
from ha_monitor.demo.merge_observer import MergeObserver
from ha_monitor.demo.monitors import Monitors
from ha_monitor.demo.pages import ensure_pages, start_pages
from ha_monitor.demo.process import Child
from ha_monitor.demo.producer import Producer
from ha_monitor.demo.redis_server import start_redis
from ha_monitor.demo.show import Screen
from ha_monitor.demo.summary import Run, Summary, summarise
from ha_monitor.errors import ServiceMissing
from ha_monitor.events.types import END_TYPES

LEASE = 2.0
"""The lease in seconds, for which the killed instance stays down, so that the others take over its outbox."""
READY_WITHIN = 120.0
SETTLED_WITHIN = 60.0
"""Seconds to wait for the next result, and for the last line: on a busy machine they take long."""
RATE = 40.0
"""Tasks per second: as many as a person can follow."""
WORKER_LOG = "worker.log"


class Plan(NamedTuple):
    """What the user asked for."""

    monitors: int
    tasks: int
    broker: str | None
    """None for the demo's own Redis."""
    keeps_pages: bool = False
    """Whether monitors and pages stay after the summary until the user ends them."""


class Demo:
    """One run of the demo. `run` does everything; `stop` may be called from a signal handler."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._stopped = False
        self._lines: list[dict[str, Any]] = []
        self._node_id = f"demo-{secrets.token_hex(4)}"
        self._queue = f"{self._node_id}-tasks"
        self._exchange = f"{self._node_id}-events"
        self._worker_name = f"shop@{self._node_id}"

    def stop(self) -> None:
        """End early, and clean up. Only sets a flag."""
        self._stopped = True

    def run(self) -> Summary | None:
        """Run the demo and show its summary; returns the summary, or None if it was stopped before.

        :raises ServiceMissing: if something that the demo needs is missing.
        """
        with contextlib.ExitStack() as cleanup:
            folder = cleanup.enter_context(demo_folder())
            self._screen.note("starting the demo's own Redis")
            redis, url = start_redis(folder)
            cleanup.callback(redis.end)
            broker = self._plan.broker or f"{url}/0"
            if self._plan.broker:
                prepare_broker(broker, self._exchange, amqp_broker=is_amqp(broker))
                cleanup.callback(
                    clean_broker,
                    broker,
                    exchange=self._exchange,
                    events=f"celeryev.{self._node_id}",
                    tasks=self._queue,
                )
            observer = MergeObserver(url)
            observer.start()
            self._screen.note(f"starting {self._plan.monitors} monitors and a Celery worker on {address_of(broker)}")
            environment = self.monitor_environment(broker, url)
            monitors = Monitors([str(number + 1) for number in range(self._plan.monitors)], environment, folder)
            cleanup.callback(monitors.end)
            for name in monitors.names:
                monitors.start(name)
            worker = self._start_worker(broker, url, folder, cleanup)
            self._wait_until_ready(monitors, worker, folder / WORKER_LOG)
            web, address = start_pages(environment, folder)
            cleanup.callback(web.end)
            self._screen.note(f"the pages are at {address}")
            producer = self._producer(broker, url)
            cleanup.callback(producer.stop)
            summary = self._watch(monitors, worker, producer, observer, dealt_out=is_amqp(broker))
            if summary is not None:
                if summary.unfinished:
                    self._screen.note("some tasks have no result; the end of the Celery worker's log")
                    self._screen.plain(_end_of(folder / WORKER_LOG))
                self._screen.summary(summary)
            if summary is not None and self._plan.keeps_pages:
                self._screen.note(f"the pages stay at {address} until ^C")
                self._keep(monitors, web, folder)
            return summary

    def _keep(self, monitors: Monitors, pages: Child, folder: Path) -> None:
        """Restart the monitors for the pages, and wait."""
        for name in monitors.names:
            monitors.start(name)
        while not self._stopped:
            ensure_pages(pages, folder)
            self._read(monitors)
            time.sleep(0.1)

    def monitor_environment(self, broker: str, redis: str) -> dict[str, str]:
        """The environment that configures the instances."""
        return monitor_environment(
            os.environ,
            node_id=self._node_id,
            broker_url=broker,
            broker_connect_timeout=str(LEASE / 2),
            broker_prefetch="20",
            broker_exchange=self._exchange,
            queue_expires=str(EXPIRES),
            store_url=f"{redis}/1",
            store_lease=str(LEASE),
            store_timeout=str(LEASE / 2),
            batch_events="20",
        )

    def _start_worker(self, broker: str, redis: str, folder: Path, cleanup: contextlib.ExitStack) -> Child:
        log = cleanup.enter_context((folder / WORKER_LOG).open("wb"))
        own = {
            tasks.BROKER: broker,
            tasks.BACKEND: f"{redis}/2",
            tasks.QUEUE: self._queue,
            tasks.EXCHANGE: self._exchange,
        }
        # Threads, because the processes of a pool would outlive a killed worker.
        options = ["--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle", "-l", "INFO"]
        command = [sys.executable, "-m", "celery", "-A", "ha_monitor.demo.tasks", "worker", "-E", *options]
        command += ["-n", self._worker_name, "-Q", self._queue]
        worker = Child(command, {**clean(os.environ), **own}, log, folder)
        cleanup.callback(worker.end)
        return worker

    def _producer(self, broker: str, redis: str) -> Producer:
        for name in os.environ.keys() - clean(os.environ).keys():
            del os.environ[name]  # Celery would read it in this process, too
        backends = ("disabled://", f"{redis}/2")
        sender, results = (tasks.make_app(broker, backend, self._queue, self._exchange) for backend in backends)
        return Producer(sender, results.backend, worker=self._worker_name, count=self._plan.tasks, rate=RATE)

    def _wait_until_ready(self, monitors: Monitors, worker: Child, log: Path) -> None:
        """Wait until all monitors and the worker consume. A Redis broker keeps nothing for latecomers."""
        waiting = {*monitors.names, "worker"}

        def ready() -> bool:
            waiting.difference_update(
                line["instance"] for line in self._show(monitors) if line.get("event") == "broker-connected"
            )
            said = log.read_text(encoding="utf-8", errors="replace")
            if " ready." in said:
                waiting.discard("worker")
            if not worker.running:
                self._screen.plain(_end_of(log))
                raise ServiceMissing("the Celery worker ended at its start; the lines above say why")
            if monitors.dead():
                raise ServiceMissing("a monitor ended at its start; the lines above say why")
            return not waiting

        if not self._wait(ready, READY_WITHIN) and not self._stopped:
            raise ServiceMissing(f"not ready within {READY_WITHIN:g} s: {', '.join(sorted(waiting))}")

    def _watch(
        self, monitors: Monitors, worker: Child, producer: Producer, observer: MergeObserver, *, dealt_out: bool
    ) -> Summary | None:
        victim = monitors.names[1] if len(monitors.names) > 1 else None
        self._screen.note(f"sending {self._plan.tasks} tasks")
        producer.start()
        half = self._plan.tasks // 2
        self._until(monitors, lambda: len(producer.sent) >= half or not (producer.is_alive() and worker.running))
        lines_before_kill = len(self._lines)
        if victim is not None and not self._stopped and producer.error is None:
            self._screen.note(f"kill -9 of ha-monitor@{victim} (pid {monitors.kill(victim)})")
            back_at = time.monotonic() + LEASE
            self._until(monitors, lambda: time.monotonic() > back_at)
            self._screen.note(f"starting ha-monitor@{victim} again")
            monitors.start(victim)
        self._until(monitors, lambda: not (producer.is_alive() and worker.running))
        producer.stop()
        self._until(monitors, lambda: not producer.is_alive())
        if producer.error is not None:
            raise ServiceMissing(f"the tasks cannot be sent: {producer.error}")
        outcomes = producer.outcomes(SETTLED_WITHIN, lambda: self._read(monitors) and worker.running)
        self._until(monitors, lambda: outcomes.keys() <= self._ended(), SETTLED_WITHIN)
        if self._stopped:
            return None
        monitors.end()
        self._read(monitors)
        sent, reached = len(producer.sent), observer.reached()
        run = Run(monitors.names, sent, outcomes, reached, dealt_out, victim, lines_before_kill)
        return summarise(run, self._lines)

    def _ended(self) -> set[str]:
        return {line["task_id"] for line in self._lines if line.get("event") in END_TYPES}

    def _read(self, monitors: Monitors) -> bool:
        self._show(monitors)
        return not self._stopped

    def _show(self, monitors: Monitors) -> list[dict[str, Any]]:
        """Print the lines that have arrived, and return them."""
        new = []
        with contextlib.suppress(queue.Empty):
            while True:
                new.append(monitors.lines.get_nowait())
        for line in new:
            if "event" in line:
                self._screen.line(line)
            else:
                self._screen.plain(line["text"])
        self._lines += new
        return new

    def _until(self, monitors: Monitors, condition: Callable[[], bool], timeout: float = 3600) -> None:
        """Show lines until the condition holds, the time is over, or the user stops the demo."""
        self._wait(lambda: self._read(monitors) and condition(), timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self._stopped and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.02)
        return False


def _end_of(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
