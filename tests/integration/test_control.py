"""What the workers are asked at each connect, and that all that is asked goes over a connection as it is configured."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ha_monitor.broker import remote_control
from ha_monitor.broker.control import WorkerBroadcast, broadcast_to_workers
from ha_monitor.broker.survey import survey
from ha_monitor.broker.task_query import query_tasks
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, StoreSettings
from ha_monitor.errors import BrokerBlocked, BrokerUnavailable
from tests.conftest import served
from tests.support.certificates import Certificate
from tests.support.instances import through
from tests.support.machine import Timed, patient
from tests.support.process import free_port, wait_for_value, wait_until
from tests.support.proxy import CutLink
from tests.support.reports import RecordedReports
from tests.support.services import PrivateRabbitMQ, PrivateRedis
from tests.support.threads import plain_threads

Heard = Callable[[], list[str]]
"""The names of the commands that the workers were sent since the last call."""


@contextmanager
def heard_on_rabbitmq(server: PrivateRabbitMQ, vhost: str = "/") -> Iterator[Heard]:
    with server.connection(vhost) as connection:
        channel = connection.channel()
        channel.exchange_declare("celery.pidbox", "fanout", durable=False, auto_delete=False)
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "celery.pidbox")

        def heard() -> list[str]:
            messages = iter(lambda: channel.basic_get(queue, no_ack=True), None)
            return [json.loads(message.body)["method"] for message in messages]

        yield heard


@contextmanager
def heard_on_redis(server: PrivateRedis, db: int) -> Iterator[Heard]:
    with server.client(db) as client, client.pubsub() as subscription:
        subscription.subscribe(f"/{db}.celery.pidbox")
        assert subscription.get_message(timeout=patient(5))["type"] == "subscribe"

        def heard() -> list[str]:
            messages = iter(lambda: subscription.get_message(timeout=0.2), None)
            return [body_of(message["data"])["method"] for message in messages]

        yield heard


def body_of(message: str) -> dict[str, Any]:
    """The body of one of kombu's messages on Redis."""
    body: dict[str, Any] = json.loads(base64.b64decode(json.loads(message)["body"]))
    return body


def db_of(url: str) -> int:
    return int(url.rpartition("/")[2])


# --- what is asked -------------------------------------------------------------------------


@pytest.mark.parametrize(("enable", "asked"), [(False, ["heartbeat"]), (True, ["heartbeat", "enable_events"])])
def test_workers_are_asked(rabbitmq: PrivateRabbitMQ, broker_url: str, enable: bool, asked: list[str]) -> None:
    """Given Celery's control exchange, all workers are asked for a heartbeat, and for events if the setting says so."""
    with heard_on_rabbitmq(rabbitmq, broker_url.rpartition("/")[2]) as heard:
        broadcast_to_workers(broker_url, Broker(url=broker_url, enable_events=enable))

        assert heard() == asked


# --- over which connection -----------------------------------------------------------------


def test_workers_are_asked_over_verified_amqps(certificates: list[Certificate]) -> None:
    """Given a RabbitMQ with a certificate of a private CA, the workers are sent, and asked by the survey and about
    tasks, in far less time than a lease; under another CA, nothing is sent.
    """
    ours, others = certificates
    port = free_port()
    options = {"cacertfile": ours.ca, "certfile": ours.cert, "keyfile": ours.key}
    lines = [f"listeners.ssl.1 = 127.0.0.1:{port}", *(f"ssl_options.{key} = {path}" for key, path in options.items())]
    with PrivateRabbitMQ(config="\n".join(lines)) as server, heard_on_rabbitmq(server) as heard:
        url = f"amqps://guest:guest@127.0.0.1:{port}//"
        settings = Broker(url=url, enable_events=True, tls={"ca_certs": str(ours.ca)})

        with Timed() as timed:
            broadcast_to_workers(url, settings)

        assert timed.undisturbed < StoreSettings().lease / 2, timed
        assert heard() == ["heartbeat", "enable_events"]
        assert survey(Config(broker=settings), ["tasks"]).queues[0].name == "tasks"
        assert query_tasks(Config(broker=settings), ["id"]).answered == frozenset()
        assert heard() == ["active_queues", "stats", "query_task"]
        with pytest.raises(BrokerUnavailable, match=r"(?i)certificate verify failed"):
            broadcast_to_workers(url, Broker(url=url, tls={"ca_certs": str(others.ca)}))
        assert heard() == []


def test_workers_are_asked_over_verified_rediss(certificates: list[Certificate]) -> None:
    """Given a Redis with a certificate of a private CA that wants one of its clients, the workers are sent; under
    another CA, nothing is sent.
    """
    ours, others = certificates
    port = free_port()
    options: tuple[str, ...] = (
        "--tls-port",
        str(port),
        "--tls-auth-clients",
        "yes",
        "--tls-ca-cert-file",
        str(ours.ca),
    )
    options += ("--tls-cert-file", str(ours.cert), "--tls-key-file", str(ours.key))
    with PrivateRedis(options=options) as server, heard_on_redis(server, 0) as heard:
        url = f"rediss://127.0.0.1:{port}/0"
        own = {"certfile": str(ours.cert), "keyfile": str(ours.key)}

        broadcast_to_workers(url, Broker(url=url, enable_events=True, tls={"ca_certs": str(ours.ca), **own}))

        assert heard() == ["heartbeat", "enable_events"]
        with pytest.raises(BrokerUnavailable, match=r"(?i)certificate verify failed"):
            broadcast_to_workers(url, Broker(url=url, tls={"ca_certs": str(others.ca), **own}))
        assert heard() == []


def test_workers_are_asked_behind_a_sentinel(
    redis_server: PrivateRedis, redis_broker_url: str, sentinel: int, unanswering: Callable[[str], int]
) -> None:
    """Given sentinels of which one is silent, the workers are sent on the primary, and asked by the survey and
    about tasks.
    """
    db = db_of(redis_broker_url)
    with heard_on_redis(redis_server, db) as heard:
        url = f"sentinel://127.0.0.1:{unanswering('silent')}/{db};sentinel://127.0.0.1:{sentinel}/{db}"
        settings = Broker(url=url, enable_events=True, transport_options={"master_name": "main"})

        with Timed() as timed:
            broadcast_to_workers(url, settings)

        assert timed.undisturbed < settings.connect_timeout, timed
        assert heard() == ["heartbeat", "enable_events"]
        assert survey(Config(broker=settings), ["tasks"]).queues[0].name == "tasks"
        assert query_tasks(Config(broker=settings), ["id"]).answered == frozenset()
        assert heard() == ["active_queues", "stats", "query_task"]


# --- a broker with an alarm ----------------------------------------------------------------


@pytest.fixture(scope="module")
def node_for_alarms() -> Iterator[PrivateRabbitMQ]:
    yield from served(PrivateRabbitMQ)


@pytest.fixture
def alarming(node_for_alarms: PrivateRabbitMQ) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node whose alarms nobody else runs into, without an alarm and without connections."""
    wait_for_value(lambda: connections(node_for_alarms), 0, 30, "the end of other tests' connections")
    yield node_for_alarms
    node_for_alarms.end_alarms()


def connections(node: PrivateRabbitMQ) -> int:
    return int(node.evaluate("length(rabbit_networking:connections())."))


def test_an_alarm_is_told_and_waited_for_with_one_connection(alarming: PrivateRabbitMQ) -> None:
    """Given a RabbitMQ short of disk space, the broadcast tells of it, and of its end, once each; meanwhile it waits on
    one connection, however often workers are asked, and others are refused without another one.
    """
    url = alarming.url()
    reports = RecordedReports()
    broadcast = WorkerBroadcast(plain_threads(), Broker(url=url), SystemClock(), reports)
    alarming.begin_alarm("disk")
    sent = broadcast.send(url)
    wait_until(lambda: reports.alarms, 30, "the alarm")
    assert broadcast.is_blocked
    for _ in range(5):
        broadcast.ask_again()
        with pytest.raises(BrokerBlocked, match="RabbitMQ has a memory or disk alarm"):
            broadcast.unless_blocked(lambda: pytest.fail("asked"))
    assert connections(alarming) == 1
    assert broadcast.asked_at is None
    alarming.end_alarms()
    wait_until(lambda: reports.ends, 30, "its end")
    sent.result(patient(30))

    assert (len(reports.alarms), len(reports.ends), reports.failures) == (1, 1, [])
    assert broadcast.asked_at is not None
    assert broadcast.unless_blocked(lambda: 42) == 42


def test_an_alarm_that_others_run_into_is_found_by_the_broadcast(alarming: PrivateRabbitMQ) -> None:
    """Given an alarm that begins after the broadcast, the first question of another kind makes it known; a new
    connection to the broker ends the wait, and begins its own."""
    url = alarming.url()
    reports = RecordedReports()
    broadcast = WorkerBroadcast(plain_threads(), Broker(url=url), SystemClock(), reports)
    broadcast.send(url).result(patient(30))
    alarming.begin_alarm("memory")
    config = Config(broker=Broker(url=url))
    with pytest.raises(BrokerBlocked):
        broadcast.unless_blocked(lambda: query_tasks(config, ["id"]))
    broadcast.retry()
    wait_until(lambda: reports.alarms, 30, "the alarm")
    again = broadcast.send(url)
    alarming.end_alarms()
    again.result(patient(30))

    assert (len(reports.alarms), len(reports.ends), reports.failures) == (1, 1, [])


# --- how long it may take ------------------------------------------------------------------


def test_a_broker_that_does_not_answer_does_not_hold_up_the_instance(unanswering: Callable[[str], int]) -> None:
    """Given a broker that goes silent, the broadcast returns at once, and its failure is told when the time is over."""
    reports = RecordedReports()
    port = unanswering("silent")
    url = f"amqp://127.0.0.1:{port}//"

    broadcast = WorkerBroadcast(plain_threads(), Broker(url=url, connect_timeout=1.0), SystemClock(), reports)

    with Timed() as timed:
        sent = broadcast.send(url)

    assert timed.undisturbed < 0.5, timed
    sent.result(patient(10))
    (failure,) = reports.failures
    assert failure.startswith(f"127.0.0.1:{port}//: no answer within 1 s (broker.connect_timeout): ")


@pytest.mark.parametrize("kind", ["amqp", "redis"])
def test_what_is_not_taken_is_given_up(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Given a network that swallows what is sent to the workers, or drops it and refuses, it is tried once, and for no
    longer than an answer is waited for.
    """
    monkeypatch.setattr(remote_control, "BROKER_TIMEOUT", 1.0)
    url = request.getfixturevalue("broker_url" if kind == "amqp" else "redis_broker_url")
    server = request.getfixturevalue("rabbitmq" if kind == "amqp" else "redis_server")
    for fault in (CutLink.cut, CutLink.refuse):
        with CutLink(server.port) as link:
            address = through(link, url)
            with (
                pytest.raises(BrokerUnavailable),
                remote_control.remote_control(address, Broker(url=address)) as (client, control),
            ):
                fault(link)
                with Timed() as timed:
                    control.heartbeat(connection=client)
            assert timed.undisturbed < 3, timed
