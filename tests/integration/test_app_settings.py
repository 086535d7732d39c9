"""Applications whose Celery is set up in another way than by default, with a real worker each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from ha_monitor.broker import control
from ha_monitor.broker.control import WorkerBroadcast, broadcast_to_workers, silence_of
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.broker.remote_control import answering_workers
from ha_monitor.broker.survey import TaskQueue, survey
from ha_monitor.broker.task_query import query_tasks
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.check.workers import check_workers
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, StoreSettings
from tests.support.celery_app import make_app
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.reports import RecordedReports
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads
from tests.support.workers import CeleryWorker

PREFIXED = {
    "global_keyprefix": "shop:",
    "sep": "|",
    "priority_steps": [0, 5, 9],
    "queue_order_strategy": "priority",
    "fanout_prefix": "/shop/{db}.",
}
OLD = {"fanout_prefix": False, "fanout_patterns": False}
"""As before kombu 4."""


@pytest.fixture(params=[PREFIXED, OLD], ids=["prefixed", "old"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = request.param
    return chosen


def worker_of(url: str, name: str = "worker", **settings: Any) -> CeleryWorker:
    """A worker without task events whose application has these settings."""
    return CeleryWorker(
        url, name, pool="solo", task_events=False, queues=[name], env={"TESTS_SETTINGS": json.dumps(settings)}
    )


def types_from(source: RedisSource) -> Iterator[str]:
    for message in source.receive(100, 0.2):
        body = json.loads(message.body)
        yield from (event["type"] for event in (body if isinstance(body, list) else [body]))


def test_the_transport_options_of_workers_hold_for_all_that_is_asked(
    redis_broker_url: str, options: dict[str, Any]
) -> None:
    """Given a worker and a producer with prefixes, separators and priorities of their own on Redis, and the same
    transport options here, the lengths of queues are right, events arrive, and the worker is reached.
    """
    config = Config(broker=Broker(url=redis_broker_url, transport_options=options, enable_events=True))
    app = make_app(redis_broker_url, broker_transport_options=options)
    source = RedisSource(config, SystemClock(), plain_threads())
    with worker_of(redis_broker_url, "celery", broker_transport_options=options) as worker:
        for priority in (0, 5, 9):
            app.tasks["tests.add"].apply_async((1, 2), queue="idle", priority=priority)

        found = {queue.name: queue for queue in survey(config, ["idle"]).queues}
        assert found["idle"] == TaskQueue("idle", 3, None, 0, 0)
        assert found["celery"] == TaskQueue("celery", 0, None, 1, 1)
        assert query_tasks(config, ["none"]).answered == {worker.nodename}
        assert answering_workers(redis_broker_url, config, 0.5) == {worker.nodename}
        assert [finding for finding in check_broker(config) if finding.severity is Severity.FAILED] == []

        source.connect()
        try:
            broadcast_to_workers(redis_broker_url, config.broker)
            wait_until(lambda: "enabled by remote" in worker.log(), 30, "task events to be enabled")
            app.tasks["tests.add"].delay(1, 2)
            wait_until(lambda: "task-started" in set(types_from(source)), 30, "the event of a task")
        finally:
            source.close()


@pytest.mark.parametrize("broker", ["redis_broker_url", "broker_url"])
def test_what_producers_alone_name_is_surveyed_if_it_is_a_queue(request: pytest.FixtureRequest, broker: str) -> None:
    """Given a queue that no worker consumes, with a message, and names out of events that are none, of a key of another
    kind, or longer than a name can be, the survey has that queue, and no other.
    """
    url = request.getfixturevalue(broker)
    app = make_app(url)
    with worker_of(url, "celery"):
        app.tasks["tests.add"].apply_async((1, 2), queue="mial")
        names = ["mial", "none", "_kombu.binding.celery", "", "\N{SNOWMAN}" * 255, "amq.gen-x", "a\0b\x06\x163"]

        found = {queue.name: queue for queue in survey(Config(broker=Broker(url=url)), ["celery"], names).queues}

    assert sorted(found) == ["celery", "mial"]
    assert (found["mial"].length, found["mial"].consumers or 0, found["mial"].workers) == (1, 0, 0)


def test_redis_names_the_rights_that_the_options_need(
    redis_server: PrivateRedis, redis_broker_url: str, options: dict[str, Any]
) -> None:
    """Given transport options that change the names of keys and channels, a refusal names the rules with which a user
    who has no others may do everything.
    """
    url = redis_broker_url.replace("://", "://optional:secret@")
    config = Config(broker=Broker(url=url, transport_options=options, control_exchange="shop"))

    def set_rules(*rules: str) -> None:
        with redis_server.client() as client:
            client.execute_command("ACL", "SETUSER", "optional", "reset", "on", ">secret", *rules)

    def failures() -> list[str]:
        return [finding.text for finding in check_broker(config) if finding.severity is Severity.FAILED]

    set_rules("~*", "+@all")
    (refusal,) = failures()
    assert "user optional may not use the channels" in refusal
    set_rules(*shlex.split(refusal.partition("grant it: ACL SETUSER optional ")[2]))
    try:
        assert failures() == []
        source = RedisSource(config, SystemClock(), plain_threads())
        source.connect()
        source.close()
        with worker_of(redis_broker_url, broker_transport_options=options, control_exchange="shop") as worker:
            broadcast_to_workers(url, config.broker)
            assert [queue.length for queue in survey(config, ["idle"]).queues] == [0, 0]
            assert query_tasks(config, ["none"]).answered == {worker.nodename}
    finally:
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", "optional")


@pytest.mark.parametrize("kind", ["amqp", "redis"])
def test_each_application_on_one_broker_has_its_own_workers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store_url: str, kind: str
) -> None:
    """Given two applications on one broker with a `control_exchange` each, everything that is sent to workers reaches
    those of the configured one, and no others.
    """
    url = request.getfixturevalue("broker_url" if kind == "amqp" else "redis_broker_url")

    def config(control_exchange: str) -> Config:
        broker = Broker(url=url, control_exchange=control_exchange, enable_events=True)
        return Config(broker=broker, store=StoreSettings(url=store_url))

    with worker_of(url, "plain") as plain, worker_of(url, "shop", control_exchange="shop") as shop:
        for name, worker in (("celery", plain), ("shop", shop)):
            assert answering_workers(url, config(name), 0.5) == {worker.nodename}
            assert query_tasks(config(name), ["none"]).answered == {worker.nodename}
            assert [queue.name for queue in survey(config(name), []).queues] == [worker.nodename.partition("@")[0]]

        broadcast_to_workers(url, config("shop").broker)

        wait_until(lambda: "enabled by remote" in shop.log(), 30, "task events to be enabled")
        assert "enabled by remote" not in plain.log()
        reports = RecordedReports()
        monkeypatch.setattr(control, "ATTEMPTS", 1)
        for name in ("shop", "none"):
            settings = config(name).broker
            broadcast = WorkerBroadcast(plain_threads(), settings, SystemClock(), reports)
            for _ in range(2):
                broadcast.send(url).result(patient(30))
        assert (reports.failures, reports.silences) == ([], [silence_of(settings)])
        assert "none.pidbox" in reports.silences[0]
        found = list(check_workers(config("none")))
        assert [(one.severity, one.text.partition(": ")[2]) for one in found] == [
            (Severity.WARNING, reports.silences[0])
        ]
