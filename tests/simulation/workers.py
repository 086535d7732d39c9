"""Simulated producers and workers, and the book of what they sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import msgspec

from ha_monitor.broker.task_query import Held, WorkerAnswers
from ha_monitor.errors import BrokerBlocked, BrokerUnavailable
from ha_monitor.events.facts import event_id
from tests.simulation.broker import Broker
from tests.simulation.clock import HostClock, Timeline
from tests.unit.builders import event

HEARTBEAT_EVERY = 2.0
ENDS = ("task-succeeded", "task-failed")
NAMING = ("task-sent", "task-received")


class Sent(NamedTuple):
    """An event that the broker has taken."""

    type: str
    task: str
    at: float
    """On the timeline."""


class Book:
    """All events that the broker has taken."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._in_messages: dict[bytes, list[tuple[str, str, str]]] = {}
        self.taken: dict[str, Sent] = {}
        """By event id."""
        self.ended: dict[str, float] = {}
        """Tasks whose end the broker has taken, and since when."""

    def message(self, events: list[dict[str, Any]]) -> bytes:
        body = msgspec.json.encode(events if len(events) > 1 else events[0])
        self._in_messages[body] = [
            (event_id(one, one["timestamp"]).hex(), one["type"], one.get("uuid", "")) for one in events
        ]
        return body

    def accepted(self, body: bytes) -> None:
        now = self._timeline.now
        for identity, kind, task in self._in_messages[body]:
            self.taken[identity] = Sent(kind, task, now)
            if kind in ENDS:
                self.ended[task] = now

    def ids_of(self, body: bytes) -> list[str]:
        return [identity for identity, *_ in self._in_messages[body]]

    def names(self, body: bytes, task: str) -> bool:
        """Whether a message tells the name of a task."""
        return any(one == task and kind in NAMING for _, kind, one in self._in_messages[body])


class Sender:
    """Whoever sends events: in order, some at once, and those that the broker does not take are kept."""

    def __init__(self, name: str, book: Book, broker: Broker, timeline: Timeline, random: Random) -> None:
        self.name = name
        self.clock = HostClock(timeline)
        self.is_alive = True
        self.is_linked = True
        self.linked_since = self.alive_since = timeline.now
        self._book = book
        self._broker = broker
        self._timeline = timeline
        self._gap = random.choice([0.0, 0.0, 0.2, 0.5])
        self._unsent: list[dict[str, Any]] = []
        self._messages: list[bytes] = []
        self._count = 0
        self._is_due = False

    def emit(self, kind: str, task: str | None = None, **fields: Any) -> None:
        if not self.is_alive:
            return
        self._count += 1
        fields |= {"hostname": self.name, "clock": self._count}
        self._unsent.append(event(kind, uuid=task, at=self.clock.time(), **fields))
        if not self._is_due:
            self._is_due = True
            self._timeline.after(self._gap, self.send)

    def send(self) -> None:
        """Send what is there, if the broker takes it."""
        self._is_due = False
        if not self.is_alive:
            return
        if self._unsent:
            self._messages.append(self._book.message(self._unsent))
            self._unsent = []
        while self._messages and self.is_linked and self._broker.take(self._messages[0]):
            self._messages.pop(0)
        if self._messages:
            self._is_due = True
            self._timeline.after(1.0, self.send)

    @property
    def is_settled(self) -> bool:
        """Whether the broker has taken all that it was to take by now."""
        return not self.is_alive or not self._messages

    def die(self) -> None:
        """What it has not sent is lost."""
        self.is_alive = False
        self._messages, self._unsent = [], []


class Worker(Sender):
    """A worker: it also sends heartbeats, and answers questions."""

    def __init__(self, name: str, book: Book, broker: Broker, timeline: Timeline, random: Random) -> None:
        super().__init__(name, book, broker, timeline, random)
        self.running: dict[str, bool] = {}
        """Tasks that it has, and whether they run."""
        self.processed = 0
        self.emit("worker-online")
        timeline.after(random.random() * HEARTBEAT_EVERY, self._beat)

    def _beat(self) -> None:
        if self.is_alive:
            self.emit("worker-heartbeat", processed=self.processed, active=sum(self.running.values()))
            self._timeline.after(HEARTBEAT_EVERY, self._beat)


class Load:
    """Tasks, from the first event to the last."""

    def __init__(self, timeline: Timeline, broker: Broker, random: Random, *, workers: int) -> None:
        self.timeline = timeline
        self.book = Book(timeline)
        self.random = random
        self._broker = broker
        broker.accepted = self.book.accepted
        self.producer = Sender("gen@producer", self.book, broker, timeline, random)
        self.workers = [
            Worker(f"celery@w{number}", self.book, broker, timeline, random) for number in range(1, workers + 1)
        ]
        self.asked_at: dict[str, float] = {}
        """When workers were last asked for a task."""
        self.hung = False
        """Nobody gets an answer."""

    @property
    def senders(self) -> list[Sender]:
        return [self.producer, *self.workers]

    def schedule(self, tasks: int, seconds: float) -> None:
        """So many tasks, at times within the next seconds; some of them all at once."""
        burst = self.random.random() * seconds if self.random.random() < 0.3 else None
        for number in range(tasks):
            at = self.random.random() * seconds if burst is None or number % 2 else burst
            self.timeline.after(at, partial(self._send, f"t{number}"))

    def _send(self, task: str) -> None:
        self.producer.emit("task-sent", task, name=f"shop.{task}", retries=0)
        self.timeline.after(self.random.uniform(0.0, 0.3), lambda: self._receive(task, 0))

    def _receive(self, task: str, retries: int) -> None:
        alive = [one for one in self.workers if one.is_alive]
        if not alive:
            return
        worker = self.random.choice(alive)
        worker.running[task] = False
        worker.emit("task-received", task, name=f"shop.{task}", retries=retries)
        self.timeline.after(self.random.choice([0.0, 0.1, 1.0]), lambda: self._start(worker, task, retries))

    def _start(self, worker: Worker, task: str, retries: int) -> None:
        if not worker.is_alive:
            return
        worker.running[task] = True
        worker.processed += 1
        worker.emit("task-started", task)
        takes = self.random.choice([0.0, 0.1, 0.5, 3.0, 8.0])
        self.timeline.after(takes, lambda: self._end(worker, task, retries))

    def _end(self, worker: Worker, task: str, retries: int) -> None:
        if not worker.is_alive:
            return
        del worker.running[task]
        if retries < 2 and self.random.random() < 0.2:
            worker.emit("task-retried", task)
            self.timeline.after(1.0, lambda: self._receive(task, retries + 1))
        else:
            worker.emit(self.random.choice(ENDS), task)

    def answers(self, task_ids: Sequence[str]) -> WorkerAnswers:
        """What the workers say of tasks."""
        if self._broker.alarm:
            raise BrokerBlocked("memory alarm")
        if not self._broker.is_up:
            raise BrokerUnavailable("connection refused")
        self.asked_at.update(dict.fromkeys(task_ids, self.timeline.now))
        there = [one for one in self.workers if one.is_alive and one.is_linked]
        held = {task: Held(one.name, runs) for one in there for task, runs in one.running.items()}
        wanted = {task: held[task] for task in task_ids if task in held}
        return WorkerAnswers(frozenset(one.name for one in there), wanted, {f"shop.{one}": False for one in task_ids})

    @property
    def is_settled(self) -> bool:
        return all(one.is_settled for one in self.senders)
