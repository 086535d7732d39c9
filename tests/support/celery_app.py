"""A Celery application for real workers, with a task for each way a task can go.

It is configured from the environment, because a worker imports it, and it runs with Celery 5.2 too:

- ``TESTS_BROKER_URL``, ``TESTS_RESULT_BACKEND`` (none if empty)
- ``TESTS_SEND_SENT_EVENT``: "1" to let producers send task-sent
- ``TESTS_CONFIRM_PUBLISH``: "1" to wait until RabbitMQ has what is sent
- ``TESTS_SETTINGS``: more settings of Celery, as JSON
- ``TESTS_SEND_TASK_EVENTS``: "0" for workers that send task events only if started with ``-E``
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from billiard.process import current_process
from celery import Celery, Task, chain, chord
from celery.canvas import Signature
from celery.exceptions import Ignore, Reject
from kombu import Queue

DEFAULT_QUEUE = "celery"
OTHER_QUEUE = "other"
"""For tasks that only some workers shall take: a worker consumes it if it is started with ``-Q``."""


def add(self: Task, x: int, y: int) -> int:
    """Succeed at once."""
    return x + y


def echo(self: Task, value: Any) -> Any:
    """Succeed with the given result."""
    return value


def fail(self: Task, text: str = "no such thing") -> None:
    """Fail with a traceback of a few frames."""
    _raise(text)


def _raise(text: str) -> None:
    raise KeyError(text)


def decode(self: Task, size: int) -> None:
    """Fail with an exception whose text holds all that was to be decoded."""
    (b"\xff" * size).decode()


def die(self: Task, by_signal: bool) -> None:
    """End the process that runs it."""
    if by_signal:
        os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(3)


def end_worker(self: Task, after: float = 2.0) -> str:
    """End the worker that runs it at once, main process and all, unless its environment has ``TESTS_SURVIVES``."""
    if os.environ.get("TESTS_SURVIVES"):
        return "survived"
    time.sleep(after)
    if current_process().name.startswith("ForkPoolWorker"):
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def flaky(self: Task, failures: int = 1, countdown: float = 0) -> int:
    """Ask for a retry a number of times, and then succeed with the number of retries."""
    if self.request.retries < failures:
        raise self.retry(
            exc=ValueError(f"not yet ({self.request.retries})"), countdown=countdown, max_retries=failures + 1
        )
    return self.request.retries


def reject(self: Task) -> None:
    """Have the message thrown away: no result will ever come."""
    raise Reject("not for me", requeue=False)


def reject_once(self: Task) -> str:
    """Have the message put back the first time, and succeed the next time."""
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("somebody else, please", requeue=True)
    return "taken"


def ignore(self: Task) -> None:
    """End without an event and without a result."""
    raise Ignore()


def slow(self: Task, seconds: float) -> float:
    """Take some time."""
    time.sleep(seconds)
    return seconds


def custom(self: Task, steps: int = 1, event_type: str = "task-custom") -> int:
    """Send events of the user's own while running."""
    for step in range(steps):
        self.send_event(event_type, step=step, steps=steps, note="half-way" if step else "begun")
    return steps


def login(self: Task, user: str, password: str = "", api_key: str = "", wrong: bool = False) -> str:
    """Take secrets as arguments; they also get into the exception if it is told to fail."""
    if wrong:
        raise PermissionError(f"login of {user} with password={password} was refused")
    return f"welcome {user}"


def total(self: Task, numbers: Sequence[int]) -> int:
    """Body of a chord."""
    return sum(numbers)


TASKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "tests.add": (add, {}),
    "tests.echo": (echo, {}),
    "tests.fail": (fail, {}),
    "tests.decode": (decode, {}),
    "tests.die": (die, {}),
    "tests.end_worker": (end_worker, {"acks_late": True, "reject_on_worker_lost": True}),
    "tests.flaky": (flaky, {}),
    "tests.reject": (reject, {"acks_late": True}),
    "tests.reject_once": (reject_once, {"acks_late": True}),
    "tests.ignore": (ignore, {}),
    "tests.slow": (slow, {}),
    "tests.limited": (add, {"rate_limit": "1/h"}),
    "tests.slow_late": (slow, {"acks_late": True}),
    "tests.custom": (custom, {}),
    "tests.login": (login, {}),
    "tests.total": (total, {}),
}


def make_app(
    broker_url: str | None = None,
    result_backend: str | None = None,
    *,
    send_sent_event: bool | None = None,
    **settings: Any,
) -> Celery:
    """An application with all the tasks; what is not given comes from the environment.

    It is not made the current one, so that several can live in one test:
    use ``app.tasks["tests.add"].delay(1, 2)``.
    """
    env = os.environ
    app = Celery("tests", set_as_current=False)
    app.conf.update(
        broker_url=broker_url or env.get("TESTS_BROKER_URL", "memory://"),
        result_backend=result_backend or env.get("TESTS_RESULT_BACKEND") or None,
        task_send_sent_event=(env.get("TESTS_SEND_SENT_EVENT") == "1" if send_sent_event is None else send_sent_event),
        task_queues=[Queue(DEFAULT_QUEUE), Queue(OTHER_QUEUE)],
        task_default_queue=DEFAULT_QUEUE,
        # A message that the broker gives back must not wait for a long prefetch queue, in tests of short tasks.
        worker_prefetch_multiplier=16,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": True} if env.get("TESTS_CONFIRM_PUBLISH") == "1" else {},
        worker_send_task_events=env.get("TESTS_SEND_TASK_EVENTS") != "0",
    )
    app.conf.update(json.loads(env.get("TESTS_SETTINGS") or "{}") | settings)
    for name, (function, options) in TASKS.items():
        app.task(function, bind=True, name=name, **options)
    return app


def chain_of(app: Celery, length: int) -> Signature:
    """A chain of additions; its result is the length."""
    task = app.tasks["tests.add"]
    return chain(task.s(0, 1), *(task.s(1) for _ in range(length - 1)))


def chord_of(app: Celery, width: int) -> Signature:
    """A chord of additions with their sum as its body; it needs a result backend."""
    task = app.tasks["tests.add"]
    return chord([task.s(n, n) for n in range(width)], app.tasks["tests.total"].s())


app = make_app()
