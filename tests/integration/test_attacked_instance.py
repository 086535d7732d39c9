"""A real instance under slow clients, and where the system gives it no thread: its work goes on."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from ha_monitor.http.connections import MAX_CONNECTIONS
from tests.support import clients
from tests.support.certificates import Certificate
from tests.support.clients import many, over_tls
from tests.support.fault_handlers import VARIABLE, calls
from tests.support.instances import Fleet, Overrides
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.scraping import free_listen, probe, scrape
from tests.unit.builders import event

UNIT = Path(__file__).resolve().parents[2] / "systemd/ha-monitor@.service"
MORE_THAN_ALL = 61
"""Clients that used up TasksMax=64 once."""


def tasks(count: int) -> Iterator[Recorded]:
    """So many tasks that succeeded."""
    now = time.time()
    for number in range(count):
        for offset, kind in enumerate(("task-received", "task-started", "task-succeeded")):
            body = event(kind, at=now + number * 0.01 + offset * 0.001, uuid=f"task-{number}")
            yield Recorded(kind.replace("-", "."), "application/json", "utf-8", json.dumps(body))


def limit(name: str) -> int:
    """A limit of the unit."""
    found = re.search(rf"^{name}=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def other_files(instance: psutil.Process) -> int:
    """How many files it has open beside TCP connections, of which it opens and closes some to Redis all the time."""
    return instance.num_fds() - len(instance.net_connections("tcp"))


def wait_for_slots(instance: psutil.Process, port: int, others: int) -> None:
    """Wait until clients have no more connections than there are slots, and no other file is open for them: a client
    that loses its slot is closed a moment after another one has it.

    :param others: `other_files` before there were clients.
    """

    def is_within() -> bool:
        of_clients = sum(one.laddr.port == port and bool(one.raddr) for one in instance.net_connections("tcp"))
        return of_clients <= MAX_CONNECTIONS and other_files(instance) <= others

    wait_until(is_within, 30, f"at most {MAX_CONNECTIONS} connections of clients, and {others} other files", 0.05)


def test_slow_clients_of_each_kind_stop_nothing(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given 61 clients of each kind at once, more than the unit allows tasks, the instance has no thread more than
    before them, few files, answers probes and scrapes, and announces what is published meanwhile.
    """
    listen = free_listen(1)
    port = int(listen.rpartition(":")[2].replace("%i", "1"))
    with Fleet(tmp_path, broker_url, store_url, size=1, settings={"http": {"listen": listen}}).start() as fleet:
        instance = psutil.Process(fleet.instances[0].process.pid)
        wait_for_value(lambda: scrape(listen, "1").sum("ha_monitor_leader"), 1, 30, "a leader")
        threads, files = instance.num_threads(), other_files(instance)
        with contextlib.ExitStack() as stack:
            for kind in (clients.silent, clients.half_head, clients.does_not_read, clients.stays):
                stack.enter_context(many(kind, port, MORE_THAN_ALL))
                assert probe(listen, "1", "/livez")[0] == 200
                assert probe(listen, "1", "/readyz")[0] == 200
                assert scrape(listen, "1").sum("ha_monitor_consuming") == 1
                assert instance.num_threads() <= threads + 2  # of the scrapes and the incidents
                assert instance.num_threads() < limit("TasksMax") / 4
                wait_for_slots(instance, port, files)
            publish(broker_url, tasks(20))
            wait_for_value(lambda: len(fleet.said("task-succeeded")), 20, 30, "all lines")

            def refused() -> float:
                return scrape(listen, "1").sum("ha_monitor_http_refused_total", reason="crowded")

            wait_until(refused, 30, "that the slow ones are counted", 0.2)
        assert [line["event"] for line in fleet.lines() if line["level"] == "error"] == []
        assert fleet.instances[0].stop() == 0


def test_slow_tls_clients_of_each_kind_stop_nothing(
    tmp_path: Path, broker_url: str, store_url: str, certificates: list[Certificate]
) -> None:
    """Given the same over TLS, with clients that do not finish the handshake, or go in the middle of it."""
    listen = free_listen(1)
    port = int(listen.rpartition(":")[2].replace("%i", "1"))
    ours = certificates[0]
    http = {"listen": listen, "tls_certificate": str(ours.cert), "tls_key": str(ours.key)}
    with Fleet(tmp_path, broker_url, store_url, size=1, settings={"http": http}).start() as fleet:
        instance = psutil.Process(fleet.instances[0].process.pid)
        head = over_tls(clients.half_head, ours.ca)
        head(port).close()
        threads, files = instance.num_threads(), other_files(instance)
        for kind in (clients.silent, clients.half_hello, clients.without_finish, head):
            with many(kind, port, MORE_THAN_ALL), over_tls(clients.stays, ours.ca)(port) as honest:
                honest.sendall(b"\r\n\r\n")
                with honest.makefile("rb") as answer:
                    assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
                # Those of the scrapes, the investigator and the incidents.
                assert instance.num_threads() <= threads + 3
                wait_for_slots(instance, port, files)
        publish(broker_url, tasks(5))
        wait_for_value(lambda: len(fleet.said("task-succeeded")), 5, 30, "all lines")
        assert fleet.instances[0].stop() == 0
        written = fleet.instances[0].process.output()
    assert "Traceback" not in written
    assert [line for line in fleet.lines() if line["event"] in ("http-request-failed", "library-message")] == []


def test_where_descriptors_run_out_slow_clients_give_theirs_back(
    tmp_path: Path, broker_url: str, store_url: str
) -> None:
    """Given an instance that may open only twenty files more, and 61 slow clients, probes are answered, nothing
    breaks, and the events are announced.
    """
    listen = free_listen(1)
    port = int(listen.rpartition(":")[2].replace("%i", "1"))
    with Fleet(tmp_path, broker_url, store_url, size=1, settings={"http": {"listen": listen}}).start() as fleet:
        instance = psutil.Process(fleet.instances[0].process.pid)
        wait_for_value(lambda: scrape(listen, "1").sum("ha_monitor_leader"), 1, 30, "a leader")
        most = instance.num_fds() + 20
        instance.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        with many(clients.half_head, port, MORE_THAN_ALL):
            wait_for_value(lambda: probe(listen, "1")[0], 200, 30, "an answer")
            wait_for_value(lambda: scrape(listen, "1").sum("ha_monitor_consuming"), 1, 30, "a scrape")
            publish(broker_url, tasks(5))
            wait_for_value(lambda: len(fleet.said("task-succeeded")), 5, 30, "all lines")
        assert fleet.instances[0].stop() == 0
    unwanted = {"http-request-failed", "library-message", "thread-failed", "store-unavailable", "instance-crashed"}
    assert unwanted & {line["event"] for line in fleet.lines()} == set()


def test_an_instance_without_any_thread_does_its_work(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given a system in which the instance can start no thread at all, each event has its line and its handlers are
    called; what is missing is said in one line for each thread, and the instance stops in good order.
    """
    traces = tmp_path / "traces"
    traces.mkdir()
    settings: Overrides = {
        "http": {"listen": free_listen(1)},
        "handlers": {"modules": ["tests.support.fault_handlers"]},
    }
    env = {VARIABLE: str(traces)}
    with Fleet(tmp_path, broker_url, store_url, size=1, settings=settings, env=env) as fleet:
        fleet.instances[0].start(launcher=("tests.support.threadless",))
        fleet.wait_until_consuming()
        publish(broker_url, tasks(20))

        def all_handled() -> bool:
            return sum(handler == "steady" for handler, _ in calls(traces)) == 20

        wait_until(all_handled, 60, "the calls of the handlers")
        wait_for_value(lambda: len(fleet.said("task-succeeded")), 20, 30, "all lines")
        wanted = ("broadcast", "broker", "handlers", "http", "store", "surveyor")

        def silent() -> Counter[tuple[str, str]]:
            return Counter((line["thread"], line["reason"]) for line in fleet.said("thread-failed"))

        each_once = Counter((name, "can't start new thread") for name in wanted)
        wait_until(lambda: silent() >= each_once, 30, "a line for each thread")
        assert fleet.instances[0].stop() == 0

    # A leader that is one for longer wants more threads, to look at tasks and incidents.
    found = silent()
    assert Counter({key: found[key] for key in each_once}) == each_once
    assert len(fleet.said("instance-crashed")) == 0


def test_an_instance_whose_records_are_broken_is_scraped(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given a count in the store that is no number, /metrics answers with all that is not broken."""
    import redis

    listen = free_listen(1)
    with Fleet(tmp_path, broker_url, store_url, size=1, settings={"http": {"listen": listen}}).start() as fleet:
        publish(broker_url, tasks(1))
        wait_until(lambda: fleet.said("task-succeeded"), 30, "the line")
        with redis.Redis.from_url(store_url) as store:
            (key,) = list(store.scan_iter("*counts:*"))
            store.hset(key, "4\x1fshop.pay\x1fcelery@host\x1fcelery\x1f", "inf")
        publish(broker_url, tasks(2))
        wait_until(lambda: len(fleet.said("task-succeeded")) >= 2, 30, "the next line")

        def seen() -> bool:
            samples = scrape(listen, "1")
            assert samples.sum("ha_monitor_consuming") == 1
            broken = samples.sum("ha_monitor_metrics_left_out_total")
            return broken > 0 or samples.sum("celery_task_started_total") >= 2

        wait_until(seen, 30, "that the broken count is seen", 0.6)
