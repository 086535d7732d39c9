"""Workers that exist nowhere and publish as real ones do, each on a connection of its own."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tests.support.hosts_events import fresh_event, message
from tests.support.ledger import Published
from tests.support.publishing import Load
from tests.support.recording import Recorded, publish

BEAT = 1.0
"""Seconds between two heartbeats."""


class SteadyWorker:
    """Begins one task after the other, and says with each heartbeat how many it has begun."""

    def __init__(self, number: int, padding: int = 0) -> None:
        """:param padding: characters that each result has."""
        self.nodename = f"steady{number}@nowhere"
        self._number = number
        self._padding = "x" * padding
        self.begun = 0
        """How many tasks."""
        self._beat_at = 0.0

    def messages(self) -> Iterator[Recorded]:
        """Without an end, with times as of when they are taken."""
        while True:
            if time.time() - self._beat_at >= BEAT:
                yield self.heartbeat()
            task = str(uuid.uuid4())
            yield self._message("task-received", uuid=task, name="shop.pay", args="()", kwargs="{}")
            self.begun += 1
            yield self._message("task-started", uuid=task)
            yield self._message("task-succeeded", uuid=task, result=self._padding, runtime=0.1)

    def heartbeat(self) -> Recorded:
        self._beat_at = time.time()
        return self._message("worker-heartbeat", freq=BEAT, active=0, processed=self.begun, sw_ident="py-celery")

    def _message(self, kind: str, **fields: Any) -> Recorded:
        return message(fresh_event(kind, hostname=self.nodename, pid=4711 + self._number, **fields))


class SteadyWorkers:
    """Several of them at work, each in a thread, for as long as the context lasts."""

    def __init__(self, url: str, count: int = 3, *, first: int = 0, rate: float = 100, padding: int = 0) -> None:
        """
        :param first: number of the first one.
        :param rate: messages a second of each.
        :param padding: characters that each result has.
        """
        self._url = url
        self.workers = [SteadyWorker(number, padding) for number in range(first, first + count)]
        self._loads = [Load(url, worker.messages(), rate) for worker in self.workers]

    @property
    def begun(self) -> int:
        """How many tasks they have begun."""
        return sum(worker.begun for worker in self.workers)

    def stop(self) -> Published:
        """Begin no more tasks; returns what was published."""
        published = Published()
        for load in self._loads:
            published.update(load.stop())
        return published

    def beat(self, times: int) -> None:
        """Go on without tasks for so many heartbeats."""
        for _ in itertools.repeat(None, times):
            time.sleep(BEAT)
            publish(self._url, [worker.heartbeat() for worker in self.workers])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
