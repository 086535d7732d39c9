"""What health, metrics and the leader's watch cost: one instance without `http.listen` against one with it."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from benchmarks.bed import Services, instance, redis_cpu
from benchmarks.speed import LINES_BEFORE, prompt_lines
from benchmarks.table import Row
from tests.support.process import free_port
from tests.support.recording import Recorded, publish, read_stream, replicate
from tests.support.services import wait_until

ROUNDS = 31
PART = 4
"""Of so many parts of the recorded stream one in each pass: short, so that the machine is the same for neighbours."""
WARM_UP = 8.0
"""Seconds for a start's own work: to come to lead, and to look at the queues of tasks for the first time."""
OPEN_TASKS = 10_000
"""Received and started before, and not finished."""
WORKERS = 200
EVENTS_A_HEARTBEAT = 40
"""With a heartbeat every two seconds, 200 workers send 100 a second: as many as here at 4,000 events a second."""
DUTY = 1 / 6
"""Part of the time for which an instance is not frozen, about."""
SCRAPE_EVERY = 15.0
"""Seconds of its own time between two scrapes, and between two looks at the queues of tasks (the default)."""
MOST_SLOWER = 0.10


class Cost(NamedTuple):
    """One pass over the stream."""

    rate: float
    """Events a second."""
    own: float
    """µs of the instance's CPU per event."""
    redis: float
    """µs of Redis's CPU per event."""


class Subject:
    """An instance with a queue and a database of its own, frozen while it is not measured."""

    def __init__(self, services: Services, stack: ExitStack, name: str, database: int, **settings: Any) -> None:
        self._services = services
        self._client = services.redis.client(database)
        self._client.flushdb()
        self._broker = stack.enter_context(services.vhost(name))
        # RabbitMQ shall not take a frozen instance for a dead one.
        settings["broker_heartbeat"] = 600
        self._monitor = stack.enter_context(instance(self._broker, services.redis.url(database), **settings))
        self._monitor.wait_lines(LINES_BEFORE)
        publish(self._broker, open_tasks())
        wait_until(lambda: self._client.dbsize() >= OPEN_TASKS + WORKERS, 120, "the open tasks in the store")
        time.sleep(WARM_UP)
        self._monitor.pause()

    def measure(self, messages: list[Recorded]) -> Cost:
        """Let it handle these."""
        monitor, events = self._monitor, sum(len(message.events) for message in messages)
        publish(self._broker, messages)
        lines, used, redis_used = monitor.lines, monitor.cpu(), redis_cpu(self._services.redis)
        began = time.time()
        monitor.resume()
        ended = monitor.wait_lines(lines + prompt_lines(messages))
        monitor.pause()
        redis = redis_cpu(self._services.redis) - redis_used
        return Cost(events / (ended - began), (monitor.cpu() - used) / events * 1e6, redis / events * 1e6)


def run(services: Services) -> list[Row]:
    port = free_port()
    survey = {"metrics_survey_interval": SCRAPE_EVERY / DUTY}
    stream = read_stream("stream")
    copies = replicate(stream, ROUNDS // PART + 1)
    size = len(stream) // PART
    off: list[Cost] = []
    on: list[Cost] = []
    with ExitStack() as stack:
        without = Subject(services, stack, "unobserved", 5)
        with_http = Subject(services, stack, "observed", 6, http_listen=f"127.0.0.1:{port}", **survey)
        stack.enter_context(_scraping(port))
        for number in range(ROUNDS + 1):
            messages = list(interleaved(itertools.islice(copies, size)))
            # Whatever changes on the machine meanwhile must not always hit the same one first.
            order = [(without, off), (with_http, on)] if number % 2 == 0 else [(with_http, on), (without, off)]
            for subject, costs in order:
                costs.append(subject.measure(messages))
    # The first time each learns what it has to count, and Python's and Redis's memory grows to its size.
    off, on = off[1:], on[1:]
    for name, costs in (("http off", off), ("http on", on)):
        print(name, *(f"{cost.rate:,.0f}/s {cost.own:.1f} µs {cost.redis:.1f} µs" for cost in costs), file=sys.stderr)

    def change(of: Callable[[Cost], float]) -> float:
        # Of neighbours: the machine was the same for both.
        return statistics.median(of(second) / of(first) for first, second in zip(off, on, strict=True)) - 1

    rate = change(lambda cost: cost.rate)
    return [
        Row(
            f"with {OPEN_TASKS:,} open tasks and {WORKERS} workers, http off, median of {ROUNDS}",
            _shown(off),
        ),
        Row(f"the same with http.listen, scraped every {SCRAPE_EVERY:g} s", _shown(on)),
        Row("… events/s against http off", f"{rate:+.1%}", f"≥ -{MOST_SLOWER:.0%}", "", rate >= -MOST_SLOWER),
        Row("… CPU per event", f"{change(lambda cost: cost.own):+.1%}"),
        Row("… Redis's own CPU per event", f"{change(lambda cost: cost.redis):+.1%}"),
    ]


def open_tasks() -> Iterator[Recorded]:
    """What 200 workers send that begin 10,000 tasks which take long."""
    for worker in range(WORKERS):
        yield heartbeat(worker, processed=0)
    for number in range(OPEN_TASKS):
        stamp = {**process(number % WORKERS), "uuid": str(uuid.uuid4()), "clock": number, "timestamp": time.time()}
        events = [{**stamp, "type": "task-received", "name": "bench.long", "retries": 0}]
        events.append({**stamp, "type": "task-started"})
        yield Recorded("task.multi", "application/json", "utf-8", json.dumps(events))


def interleaved(stream: Iterator[Recorded]) -> Iterator[Recorded]:
    """The stream with the heartbeats of the workers that have the open tasks."""
    workers = itertools.cycle(range(WORKERS))
    since = 0
    for message in stream:
        yield message
        since += len(message.events)
        while since >= EVENTS_A_HEARTBEAT:
            since -= EVENTS_A_HEARTBEAT
            yield heartbeat(next(workers), processed=OPEN_TASKS // WORKERS)


def heartbeat(worker: int, processed: int) -> Recorded:
    event = {
        **process(worker),
        **{"type": "worker-heartbeat", "clock": next(_clock), "timestamp": time.time()},
        **{"freq": 2.0, "active": processed, "processed": processed, "loadavg": [0.5, 0.5, 0.5]},
        **{"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"},
    }
    return Recorded("worker.heartbeat", "application/json", "utf-8", json.dumps(event))


def process(worker: int) -> dict[str, Any]:
    return {"hostname": f"celery@host{worker:03}", "pid": 1000 + worker, "utcoffset": 0}


_clock = itertools.count(1)


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    """Asks for the metrics every now and then, as Prometheus does; a frozen instance answers when it goes on."""
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(SCRAPE_EVERY / DUTY):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
                reply.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _shown(costs: list[Cost]) -> str:
    middle = Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))
    return f"{middle.rate:,.0f} events/s, {middle.own:.1f} µs, Redis {middle.redis:.1f} µs"
