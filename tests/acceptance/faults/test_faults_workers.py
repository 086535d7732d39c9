"""Real workers: the pieces of one task's story come to different instances, and the lines are whole all the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import amqp

from ha_monitor.config.schema import LogLevel
from tests.acceptance.faults.conftest import FaultTable
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, Overrides
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.recording import Recorded
from tests.support.workers import CeleryWorker

ENDS = {"task-succeeded", "task-failed"}
TASKS = 300
NAMES = {"tests.add", "tests.fail", "tests.flaky"}


class Tap:
    """All event messages of a broker, by a queue of the test's own, taken when asked."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = amqp.Connection(f"{parts.hostname}:{parts.port}", virtual_host=parts.path[1:])
        self._connection.connect()
        self._channel = self._connection.channel()
        self._channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        self._queue = self._channel.queue_declare("", exclusive=True).queue
        self._channel.queue_bind(self._queue, "celeryev", "#")

    def messages(self) -> Iterator[Recorded]:
        """What has come since the last call."""
        while (message := self._channel.basic_get(self._queue, no_ack=True)) is not None:
            properties = message.properties
            body = message.body if isinstance(message.body, str) else message.body.decode()
            key = message.delivery_info["routing_key"]
            yield Recorded(key, properties["content_type"], properties["content_encoding"], body)

    def close(self) -> None:
        self._connection.collect()


@contextmanager
def tap(url: str) -> Iterator[Tap]:
    """A tap, closed at the end."""
    opened = Tap(url)
    try:
        yield opened
    finally:
        opened.close()


def run_tasks(broker_url: str, result_url: str, count: int) -> set[str]:
    """Send tasks that succeed, fail and retry; returns their ids. RabbitMQ confirms each message: otherwise it may lose
    the last events of the connection, which is closed then (docs/monitoring.md, Lost goodbyes).
    """
    app = make_app(broker_url, result_url, send_sent_event=True)
    app.conf.broker_transport_options = {"confirm_publish": True}
    with app.connection_for_write() as connection:
        sent = [
            app.tasks["tests.add"].apply_async((n, n), connection=connection)
            if n % 3
            else app.tasks["tests.fail" if n % 2 else "tests.flaky"].apply_async(connection=connection)
            for n in range(count)
        ]
    return {result.id for result in sent}


def test_pieces_of_one_story_at_different_instances(
    tmp_path: Path, broker_url: str, store_url: str, result_url: str, fault_table: FaultTable
) -> None:
    """given three instances that take one message at a time, when a worker runs tasks, then many a task's events are
    dealt to several instances, and every line has the task's name, and no wrong queue
    """
    settings: Overrides = {"broker": {"prefetch": 1}, "batch": {"events": 1}, "log": {"level": "debug"}}
    with (
        tap(broker_url) as tapped,
        Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet,
        CeleryWorker(broker_url, result_backend=result_url, send_sent_event=True),
    ):
        ids = run_tasks(broker_url, result_url, TASKS)
        wait_until(lambda: ids <= ended(fleet), 60, "the end of all tasks", 0.1)
        published = Published(level=LogLevel.DEBUG)
        for message in tapped.messages():
            published.add(message)
        fleet.wait_until_announced(published)
        for message in tapped.messages():  # heartbeats since then
            published.add(message)
        account = fleet.account(published)
        lines = [line for line in fleet.lines() if line.get("task_id") in ids]
    instances = defaultdict(set)
    for line in lines:
        instances[line["task_id"]].add(line["instance"])
    spread = sum(len(seen) >= 2 for seen in instances.values())
    # Heartbeats go on: the last ones may be announced though the tap had not shown them yet.
    account = fault_table.add(
        f"no fault: {spread} of {len(ids)} tasks seen by 2 or 3 instances", account._replace(renamed=0)
    )
    assert_guarantee(account)
    assert spread > TASKS / 2, "the test would not prove much"
    assert {line["task_name"] for line in lines} == NAMES
    # An end waits for the name of its task, not for the task-sent, which may come to an instance that is slower.
    assert {line.get("queue") for line in lines if line["event"] in ENDS} <= {"celery", None}


def test_worker_of_celery_52(
    *,
    tmp_path: Path,
    broker_url: str,
    store_url: str,
    result_url: str,
    celery52: Path,
    fault_table: FaultTable,
) -> None:
    """given a worker of Celery 5.2, when it runs tasks, then its events are announced with the tasks' names"""
    with (
        tap(broker_url) as tapped,
        Fleet(tmp_path, broker_url, store_url, size=2).start() as fleet,
        CeleryWorker(broker_url, python=celery52, result_backend=result_url) as worker,
    ):
        ids = run_tasks(broker_url, result_url, 60)
        wait_until(lambda: ids <= ended(fleet), 60, "the end of all tasks", 0.1)
        worker.stop()
        published = Published()
        wait_until(lambda: fleet.said("worker-offline"), 30, "the worker's last event")
        for message in tapped.messages():
            published.add(message)
        account = fault_table.add("no fault: a worker of Celery 5.2", fleet.close_account(published))
        online = fleet.said("worker-online")
    assert_guarantee(account)
    assert {line["sw_ver"] for line in online} == {"5.2.7"}


def ended(fleet: Fleet) -> set[str]:
    """The tasks whose end is announced."""
    return {line["task_id"] for line in fleet.lines() if line["event"] in ENDS}
