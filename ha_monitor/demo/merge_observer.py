"""Which instance merged which events of a task, as seen by the demo's own Redis.

The lines only show who announced an event. With MONITOR, this module observes the calls that merge events; they contain
the ids of the tasks.
"""

from __future__ import annotations

import contextlib
import re
import threading

import redis

_CLIENT = re.compile(rb"^[\d.]+ \[\d+ ([^\]]+)\] ")
_INSTANCE = re.compile(rb'\\"instance\\": ?\\"([^"\\]+)')
_TASK_ID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


class MergeObserver(threading.Thread):
    """A thread that listens until Redis ends."""

    def __init__(self, url: str) -> None:
        """:param url: the store's Redis. :raises redis.RedisError: if it cannot be asked."""
        super().__init__(name="pieces", daemon=True)
        # Without a timeout: there may be no traffic.
        self._monitor = redis.Redis.from_url(url, socket_timeout=None).monitor().__enter__()
        self._instances: dict[bytes, str] = {}
        self._reached: dict[str, set[str]] = {}

    def run(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError, ValueError):
            while True:
                self.note(self._monitor.connection.read_response(disable_decoding=True))

    def reached(self) -> dict[str, set[str]]:
        """Task id → the instances that received its events."""
        return {task_id: set(instances) for task_id, instances in list(self._reached.items())}

    def note(self, call: bytes) -> None:
        """Process one line of MONITOR, such as ``1700000000.1 [1 127.0.0.1:4711] "EVALSHA" …``."""
        client = _CLIENT.match(call)
        if client is None or client[1] == b"lua":  # commands within a script have this as the client
            return
        instance = self._instances.get(client[1])
        if instance is not None:
            for task_id in _TASK_ID.findall(call):
                self._reached.setdefault(task_id.decode(), set()).add(instance)
        elif (found := _INSTANCE.search(call)) is not None:
            # An instance registers before it merges anything.
            self._instances[client[1]] = found[1].decode()
