"""What a page of an instance's `/metrics` costs: the counts read from the store, and each page from request to reply.

What is kept of the page before is known, so the first page, those after changes and one after none differ. Load on the
machine hardly changes the time of a core; the least of some rounds is shown, and the least time from request to reply.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from prometheus_client.openmetrics.exposition import generate_latest

from benchmarks.bed import Services
from benchmarks.table import Row
from ha_monitor.config.schema import Config, Http, Metrics, StoreSettings
from ha_monitor.events.catalogue import Code
from ha_monitor.metrics.http import HttpServer
from ha_monitor.metrics.scrapes import compressed
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.counts import SEPARATOR, Counts
from ha_monitor.store.results import Counting
from ha_monitor.store.store import RedisStore
from tests.support.threads import plain_threads
from tests.unit.builders import TurnedClock

SIZES = (1_000, 6_200, 12_400)
"""Label sets: the second is a little more than the 100,000 series that `metrics.max_series` allows, the third twice
that. The store is filled without an instance, so that no limit holds."""
NAMES = 20
ROUNDS = 9
AIMS = {1_000: 20.0, 6_200: 300.0}
"""ms for a page of this size, compressed, as Prometheus asks for it. Other load delays it: no must."""
LATER = 20.0
"""Seconds of the instance's clock between two pages, so that none is sent twice and no series is new."""
COUNTED = (Code.SENT, Code.RECEIVED, Code.STARTED, Code.SUCCEEDED)
OPENMETRICS, PLAIN = "OpenMetrics", "text"
ACCEPT = {OPENMETRICS: "application/openmetrics-text;version=1.0.0", PLAIN: "text/plain;version=0.0.4"}


class Took(NamedTuple):
    """Milliseconds."""

    cpu: float
    """Of a core."""
    passed: float


def run(services: Services) -> list[Row]:
    return [row for sets in SIZES for row in measure(services, sets)]


def measure(services: Services, sets: int) -> list[Row]:
    """The rows of so many label sets."""
    store = _store(services)
    _fill(services, store, sets)
    found: dict[str, list[Took]] = {}
    for number in range(ROUNDS):
        for kind in ACCEPT:
            for what, took in _round(store, kind, number).items():
                found.setdefault(f"{kind}: {what}", []).append(took)
    least = {what: Took(*map(min, zip(*all_of_it, strict=True))) for what, all_of_it in found.items()}
    print(sets, *(f"{what}: {took.cpu:.1f}/{took.passed:.1f}" for what, took in least.items()), file=sys.stderr)
    rows = []
    for what, took in least.items():
        is_page = what.endswith("page")
        if "another thread" in what:
            rows.append(Row(f"{sets:,} label sets, {what}", f"{took.passed:.1f} ms", "", ""))
            continue
        aim = f"≤ {AIMS[sets]:g} ms" if sets in AIMS and is_page else ""
        said = f"{took.cpu:.1f} ms of a core" + (f", answered in {took.passed:.1f} ms" if is_page else "")
        rows.append(Row(f"{sets:,} label sets, {what}", said, "", aim))
    return rows


def _round(store: RedisStore, kind: str, number: int) -> dict[str, Took]:
    """Two instances, from their start: what their pages take, and for how long another thread waits meanwhile."""
    took: dict[str, Took] = {}
    with _serving(kind) as (telemetry, clock, get):
        series = telemetry.series

        def page(what: str, measure: Callable[[Callable[[], Any]], Took] = _timed) -> None:
            clock.now += LATER
            took[what] = measure(get)

        read: list[Counts] = []
        took["counts, read from Redis"] = _timed(lambda: read.append(store.counts.read()))
        took["… and parsed"] = _timed(lambda: series.load(read[0], clock.now))
        page("first page")
        changes = [piece for field in read[0].fields() for piece in (field, b"%d" % (10_000 + number))]
        took["all counts changed, parsed"] = _timed(lambda: series.update(changes, clock.now))
        page("then the page")
        series.touch(series.all()[::10])
        page("a tenth changed, the page")
        page("nothing changed, the page")
        # Of which these are parts.
        series.touch(series.all())
        pieces: list[bytes] = []
        openmetrics = kind == OPENMETRICS
        took["of a page, the text of all counts"] = _timed(
            lambda: pieces.extend(telemetry.tasks.pieces(clock.now, openmetrics=openmetrics))
        )
        took["… the other metrics"] = _timed(lambda: generate_latest(telemetry.registry))
        took["… compression"] = _timed(lambda: compressed(pieces))
        size = f"{sum(map(len, pieces)) / 1e6:.1f} MB"
        print(f"{kind}: {series.samples:,} series, {size}", file=sys.stderr) if number == 0 else None
    with _serving(kind) as (telemetry, clock, get):
        series = telemetry.series
        series.load(read[0], clock.now)
        clock.now += LATER
        took["another thread waits at most, first page"] = _longest_pause(get)
        series.touch(series.all())
        clock.now += LATER
        took["another thread waits at most, all changed"] = _longest_pause(get)
    return took


@contextmanager
def _serving(kind: str) -> Iterator[tuple[Telemetry, TurnedClock, Callable[[], None]]]:
    """What an instance serves, without counts yet, and what asks it for a page."""
    clock = TurnedClock()
    config = Config(http=Http(listen="127.0.0.1:0"), metrics=Metrics())
    telemetry = Telemetry(config, clock, Stats())
    server = HttpServer(
        config.http,
        "1",
        telemetry.health,
        telemetry.registry,
        text=telemetry.tasks,
        threads=plain_threads(),
        clock=clock,
        warn=lambda *_, **__: None,
        scraped=telemetry.lease.scraped,
    )
    server.start()
    try:
        _get(server.port, kind, "/livez")  # long before the first page its threads have begun
        yield telemetry, clock, lambda: _get(server.port, kind)
    finally:
        server.stop()


def _timed(call: Callable[[], Any]) -> Took:
    gc.collect()
    used, began = time.process_time(), time.perf_counter()
    call()
    return Took((time.process_time() - used) * 1000, (time.perf_counter() - began) * 1000)


def _longest_pause(call: Callable[[], Any]) -> Took:
    """For how long a thread that sleeps for a millisecond at a time, as the loop waits, is kept from going on."""
    scrape = threading.Thread(target=call)
    gc.collect()
    longest = used = 0.0
    scrape.start()
    while scrape.is_alive():
        cpu, began = time.process_time(), time.perf_counter()
        time.sleep(0.001)
        passed = time.perf_counter() - began - 0.001
        if passed > longest:
            longest, used = passed, time.process_time() - cpu
    scrape.join()
    return Took(used * 1000, longest * 1000)


def _get(port: int, kind: str, path: str = "/metrics") -> None:
    """Read a page as it comes, without looking at it."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {ACCEPT[kind]}\r\nAccept-Encoding: gzip\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert path == "/livez" or head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        left = length - len(body)
        while left > 0:
            left -= len(connection.recv(1 << 16))


def _store(services: Services) -> RedisStore:
    url = services.redis.url(8)
    services.redis.client(8).flushdb()
    counting = Counting("host/1", sorted(Metrics().buckets))
    store = RedisStore(StoreSettings(url=url, lease=600.0), "page", TurnedClock(), counting=counting)
    store.connect()
    store.register({"instance": "1", "host": "host", "pid": 1})
    return store


def _fill(services: Services, store: RedisStore, sets: int) -> None:
    """Have so many label sets counted under, with histograms of each name."""
    client = services.redis.client(8)
    keys = store.keys
    labels = [_joined(_name(index), f"celery@worker{index // NAMES:03}.shop", "celery") for index in range(sets)]
    client.zadd(keys.label_sets, {label_set: 1.7e12 + index for index, label_set in enumerate(labels)})
    counts = {_joined(int(code), label_set, ""): 1_000 for code in COUNTED for label_set in labels}
    counts.update((field, 1_000) for index in range(min(NAMES, sets)) for field in _histograms(_name(index)))
    client.hset(keys.counts("host/1"), items=[part for field in counts.items() for part in field])


def _histograms(name: str) -> Iterator[str]:
    for kind in ("r", "w"):
        yield from (_joined(kind, name, "", "celery", f"{bound:g}") for bound in Metrics().buckets)
        yield _joined(kind.upper(), name, "", "celery", "")


def _name(index: int) -> str:
    return f"shop.orders.task_{index % NAMES}"


def _joined(*parts: object) -> str:
    return SEPARATOR.join(map(str, parts))
