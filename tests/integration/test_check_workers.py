"""What `check --online` says of real workers, and that it changes nothing of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.check.findings import Finding, ok, warning
from ha_monitor.check.workers import assess_worker, check_workers, refused_lately
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, StoreSettings
from ha_monitor.events.serializers import refusal_of
from ha_monitor.status.fleet import read_fleet
from ha_monitor.store.reader import WorkerEntry
from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.machine import Timed
from tests.support.process import free_port, wait_for_value, wait_until
from tests.support.workers import CeleryWorker

UNKNOWN = "no task event received yet; run tasks to find out whether it sends them"
SILENT = "; it did not answer within 2 s; it may be busy"
CURE = "start it with -E, set worker_send_task_events, or set broker.enable_events"


def test_what_workers_send_is_found_out_and_not_changed(broker_url: str, store_url: str, tmp_path: Path) -> None:
    """Given workers with and without -E and an instance, the check says of each what the instance has seen of it, also
    of one that is too busy to answer; and afterwards each of them sends, or does not send, what it did before.
    """
    app = make_app(broker_url)
    sending = CeleryWorker(broker_url, "sending", pool="solo", queues=["sending"])
    plain = CeleryWorker(broker_url, "plain", pool="solo", queues=["plain"], task_events=False)
    busy = CeleryWorker(broker_url, "busy", pool="solo", queues=["busy"], task_events=False)
    with Fleet(tmp_path, broker_url, store_url, size=1).start() as fleet, sending, plain, busy:
        names = {worker: worker.nodename for worker in (sending, plain, busy)}

        def check() -> dict[str, Finding]:
            return {finding.text.split()[0].rstrip(":"): finding for finding in check_workers(fleet.config)}

        def run(worker: CeleryWorker, seconds: float) -> None:
            queue = next(name.partition("@")[0] for one, name in names.items() if one is worker)
            app.tasks["tests.slow"].apply_async((seconds,), queue=queue)

        assert check() == {name: ok("workers", f"{name}: {UNKNOWN}") for name in names.values()}

        run(sending, 0.0)
        run(plain, 0.0)
        # The leader compares the runs that two heartbeats tell of with the events that came.
        wait_for_value(lambda: check()[names[plain]].severity, "warning", 60, "that missing events are noticed")
        wait_until(lambda: fleet.said("task-events-missing"), 30, "the line about them")
        assert [(line["level"], line["workers"]) for line in fleet.said("task-events-missing")] == [
            ("warning", [names[plain]])
        ]
        shown = {worker.name: worker.task_events for worker in read_fleet(fleet.config, SystemClock()).workers}
        assert shown == {names[sending]: True, names[plain]: False, names[busy]: None}
        run(busy, 8.0)
        wait_until(lambda: "received" in busy.log(), 30, "the long task")
        with Timed() as timed:
            found = check()

        assert timed.undisturbed < 6, timed
        assert found == {
            names[sending]: ok("workers", f"{names[sending]} sends task events"),
            names[plain]: warning(
                "workers", f"{names[plain]} does not send task events: none arrived for its latest 1 runs; {CURE}"
            ),
            names[busy]: ok("workers", f"{names[busy]}: {UNKNOWN}{SILENT}"),
        }
        wait_until(lambda: "succeeded" in busy.log(), 30, "the end of the long task")
        assert answers(app, len(names)) == {
            names[sending]: "task events already enabled",
            names[plain]: "task events enabled",
            names[busy]: "task events enabled",
        }


def answers(app: Any, count: int) -> dict[str, str]:
    """What the workers say when they are told to send task events: it tells whether they did."""
    replies = app.control.enable_events(reply=True, timeout=30, limit=count)
    return {name: answer["ok"] for reply in replies for name, answer in reply.items()}


def test_workers_that_cannot_be_asked_are_told_of(store_url: str) -> None:
    """Given no broker at any URL, the check says of each why the workers cannot be asked."""
    ports = [free_port(), free_port()]
    url = ";".join(f"amqp://127.0.0.1:{port}//" for port in ports)

    findings = list(check_workers(Config(broker=Broker(url=url), store=StoreSettings(url=store_url))))

    assert findings == [
        warning("workers", f"workers cannot be reached: 127.0.0.1:{port}//: Connection refused") for port in ports
    ]


def test_no_worker_at_all_is_told_of(broker_url: str, store_url: str) -> None:
    """Given a broker without workers, and a store that knows of none, the check says that none answered."""
    findings = list(check_workers(Config(broker=Broker(url=broker_url), store=StoreSettings(url=store_url))))

    assert [(one.severity, one.subject) for one in findings] == [("warning", "workers")]
    assert findings[0].text.startswith(
        f"{broker_url.rpartition('@')[2]}: no worker answered within 2 s through celery.pidbox: none is running"
    )


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_a_sender_in_a_form_that_is_not_read_is_told_of(
    *, broker_url: str, store_url: str, tmp_path: Path, serializer: str
) -> None:
    """Given workers whose applications set `event_serializer` to msgpack, and to a form that is not read, the events of
    the first are announced, those of the second are refused, and the check says which worker sends them, and what to
    do.
    """
    workers = {
        name: CeleryWorker(
            broker_url,
            name,
            pool="solo",
            queues=[name],
            env={"TESTS_SETTINGS": json.dumps({"event_serializer": name})},
        )
        for name in ("msgpack", serializer)
    }
    app = make_app(broker_url)
    with (
        Fleet(tmp_path, broker_url, store_url, size=1).start() as fleet,
        workers["msgpack"] as readable,
        workers[serializer] as refused,
    ):
        for name in workers:
            app.tasks["tests.add"].apply_async((1, 2), queue=name)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "the end of the task of the readable worker")
        wait_until(lambda: fleet.said("event-rejected"), 30, "the refusal")

        def check() -> list[Finding]:
            return list(check_workers(fleet.config))

        # The leader finds out a little later what a worker sends.
        wait_until(lambda: ok("workers", f"{readable.nodename} sends task events") in check(), 30, "the good worker")
        (finding,) = (one for one in check() if one.severity == "warning")
        assert finding.text.startswith(f"events serialized with {serializer} are refused, the latest at ")
        assert finding.text.endswith(
            f', most likely of {refused.nodename}: set event_serializer = "json" in the application'
        )
        assert {line["worker"] for line in fleet.said("task-succeeded")} == {readable.nodename}
        refusal = f'serialized with {serializer}, which is not supported: set event_serializer = "json"'
        assert fleet.said("event-rejected")[0]["reason"].startswith(refusal)


def test_an_old_refusal_says_nothing_of_the_workers_that_run_now() -> None:
    """Given samples of refused messages, the newest of each serializer counts, for ten minutes, and nothing else."""
    yaml, pickle = refusal_of("application/x-yaml"), refusal_of("application/x-python-serialize")
    samples = [
        {"reason": yaml, "time": "2026-11-25T06:59:00Z"},
        {"reason": yaml, "time": "2026-11-25T06:58:00Z"},
        {"reason": pickle, "time": "2026-11-25T06:40:00Z"},
        {"reason": "body is not JSON", "time": "2026-11-25T06:59:00Z"},
        {"reason": yaml, "time": "yesterday"},
        {},
    ]

    assert refused_lately(samples, datetime(2026, 11, 25, 7, tzinfo=UTC)) == {"yaml": "2026-11-25T06:59:00Z"}


@pytest.mark.parametrize(
    ("entry", "answers", "enable", "said"),
    [
        (None, True, False, ok("workers", f"w@h: {UNKNOWN}")),
        (WorkerEntry("w@h", 1.0, {}, "online"), False, False, ok("workers", f"w@h: {UNKNOWN}{SILENT}")),
        (WorkerEntry("w@h", 1.0, {}, "online", sends=True), True, False, ok("workers", "w@h sends task events")),
        (
            WorkerEntry("w@h", 1.0, {}, "online", sends=True),
            False,
            True,
            ok("workers", f"w@h sends task events{SILENT}"),
        ),
        (
            WorkerEntry("w@h", 1.0, {}, "online", unsent=3),
            True,
            True,
            warning(
                "workers",
                "w@h does not send task events: none arrived for its latest 3 runs; "
                "an instance enables them when it connects to the broker",
            ),
        ),
    ],
)
def test_each_worker_has_its_line(entry: WorkerEntry | None, answers: bool, enable: bool, said: Finding) -> None:
    """Given what is recorded of a worker, and whether it answers, the line says what is known and what to do."""
    assert assess_worker("w@h", entry, answers=answers, enable_events=enable) == said
