"""A thread beside the loop, for what may take long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

Call = Callable[[], None]


class Aside:
    """Makes calls in one thread of its own, one after the other. The thread begins with the first call.

    It does not keep the process from ending, unlike those of `concurrent.futures`: what hangs must not.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Call, Future[None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, call: Call) -> Future[None]:
        """Have a call made; returns at once. Whatever it raises is in the future."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: Future[None] = Future()
        self._calls.put((call, done))
        return done

    def _run(self) -> None:
        while True:
            call, done = self._calls.get()
            try:
                call()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
