"""The work that is done for a recording: every way a task can go, and what the producer knows of it."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from tests.support.celery_app import OTHER_QUEUE, chain_of, chord_of

# Kinds and how often each occurs in a thousand.
MOSTLY_FINE = {
    "add": 682,
    "echo": 100,
    "login": 20,
    "slow": 5,
    "custom": 10,
    "chain": 12,
    "chord": 10,
    "deploy": 2,
    "fail": 40,
    "login_wrong": 5,
    "flaky_at_once": 20,
    "flaky_later": 20,
    "flaky_thrice": 10,
    "ignore": 20,
    "reject": 10,
    "reject_once": 10,
    "revoked_before": 10,
    "revoked_waiting": 7,
    "expired": 7,
}
MOSTLY_ODD = dict.fromkeys(MOSTLY_FINE, 30) | {"add": 250, "echo": 80, "fail": 60, "custom": 50, "deploy": 10}

DELAY = 4
"""Seconds that a task waits at a worker when it is to be revoked or to expire there."""

_TEXTS = (
    "done",
    "Grüße aus Köln",
    "日本語のテキスト",
    "🎉 sent",
    'say "hello", \\ and \n new line',
    "x" * 2000,
)
_VALUES = (None, True, 0, -1.5, 10**20, [1, 2, 3], {"rows": 12, "skipped": []}, *_TEXTS)


def _login(chance: random.Random, **more: bool) -> _Arguments:
    secrets = {"password": f"hunter2-{chance.randrange(10**6)}", "api_key": "sk-0123456789abcdef"}
    return ("ada",), secrets | more


def _flaky(failures: int, countdown: float) -> Callable[[random.Random], _Arguments]:
    return lambda chance: ((), {"failures": failures, "countdown": countdown})


def _nothing(chance: random.Random) -> _Arguments:
    return (), {}


_Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# Kinds that are one message each: the task's name and its arguments.
_PLAIN: dict[str, tuple[str, Callable[[random.Random], _Arguments]]] = {
    "add": ("tests.add", lambda chance: ((chance.randrange(1000), chance.randrange(1000)), {})),
    "echo": ("tests.echo", lambda chance: ((chance.choice(_VALUES),), {})),
    "login": ("tests.login", _login),
    "login_wrong": ("tests.login", lambda chance: _login(chance, wrong=True)),
    "slow": ("tests.slow", lambda chance: ((0.05,), {})),
    "fail": ("tests.fail", lambda chance: ((chance.choice(_TEXTS),), {})),
    "flaky_at_once": ("tests.flaky", _flaky(1, 0)),
    "flaky_later": ("tests.flaky", _flaky(1, 0.2)),
    "flaky_thrice": ("tests.flaky", _flaky(3, 0.1)),
    "ignore": ("tests.ignore", _nothing),
    "reject": ("tests.reject", _nothing),
    "reject_once": ("tests.reject_once", _nothing),
}


class Load:
    """Sends tasks, and notes the kind of each by its id."""

    def __init__(self, app: Celery, app_with_results: Celery, *, seed: int) -> None:
        """Prepare to send.

        :param app: sends the plain tasks; without a result backend it does not subscribe to each result.
        :param app_with_results: sends the chords, which need one.
        """
        self.app = app
        self.kinds: dict[str, str] = {}
        self.names: Counter[str] = Counter()
        self.retries = 0
        self.custom_events: Counter[str] = Counter()
        self._app_with_results = app_with_results
        # Nobody waits here for a result through Celery. Left alone, it subscribes to each, and if Redis is gone when
        # the last one is thrown away, it tries for twenty seconds to unsubscribe.
        consumer = app_with_results.backend.result_consumer
        consumer.consume_from = consumer.cancel_for = lambda task_id: None
        self._random = random.Random(seed)
        self._to_revoke: list[str] = []
        self._revoked_before: list[str] = []
        self._revoke_at = 0.0

    def plan(self, weights: dict[str, int], steps: int) -> Iterator[Callable[[], None]]:
        """So many steps in a random order, each of which sends what belongs to one kind.

        Tasks that are revoked before they are sent are announced to the workers by the first step.
        """
        kinds = self._random.choices(list(weights), list(weights.values()), k=steps)
        # Every kind at least a few times, however rare it is.
        kinds += [kind for kind in weights for _ in range(3)]
        self._random.shuffle(kinds)
        self._revoked_before = [str(uuid.uuid4()) for kind in kinds if kind == "revoked_before"]
        if self._revoked_before:
            yield lambda: self.app.control.revoke(list(self._revoked_before))
        for kind in kinds:
            yield partial(self._send_kind, kind)

    def revoke_due(self, *, now: bool = False) -> None:
        """Revoke what waits at a worker, once a second."""
        if self._to_revoke and (now or time.monotonic() > self._revoke_at):
            self.app.control.revoke(self._to_revoke)
            self._to_revoke = []
            self._revoke_at = time.monotonic() + 1

    def long_task(self, kind: str) -> str:
        """A task on the other queue that runs until something ends it; returns its id."""
        return self._send(kind, "tests.slow", 600, queue=OTHER_QUEUE)

    def _send(self, kind: str, name: str, *args: object, kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        task_id: str = options.setdefault("task_id", str(uuid.uuid4()))
        self.app.tasks[name].apply_async(args, kwargs, **options)
        self.kinds[task_id] = kind
        self.names[name] += 1
        return task_id

    def _send_kind(self, kind: str) -> None:
        if kind in _PLAIN:
            name, arguments = _PLAIN[kind]
            args, kwargs = arguments(self._random)
            self._send(kind, name, *args, kwargs=kwargs)
            self.retries += kwargs.get("failures", 0)
        else:
            getattr(self, f"_send_{kind}")(kind)

    def _send_custom(self, kind: str) -> None:
        self.custom_events["task-custom"] += 2
        self._send(kind, "tests.custom", 2)

    def _send_deploy(self, kind: str) -> None:
        """No task, but an event of the producer's own."""
        self.custom_events["deploy-finished"] += 1
        with self.app.events.default_dispatcher() as dispatcher:
            dispatcher.send("deploy-finished", version="1.2.3", ok=True)

    def _send_revoked_before(self, kind: str) -> None:
        self._send(kind, "tests.add", 1, 1, task_id=self._revoked_before.pop())

    def _send_revoked_waiting(self, kind: str) -> None:
        self._to_revoke.append(self._send(kind, "tests.add", 2, 2, countdown=DELAY))

    def _send_expired(self, kind: str) -> None:
        # It must reach a worker first: at the end of this time the broker itself would throw it away.
        self._send(kind, "tests.add", 3, 3, countdown=DELAY, expires=DELAY - 1)

    def _send_chain(self, kind: str) -> None:
        self._note(kind, "tests.add", *_with_parents(chain_of(self.app, 3).apply_async()))

    def _send_chord(self, kind: str) -> None:
        result = chord_of(self._app_with_results, 4).apply_async()
        self._note(kind, "tests.add", *(header.id for header in result.parent.results))
        self._note(kind, "tests.total", result.id)

    def _note(self, kind: str, name: str, *task_ids: str) -> None:
        for task_id in task_ids:
            self.kinds[task_id] = kind
            self.names[name] += 1


def _with_parents(result: AsyncResult) -> Iterator[str]:
    node: AsyncResult | None = result
    while node is not None:
        yield node.id
        node = node.parent
