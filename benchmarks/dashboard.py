"""Makes `docs/dashboard.svg`: a fleet at work for some minutes, with a beat, a leader and a worker killed meanwhile.

`python -m benchmarks.dashboard >docs/dashboard.svg`
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from celery.schedules import crontab

from ha_monitor.demo.tasks import BROKER, QUEUE, make_app
from tests.support.dashboard import Window, all_chosen, picture
from tests.support.instances import Fleet, Overrides
from tests.support.process import OwnProcess, wait_for_value
from tests.support.prometheus import PrivatePrometheus
from tests.support.scraping import free_listen, scrape
from tests.support.services import PrivateRabbitMQ, PrivateRedis

SECONDS = 300
SETTINGS = {
    "store": {"lease": 5.0},
    "metrics": {"survey_interval": 5.0},
    "workers": {"late_after": 4.0, "lost_after": 15.0},
}
RANGES = {"$__rate_interval": "15s", "$__range": f"{SECONDS}s"}
SHARES = (("shop.send_receipt", 1), ("shop.send_offer", 3), ("shop.book_parcel", 8), ("shop.charge_card", 20))
"""Every how manieth order has which task."""
ROOT = Path(__file__).resolve().parents[1]

app = make_app(os.environ.get(BROKER, "memory://"), "cache+memory://", os.environ.get(QUEUE, "shop"))
"""Of the workers and the beat."""
app.conf.beat_schedule = {
    "count stock": {"task": "shop.count_stock", "schedule": 20.0},
    "close the day": {"task": "shop.close_day", "schedule": crontab(hour="23", minute="30")},
}


def count_stock() -> None:
    time.sleep(0.1)


app.task(count_stock, name="shop.count_stock")


class Process:
    """A worker or the beat of the demo's shop."""

    def __init__(self, folder: Path, broker_url: str, name: str, command: Sequence[str]) -> None:
        """:param command: of Celery, and its arguments."""
        self._folder, self._name, self._command, self._starts = folder, name, command, 0
        self._env = {**os.environ, BROKER: broker_url, QUEUE: "shop", "PYTHONPATH": str(ROOT)}
        self._process: OwnProcess | None = None

    def start(self) -> None:
        self._starts += 1
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.dashboard", *self._command]
        log = self._folder / f"{self._name}-{self._starts}.log"
        self._process = OwnProcess(command, log, env=self._env, cwd=self._folder, death_signal="TERM")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()


def worker(folder: Path, broker_url: str, name: str) -> Process:
    command = ["worker", "-E", "-n", name, "--concurrency", "2", "--pool", "threads"]
    return Process(folder, broker_url, name, [*command, "--without-mingle", "--without-gossip"])


def run(folder: Path, stack: ExitStack) -> str:
    rabbitmq = stack.enter_context(PrivateRabbitMQ(exporter=True))
    redis = stack.enter_context(PrivateRedis())
    listen = free_listen(3)
    targets = [listen.replace("%i", name) for name in "123"]
    exporter = {"rabbitmq": f"127.0.0.1:{rabbitmq.exporter_port}"}
    prometheus = stack.enter_context(PrivatePrometheus(targets, others=exporter))
    settings: Overrides = {**SETTINGS, "http": {"listen": listen}}
    fleet = stack.enter_context(Fleet(folder, rabbitmq.url(), redis.url(), settings=settings).start())
    workers = [worker(folder, rabbitmq.url(), name) for name in ("celery@app1", "celery@app2", "celery@app3")]
    beat = Process(folder, rabbitmq.url(), "beat", ["beat", "--schedule", str(folder / "schedule"), "--pidfile="])
    for one in (*workers, beat):
        one.start()
        stack.callback(one.kill)
    wait_for_value(lambda: prometheus.value("sum(celery_worker_up)"), 3, 60, "three workers", 0.5)

    leader = next(one for one in fleet.instances if scrape(listen, one.name).sum("ha_monitor_leader"))
    acts: dict[int, Callable[[], None]] = {
        70: leader.kill,
        130: leader.start,
        170: workers[1].kill,
        240: workers[1].start,
    }
    start = time.time()
    produce(rabbitmq.url(), acts)
    return picture(prometheus, Window(start, start + SECONDS, 2), RANGES | all_chosen())


def produce(broker_url: str, acts: dict[int, Callable[[], None]]) -> None:
    """Order things for some minutes, more at times and less at others."""
    shop = make_app(broker_url, "cache+memory://", "shop")
    began = time.monotonic()
    order = 0
    while (now := time.monotonic() - began) < SECONDS:
        for moment in [moment for moment in acts if moment <= now]:
            acts.pop(moment)()
        order += 1
        for name, every in SHARES:
            if order % every == 0:
                shop.tasks[name].apply_async((order,), ignore_result=True)
        time.sleep(1 / (25 + 15 * math.sin(now / 25)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(run(Path(folder), stack), end="")


if __name__ == "__main__":
    main()
