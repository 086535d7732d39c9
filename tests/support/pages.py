"""The pages of a real fleet: Redis, an instance, and `ha-monitor web` over what a shop did in its last hour."""

from __future__ import annotations

import http.client
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ha_monitor.store.keys import Keys
from ha_monitor.web.formatting import instant
from tests.support.instances import ROOT, Fleet
from tests.support.process import OwnProcess, free_port, wait_until
from tests.support.recording import Recorded, publish
from tests.support.services import PrivateRedis
from tests.support.shop import LOST, WORKERS, Shop

NODE_ID = "shop"
SETTINGS: dict[str, dict[str, Any]] = {
    "log": {"arguments": True},
    "workers": {"late_after": 30.0, "lost_after": 60.0},
    "schedules": {"nightly report": {"task": "reports.nightly", "cron": "0 2 * * *"}},
}


_AS_OF = re.compile(r'<time class="as-of" datetime="([^"]+)" data-clock>')
MINUTE = len("2026-11-25T03:12")
"""Characters of a time up to its minute."""


class Answer(NamedTuple):
    """What a page is answered with."""

    status: int
    tag: str
    text: str

    @property
    def as_of(self) -> str:
        """When it was made, by the store's clock, in UTC to the millisecond: each that is made anew has its own."""
        found = _AS_OF.search(self.text)
        assert found is not None, self.text
        return found[1]


class PagesBed:
    """All of it; leaving the context ends it."""

    def __init__(self, folder: Path, redis: PrivateRedis, *, size: int = 1) -> None:
        """
        :param redis: running; it is store and broker.
        :param size: how many instances there are.
        """
        self.redis = redis
        self._folder = folder
        self._broker = redis.url(2)
        self._fleet = Fleet(folder, self._broker, redis.url(1), size=size, node_id=NODE_ID, settings=SETTINGS)
        self._port = free_port()
        self._web: OwnProcess | None = None
        self._published = 0
        self.url = f"http://127.0.0.1:{self._port}"
        self.shop = Shop(time.time())

    def __enter__(self) -> Self:
        self._fleet.start()
        self.start_web()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._web is not None and self._web.running:
            self._web.kill()
        self._fleet.__exit__(kind, value, trace)

    def fill(self, orders: int = 120) -> str:
        """The last hour of the shop; returns the id of a task that a lost worker had.

        What is new in a store that was empty is not called new: this one is said to be older.
        """
        keys = Keys(self._fleet.config.store.prefix, NODE_ID)
        with self.redis.client(1) as client:
            client.set(keys.errors_since, int((time.time() - 7200) * 1000))
        self.shop = Shop(time.time())
        task_id = self.shop.hour(orders)
        self.publish(self.shop.messages())
        return task_id

    def live(self, *, lost: bool = False) -> None:
        """A sign of life of all workers, and of the one that is lost, too, if it is not yet."""
        for worker in (*WORKERS, *([LOST] if lost else [])):
            self.shop.heartbeat(worker, time.time())
        self.publish(self.shop.messages())

    def publish(self, messages: Any) -> None:
        """Have events merged."""
        self._published += publish(self._broker, list(messages))
        self._fleet.wait_until_merged(self._published)

    def send(self, *messages: Recorded) -> None:
        """Publish without waiting."""
        self._published += publish(self._broker, list(messages))

    def start_web(self) -> None:
        """Start the pages, and wait until they answer."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HA_MONITOR_", "PYTHON"))}
        store = self._fleet.config.store.url
        environment = clean | {"PYTHONPATH": str(ROOT), "HA_MONITOR_NODE_ID": NODE_ID, "HA_MONITOR_STORE_URL": store}
        command = [sys.executable, "-m", "ha_monitor", "web", "--listen", f"127.0.0.1:{self._port}"]
        self._web = OwnProcess(command, self._folder / "web.log", env=environment, cwd=self._folder)
        wait_until(self._answers, 60, "an answer of the pages", 0.1)

    def kill_web(self) -> None:
        """As the kernel does."""
        assert self._web is not None
        self._web.kill()

    def _answers(self) -> bool:
        assert self._web is not None
        assert self._web.running, self._web.output()
        return self.get("/livez")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer; 0 if there is none."""
        try:
            answer = self.ask(path)
        except OSError:
            return 0, ""
        return answer.status, answer.text

    def ask(self, path: str, known: str = "") -> Answer:
        """The whole answer.

        :param known: the tag of what the client has.
        :raises OSError: if there is none.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path, headers={"If-None-Match": known} if known else {})
            reply = connection.getresponse()
            return Answer(reply.status, reply.getheader("ETag", ""), reply.read().decode())
        finally:
            connection.close()

    def minute(self) -> str:
        """The minute by the store's clock, as `Answer.as_of` begins."""
        with self.redis.client(1) as client:
            seconds, _ = client.time()
        return instant(seconds)[:MINUTE]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(lambda: bool(condition()), 60, what, 0.2)
