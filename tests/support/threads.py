"""Threads for tests, and a system that has none left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ha_monitor.clock import Clock, SystemClock
from ha_monitor.threads import Threads, ThreadUnavailable

CONNECTING = ("store", "broker")
"""The threads in which the loop has connections made."""


def plain_threads(clock: Clock | None = None, told: list[tuple[str, str]] | None = None) -> Threads:
    """:param told: gets the names of those that were in trouble, and why."""
    found = [] if told is None else told
    return Threads(clock or SystemClock(), lambda name, reason: found.append((name, reason)))


class ConnectingAtOnce(Threads):
    """The loop makes its connections itself: what a test sees does not depend on how long a thread takes."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock or SystemClock(), lambda _name, _reason: None)

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        if name in CONNECTING:
            raise ThreadUnavailable(f"a test has no thread {name}")
        return super().start(name, work)


@contextmanager
def no_thread_left(*names: str) -> Iterator[list[str]]:
    """As at TasksMax: no thread of these names can be started (none at all without names); gives who tried."""
    tried: list[str] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if names and thread.name not in names:
            start(thread)
            return
        tried.append(thread.name)
        raise RuntimeError("can't start new thread")

    with patch.object(threading.Thread, "start", refuse):
        yield tried
