"""A steady load, and the truth about it: what the broker was given, as a queue of the tests' own gets it."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import amqp
from amqp.exceptions import AMQPError
from celery import Celery

from tests.support.celery_app import make_app
from tests.support.ledger import Published
from tests.support.recording import Recorded

RATE = 2.0
"""Tasks a second. Each costs 27 ms of a core, all that see it taken together."""


class Load:
    """Sends tasks from a thread: most succeed, some fail, some are tried again."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._app = self._new_app()
        self._paused = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent = 0

    def pause(self) -> None:
        self._paused.set()

    def resume(self) -> None:
        self._paused.clear()

    def _new_app(self) -> Celery:
        # Without the time-out a producer waits long for a broker that went away without a word.
        return make_app(self._broker_url, broker_connection_timeout=2)

    def _send(self) -> None:
        names = itertools.cycle(["tests.add"] * 8 + ["tests.fail", "tests.flaky"])
        while not self._ended.wait(1 / RATE):
            if self._paused.is_set():
                continue
            name = next(names)
            arguments = (1, 2) if name == "tests.add" else ()
            try:
                self._app.tasks[name].apply_async(arguments, retry=False)
            except Exception:  # the broker is away: the next one tries again
                self._ended.wait(0.5)
                self._app.close()
                self._app = self._new_app()
            else:
                self.sent += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)


class Truth:
    """All events that the broker was given, kept by a queue that survives the broker's restart."""

    QUEUE = "truth"

    def __init__(self, broker_url: str) -> None:
        self._url = urlsplit(broker_url)
        self._lock = threading.Lock()
        self._published = Published()
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def add(self, message: Recorded) -> None:
        """The broker was given a message. For any thread."""
        with self._lock:
            self._published.add(message)

    def published(self) -> Published:
        """Those so far that must be announced."""
        copy = Published()
        with self._lock:
            copy.update(self._published)
        return copy

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, AMQPError):
                self._consume()
            self._ended.wait(0.5)

    def _consume(self) -> None:
        connection = amqp.Connection(
            f"{self._url.hostname}:{self._url.port}",
            userid=unquote(self._url.username or ""),
            password=unquote(self._url.password or ""),
            virtual_host=unquote(self._url.path[1:]),
            connect_timeout=3,
            heartbeat=6,
        )
        try:
            connection.connect()
            channel = connection.channel()
            channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
            arguments = {"x-queue-type": "quorum"}
            channel.queue_declare(self.QUEUE, durable=True, auto_delete=False, arguments=arguments)
            channel.queue_bind(self.QUEUE, "celeryev", "#")
            channel.basic_qos(0, 500, False)
            channel.basic_consume(self.QUEUE, callback=self._receive)
            self._ready.set()
            beat = time.monotonic()
            while not self._ended.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.5)
                if time.monotonic() - beat > 1:
                    connection.heartbeat_tick()
                    beat = time.monotonic()
        finally:
            connection.collect()

    def _receive(self, message: amqp.Message) -> None:
        kind, encoding = message.properties["content_type"], message.properties["content_encoding"]
        self.add(Recorded(message.delivery_info["routing_key"], kind, encoding, message.body))
        message.channel.basic_ack(message.delivery_tag)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(60):
            raise TimeoutError("the queue of the truth was not declared within 60 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)
