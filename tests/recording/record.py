"""Record the events of real workers: ``python -m tests.recording.record [stream] [small]``, in the project's root.

The messages are written as they came, in the order of one queue. What is known of the tasks from the producer and
from the result backend, and not from the events, goes into the ``.truth.json`` next to them.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import amqp
from celery import Celery
from celery.states import READY_STATES

from tests.recording.load import MOSTLY_FINE, MOSTLY_ODD, Load
from tests.support.celery_app import DEFAULT_QUEUE, OTHER_QUEUE, make_app
from tests.support.recording import FOLDER, Recorded, write_stream
from tests.support.services import PrivateRabbitMQ, PrivateRedis, wait_until
from tests.support.workers import ROOT, CeleryWorker

log = logging.getLogger("record")

CAPTURE_QUEUE = "recording"
BACKLOG = 300
"""Messages that may wait for the workers, so that tasks are handled soon after they were sent, as in real life."""
RUNS = {"stream": (MOSTLY_FINE, 17_000, 8), "small": (MOSTLY_ODD, 300, 4)}
"""By name: the kinds of tasks, the number of steps, and of tasks that are terminated while they run."""

ALWAYS_SUCCEED = frozenset({"flaky_at_once", "flaky_later", "flaky_thrice"})
"""Kinds whose tasks succeed in the end by their nature, whatever the result backend says.

When a retry comes at once, another worker may store its SUCCESS before the first one stores its RETRY over it.
"""
RESULT_MAY_MISS = ALWAYS_SUCCEED | {"ignore", "lost"}
"""Kinds that leave no result, or not always the last one."""


def record(name: str) -> None:
    """Make one recording."""
    weights, steps, terminations = RUNS[name]
    with ExitStack() as stack:
        broker = stack.enter_context(PrivateRabbitMQ())
        results = stack.enter_context(PrivateRedis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recording-")))
        connection = stack.enter_context(broker.connection())
        channel = connection.channel()
        channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        channel.queue_declare(CAPTURE_QUEUE, exclusive=True)
        channel.queue_bind(CAPTURE_QUEUE, "celeryev", "#")

        prefork, threads = (stack.enter_context(worker) for worker in _workers(broker, results, folder))
        app, app_with_results = (
            make_app(broker.url(), backend, send_sent_event=True) for backend in ("disabled", results.url())
        )
        load = Load(app, app_with_results, seed=len(name))

        def backlog() -> int:
            return channel.queue_declare(DEFAULT_QUEUE, passive=True).message_count

        def finish() -> None:
            load.revoke_due(now=True)
            _wait_for_results(broker, results, load, app)

        begun = time.monotonic()
        _work(load, load.plan(weights, steps), backlog)
        finish()
        for _ in range(terminations):
            task_id = load.long_task("terminated")
            _wait_until_running(app, prefork.nodename, task_id)
            app.control.terminate(task_id, signal="SIGTERM", destination=[prefork.nodename])
            finish()
        # The crash of a worker: nothing ever tells how its task ended. It comes back under the same name.
        _wait_until_running(app, prefork.nodename, load.long_task("lost"))
        prefork.kill()
        prefork.start()
        _work(load, load.plan(weights, steps // 20), backlog)
        finish()
        prefork.stop()
        threads.stop()
        log.info("%s: the work took %.1f s", name, time.monotonic() - begun)

        messages = _drain(channel, channel.queue_declare(CAPTURE_QUEUE, passive=True).message_count)
        truth = {**_known(load, results), "recording": statistics(messages)}
    if any(str(ROOT) in message.body for message in messages):
        raise RuntimeError("the recording contains the path of this working copy")
    write_stream(FOLDER / f"{name}.jsonl.xz", messages)
    text = json.dumps(truth, indent=1, sort_keys=True, ensure_ascii=False)
    (FOLDER / f"{name}.truth.json").write_text(text + "\n")
    log.info("%s: %s", name, {k: v for k, v in truth.items() if k != "not_successful"})


def statistics(messages: Iterable[Recorded]) -> dict[str, Any]:
    """Counts of what is in a recording."""
    keys: Counter[str] = Counter()
    types: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    singles = 0
    for message in messages:
        body = json.loads(message.body)
        keys[message.key] += 1
        if isinstance(body, list):
            sizes[len(body)] += 1
        else:
            singles += 1
            body = [body]
        types.update(event["type"] for event in body)
    return {
        "messages": keys.total(),
        "events": types.total(),
        "events_by_type": dict(types),
        "messages_by_key": dict(keys),
        "messages_not_lists": singles,
        "list_sizes": {str(size): count for size, count in sorted(sizes.items())},
    }


def _workers(broker: PrivateRabbitMQ, results: PrivateRedis, folder: Path) -> Iterable[CeleryWorker]:
    # Tracebacks name the files of the code. They shall not tell where this working copy is.
    (folder / "venv").symlink_to(sys.prefix)
    (folder / "app").symlink_to(ROOT)
    common: dict[str, Any] = {
        "result_backend": results.url(),
        "send_sent_event": True,
        "python": folder / "venv" / "bin" / "python",
        "root": folder / "app",
    }
    queues = (DEFAULT_QUEUE, OTHER_QUEUE)
    yield CeleryWorker(broker.url(), "prefork", host="app1.example", pool="prefork", queues=queues, **common)
    yield CeleryWorker(broker.url(), "threads", host="app2.example", pool="threads", concurrency=4, **common)


def _work(load: Load, plan: Iterable[Callable[[], None]], backlog: Callable[[], int]) -> None:
    for number, step in enumerate(plan):
        step()
        load.revoke_due()
        if number % 100 == 0:
            wait_until(lambda: backlog() < BACKLOG, what="the workers' progress")


def _wait_until_running(app: Celery, nodename: str, task_id: str) -> None:
    def running() -> bool:
        active = app.control.inspect([nodename], timeout=1).active() or {}
        return any(task["id"] == task_id for task in active.get(nodename, ()))

    wait_until(running, what="the start of a long task")


def _wait_for_results(broker: PrivateRabbitMQ, results: PrivateRedis, load: Load, app: Celery) -> None:
    waiting = [task_id for task_id, kind in load.kinds.items() if kind not in RESULT_MAY_MISS]

    def done() -> bool:
        states = _states(results, waiting)
        waiting[:] = [task_id for task_id in waiting if states[task_id] not in READY_STATES]
        return not waiting

    def idle() -> bool:
        queues = broker.queues()
        if any(queues[name]["messages"] for name in (DEFAULT_QUEUE, OTHER_QUEUE)):
            return False
        running = app.control.inspect(timeout=3, limit=2).active() or {}
        return len(running) == 2 and not any(running.values())

    try:
        wait_until(done, 120, "the end of all tasks", interval=0.2)
    except TimeoutError as error:
        left = Counter(load.kinds[task_id] for task_id in waiting)
        raise TimeoutError(f"no result of {dict(left)}, such as {waiting[:5]}") from error
    wait_until(idle, 120, "the end of tasks without a result", interval=0.2)


def _states(results: PrivateRedis, task_ids: Iterable[str]) -> dict[str, str]:
    found = {}
    with results.client() as client:
        ids = list(task_ids)
        for start in range(0, len(ids), 1000):
            part = ids[start : start + 1000]
            values = client.mget(f"celery-task-meta-{task_id}" for task_id in part)
            for task_id, value in zip(part, values, strict=True):
                found[task_id] = "none" if value is None else json.loads(value)["status"]
    return found


def _known(load: Load, results: PrivateRedis) -> dict[str, Any]:
    stored = _states(results, load.kinds)
    states = {
        task_id: "SUCCESS" if load.kinds[task_id] in ALWAYS_SUCCEED else state for task_id, state in stored.items()
    }
    by_kind: dict[str, Counter[str]] = {}
    for task_id, kind in load.kinds.items():
        by_kind.setdefault(kind, Counter())[states[task_id]] += 1
    return {
        "tasks": len(load.kinds),
        "tasks_by_name": dict(load.names),
        "tasks_by_state": dict(Counter(states.values())),
        "tasks_by_kind_and_state": by_kind,
        "states_in_result_backend": dict(Counter(stored.values())),
        "retries": load.retries,
        "custom_events": dict(load.custom_events),
        "not_successful": {
            task_id: [kind, states[task_id]] for task_id, kind in load.kinds.items() if states[task_id] != "SUCCESS"
        },
    }


def _drain(channel: amqp.Channel, count: int) -> list[Recorded]:
    messages: list[Recorded] = []

    def on_message(message: amqp.Message) -> None:
        body = message.body if isinstance(message.body, str) else message.body.decode()
        properties = message.properties
        key = message.delivery_info["routing_key"]
        messages.append(Recorded(key, properties["content_type"], properties["content_encoding"], body))

    channel.basic_consume(CAPTURE_QUEUE, no_ack=True, callback=on_message)
    while len(messages) < count:
        channel.connection.drain_events(timeout=30)
    return messages


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for chosen in sys.argv[1:] or RUNS:
        record(chosen)
