"""Sends tasks, and knows how each of them ended without asking the monitors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.utils import uuid

from ha_monitor.events.types import RESULT_TYPES

REVOKED = "shop.send_offer"
"""The task that is revoked before it is sent."""
POLL_EVERY = 0.1
"""Seconds between two looks at the results."""
LONGEST_POLL = 2.0
"""Maximum seconds of the timeout that one look uses up: while the whole machine is paused, as a virtual machine may be,
the worker makes no results."""


class Producer(threading.Thread):
    """A thread that sends tasks at a steady pace."""

    def __init__(self, app: Celery, backend: Any, *, worker: str, count: int, rate: float) -> None:
        """
        :param app: without a result backend, which would subscribe to each result, and only in this thread.
        :param backend: the result backend of the worker.
        :param worker: nodename of the worker.
        :param rate: tasks per second.
        """
        super().__init__(name="producer", daemon=True)
        self._app = app
        self._backend = backend
        self._worker = worker
        self._plan = [(uuid(), choose(number)) for number in range(count)]
        self._rate = rate
        self._asked_to_stop = threading.Event()
        self.sent: list[str] = []
        """The ids of the tasks that were sent."""
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._revoke()
            began = time.monotonic()
            for number, (task_id, name) in enumerate(self._plan):
                self._app.tasks[name].apply_async((number,), task_id=task_id)
                self.sent.append(task_id)
                ahead = began + (number + 1) / self._rate - time.monotonic()
                if self._asked_to_stop.wait(max(0.0, ahead)):
                    return
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        self._asked_to_stop.set()

    def outcomes(self, timeout: float, may_continue: Callable[[], bool]) -> dict[str, str]:
        """The event that should announce each task's end, according to the result backend.

        :param timeout: seconds to wait for the next result, enough for a slow machine.
        :param may_continue: called while waiting; False ends the wait.
        """
        known: dict[str, str] = {}
        left = timeout
        while len(known) < len(self.sent) and left > 0 and may_continue():
            began, before = time.monotonic(), len(known)
            for task_id in self.sent:
                if task_id not in known and (state := self._backend.get_state(task_id)) in RESULT_TYPES:
                    known[task_id] = RESULT_TYPES[state]
            time.sleep(POLL_EVERY)
            left = timeout if len(known) > before else left - min(time.monotonic() - began, LONGEST_POLL)
        return known

    def _revoke(self) -> None:
        revoked = [task_id for task_id, name in self._plan if name == REVOKED]
        if revoked:
            # The reply means that the worker knows the ids, and will refuse these tasks when they arrive.
            self._app.control.revoke(revoked, destination=[self._worker], reply=True, timeout=30.0, limit=1)


def choose(number: int) -> str:
    """The name of the n-th task."""
    if number % 50 == 31:
        return REVOKED
    if number % 10 == 4:
        return "shop.charge_card"
    if number % 10 == 7:
        return "shop.book_parcel"
    return "shop.send_receipt"
