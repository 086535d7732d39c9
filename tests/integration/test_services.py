"""The bed itself: services that die and come back, links that are cut, workers whose events arrive."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import amqp
import psutil
import pytest
import redis
from kombu import Connection

from tests.support.capture import capture
from tests.support.celery_app import chain_of, make_app
from tests.support.machine import patient
from tests.support.proxy import CutLink
from tests.support.services import NO_RETRY, PrivateRabbitMQ, PrivateRedis, ServiceDied, free_port, wait_until
from tests.support.workers import CeleryWorker, Pool


def test_wait_until_names_what_did_not_happen() -> None:
    with pytest.raises(TimeoutError, match="the flood did not happen"):
        wait_until(lambda: 0, timeout=0.05, what="the flood")


def test_redis_keeps_its_data_over_a_kill(own_redis: PrivateRedis) -> None:
    with own_redis.client() as client:
        client.set("key", "value")
    pid = own_redis.pid
    own_redis.kill()
    assert not own_redis.running
    with own_redis.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()
    own_redis.restart()
    assert own_redis.pid != pid
    with own_redis.client() as client:
        assert client.get("key") == "value"


def test_redis_without_a_file_forgets() -> None:
    with PrivateRedis() as server:
        with server.client() as client:
            client.set("key", "value")
        server.restart()
        with server.client() as client:
            assert client.get("key") is None
        folder = server.dir
    assert not folder.exists()


def test_a_paused_redis_does_not_answer(own_redis: PrivateRedis) -> None:
    own_redis.pause()
    with (
        redis.Redis(port=own_redis.port, socket_timeout=0.2, retry=NO_RETRY) as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    own_redis.resume()
    with own_redis.client() as client:
        assert client.ping()


def test_databases_are_separate_and_empty(store_url: str, redis_broker_url: str, result_url: str) -> None:
    assert len({store_url, redis_broker_url, result_url}) == 3
    for url in (store_url, redis_broker_url, result_url):
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0


def test_a_taken_port_is_changed_at_the_first_start() -> None:
    server = PrivateRedis()
    with socket.create_server(("127.0.0.1", server.port)), server, server.client() as client:
        assert client.ping()


def test_a_port_is_not_given_to_other_tests_while_its_server_is_down() -> None:
    port = free_port()
    asked = f"from tests.support.process import _ports; print(_ports.take({port}))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
    assert port not in {free_port() for _ in range(1000)}


def test_a_server_that_does_not_start_says_why_on_one_line() -> None:
    server = PrivateRedis(options=("--no-such-option", "1"))
    with pytest.raises(ServiceDied) as caught:
        server.start()
    server.close()

    told = str(caught.value)
    assert told.startswith("PrivateRedis ended with 1 while it started (load ")
    assert "no-such-option" in told
    assert "\n" not in told


def test_rabbitmq_keeps_durable_queues_over_a_kill_and_a_stop(own_rabbitmq: PrivateRabbitMQ) -> None:
    server = own_rabbitmq
    url = server.add_vhost("kept")
    with server.connection("kept", confirm_publish=True) as connection:
        channel = connection.channel()
        channel.queue_declare("durable", durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message("1", delivery_mode=2), "", "durable")
    pid = server.pid
    server.kill()
    assert not psutil.pid_exists(pid)
    with pytest.raises(OSError):
        server.connection("kept")
    server.start()
    assert server.url("kept") == url
    assert server.queues("kept", "messages") == {"durable": {"messages": 1}}
    server.restart()
    assert server.queues("kept", "messages") == {"durable": {"messages": 1}}


def test_rabbitmq_leaves_nothing_behind() -> None:
    with PrivateRabbitMQ() as server:
        assert server.ctl("ping", tool="rabbitmq-diagnostics")
        ours = [p for p in psutil.Process().children(recursive=True) if str(server.dir) in _environment(p)]
        assert {"beam.smp", "epmd"} <= {process.name() for process in ours}
    assert not psutil.wait_procs(ours, timeout=patient(20))[1]
    assert not server.dir.exists()


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ())
    except psutil.Error:
        return ""


def test_a_virtual_host_is_new_each_time(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    name = urlsplit(broker_url).path[1:]
    assert rabbitmq.queues(name) == {}
    with Connection(broker_url) as connection:
        connection.SimpleQueue("some").put("thing")
    wait_until(lambda: rabbitmq.queues(name).get("some", {}).get("messages"), what="the message")


@pytest.fixture
def echo_link() -> Iterator[CutLink]:
    """A link to a Redis server, whose PING is an echo."""
    with PrivateRedis() as server, CutLink(server.port) as link:
        yield link


def _connect(link: CutLink) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.url_port), timeout=0.5)


def _ask(connection: socket.socket) -> bytes:
    connection.sendall(b"PING\r\n")
    return connection.recv(100)


def test_a_cut_link_is_silent_and_goes_on_when_healed(echo_link: CutLink) -> None:
    with _connect(echo_link) as connection:
        assert _ask(connection) == b"+PONG\r\n"
        echo_link.cut()
        with pytest.raises(TimeoutError):
            _ask(connection)
        with _connect(echo_link) as late, pytest.raises(TimeoutError):
            _ask(late)
        assert echo_link.connections == 1
        echo_link.heal()
        assert connection.recv(100) == b"+PONG\r\n"
        with _connect(echo_link) as new:
            assert _ask(new) == b"+PONG\r\n"


def test_a_cut_link_takes_no_more_than_the_kernel_holds(echo_link: CutLink) -> None:
    with _connect(echo_link) as connection:
        echo_link.cut()
        sent = echo_link.bytes_forwarded
        with pytest.raises(TimeoutError):
            connection.sendall(b"x" * 50_000_000)
        assert echo_link.bytes_forwarded == sent


def test_dropped_and_refused_connections(echo_link: CutLink) -> None:
    with _connect(echo_link) as connection:
        assert _ask(connection)
        echo_link.drop()
        assert connection.recv(100) == b""
    with _connect(echo_link) as connection:
        assert _ask(connection)
        echo_link.refuse()
        assert connection.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            _connect(echo_link)
    echo_link.heal()
    with _connect(echo_link) as connection:
        assert _ask(connection) == b"+PONG\r\n"


def test_a_link_carries_large_answers(own_redis: PrivateRedis) -> None:
    with CutLink(own_redis.port) as link, redis.Redis(port=link.url_port) as client:
        value = os.urandom(5_000_000)
        client.set("large", value)
        assert client.get("large") == value


def test_a_link_to_a_dead_server_closes_at_once() -> None:
    with CutLink(free_port()) as link, _connect(link) as connection:
        assert connection.recv(100) == b""


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_events_of_a_worker_arrive(broker_url: str, result_url: str, pool: Pool) -> None:
    app = make_app(broker_url, result_url, send_sent_event=True)
    with capture(broker_url) as captured:
        with CeleryWorker(broker_url, "bed", pool=pool, result_backend=result_url) as worker:
            assert chain_of(app, 2).apply_async().get(timeout=patient(30)) == 2
            with pytest.raises(KeyError):
                app.tasks["tests.fail"].delay().get(timeout=patient(30))
            assert app.tasks["tests.flaky"].delay(1, 0.2).get(timeout=patient(30)) == 1
            captured.wait_for("task-failed")
            assert worker.nodename.startswith("bed@")
            assert {e["pid"] for e in captured.events if e["type"] == "task-received"} == {worker.pid}
        captured.wait_for("worker-offline")
    types = captured.types()
    assert types["worker-online"] == 1
    # The first task of the chain, the failure, and the attempts of the flaky one; the chain's second comes from
    # the worker, which is told by the environment not to announce it.
    assert types["task-succeeded"] == 3
    assert types["task-retried"] == 1
    assert types["task-started"] == 5


def test_a_killed_worker_says_nothing(broker_url: str) -> None:
    with capture(broker_url) as captured, CeleryWorker(broker_url, "bed") as worker:
        make_app(broker_url).tasks["tests.slow"].delay(600)
        captured.wait_for("task-started")
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        assert len(family) >= 3
        worker.kill()
        assert not psutil.wait_procs(family, timeout=patient(20))[1]
        captured.drain()
        assert captured.types()["worker-offline"] == 0
        worker.start()
        captured.wait_for("worker-online", 2)


def test_a_worker_of_celery_52(celery52: Path, broker_url: str, result_url: str) -> None:
    app = make_app(broker_url, result_url)
    with capture(broker_url) as captured:
        with CeleryWorker(broker_url, "old", python=celery52, result_backend=result_url):
            assert app.tasks["tests.add"].delay(1, 2).get(timeout=patient(30)) == 3
            captured.wait_for("task-succeeded")
        captured.wait_for("worker-offline")
    assert {e["sw_ver"] for e in captured.events if e["type"] == "worker-online"} == {"5.2.7"}
