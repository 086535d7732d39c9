"""Threads besides the main loop. All are optional: if one cannot be started, a line reports it, and it is retried
later.

Their number does not depend on outside input. Besides the main thread, there are at most eleven: `http`, `scrapes`,
`surveyor`, `investigator`, `incidents`, `schedules`, `broadcast`, `handlers`, `store` and `broker` for connecting, and
`subscription` with a Redis broker. In addition, there is one `notify` for each channel that is notified of incidents,
and one for each sentinel of the store while it is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError, class_and_reason, reason_of

RETRY_AFTER = 10.0
"""Seconds until a thread that could not be started, or that failed, is started again."""
_REFUSED = (RuntimeError, MemoryError)
"""Raised at TasksMax, at RLIMIT_NPROC, or without memory for a stack."""
Result = TypeVar("Result")


class ThreadUnavailable(HaMonitorError):
    """The system does not allow this process another thread at the moment."""


def call_in_thread(name: str, call: Callable[[], Result]) -> Future[Result]:
    """Execute a call in a thread of its own. The thread ends with the call, and does not keep the process from exiting.
    The future holds the result or the exception.

    :raises ThreadUnavailable: if the thread cannot be started.
    """
    done: Future[Result] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    try:
        _begin(name, work)
    except _REFUSED as error:
        raise ThreadUnavailable(f"the thread {name} cannot be started: {reason_of(error)}") from None
    return done


def _begin(name: str, work: Callable[[], None]) -> threading.Thread:
    """:raises Exception: one of `_REFUSED`."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class Threads:
    """Starts the threads of the program."""

    def __init__(self, clock: Clock, trouble: Callable[[str, str], None]) -> None:
        """
        :param trouble: called with a thread's name and a reason when starting it fails for the first time, and when an
            exception ends it.
        """
        self._clock = clock
        self._trouble = trouble
        self._not_before: dict[str, float] = {}
        self._refused: set[str] = set()

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread.

        :raises ThreadUnavailable: if it cannot be started, or failed to start or died a short time ago.
        """
        now = self._clock.monotonic()
        if now < self._not_before.get(name, now):
            raise ThreadUnavailable(f"the thread {name} failed recently and is not started again yet")
        try:
            thread = _begin(name, partial(self._run, name, work))
        except _REFUSED as error:
            reason = reason_of(error)
            self._not_before[name] = now + RETRY_AFTER
            if name not in self._refused:
                self._refused.add(name)
                self._trouble(name, reason)
            raise ThreadUnavailable(f"the thread {name} cannot be started: {reason}") from None
        self._refused.discard(name)
        return thread

    def calls(self, name: str) -> CallThread:
        """A thread for calls. It starts with the first call."""
        return CallThread(self, name)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # unexpected: the loop continues without what this thread does
            self._not_before[name] = self._clock.monotonic() + RETRY_AFTER
            self._trouble(name, class_and_reason(error))


class ServiceThread:
    """A thread that runs as long as the program. The owner calls `ensure_running` regularly."""

    def __init__(self, threads: Threads, name: str, work: Callable[[], None]) -> None:
        """:param work: returns when it is no longer needed; if it raises, it is restarted after a pause."""
        self._threads = threads
        self._name = name
        self._work = work
        self._thread: threading.Thread | None = None
        self._done = False

    def ensure_running(self) -> None:
        """Start the thread if it is not running. Never blocks, never raises."""
        if self._done or (self._thread is not None and self._thread.is_alive()):
            return
        with suppress(ThreadUnavailable):
            self._thread = self._threads.start(self._name, self._until_done)

    def join(self, timeout: float) -> None:
        """Wait until the thread ends, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _until_done(self) -> None:
        self._work()
        self._done = True


class CallThread:
    """Executes calls in one thread, one after the other. The thread starts with the first call.

    Unlike the threads of `concurrent.futures`, it does not keep the process from exiting, even if a call hangs.
    """

    def __init__(self, threads: Threads, name: str) -> None:
        self._threads = threads
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Submit a call; returns at once. The future holds the result or the exception.
        A call that has not started may be cancelled.

        If the thread cannot be started, the call is not executed, and the future holds `ThreadUnavailable`; the next
        call tries to start it again.
        """
        done: Future[Result] = Future()
        if self._thread is None:
            try:
                self._thread = self._threads.start(self._name, self._run)
            except ThreadUnavailable as error:
                done.set_exception(error)
                return done
        self._calls.put((call, done))
        return done

    def wait(self, submitted: Future[Any], seconds: float | None = None) -> bool:
        """Wait until a call is done. Returns whether it is.

        :param seconds: maximum seconds to wait; None for as long as it takes.
        """
        return bool(wait([submitted], seconds).done)

    def _run(self) -> None:
        while True:
            call, done = self._calls.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)


class OneCall(Generic[Result]):
    """Executes one call at a time in a thread, and keeps its result until it is taken. Nothing here blocks."""

    def __init__(self, thread: CallThread) -> None:
        self._thread = thread
        self._call: Future[Result] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is being executed, or its result was not taken yet."""
        return self._call is not None

    @property
    def is_running(self) -> bool:
        """Whether a call is being executed."""
        return self._call is not None and not self._call.done()

    def begin(self, call: Callable[[], Result]) -> None:
        """Start to execute a call. Allowed only while it is not busy."""
        self._call = self._thread.submit(call)

    def take(self) -> Result | None:
        """The result, once it is available. Raises what the call raised.

        :raises ThreadUnavailable: if the thread could not be started.
        """
        if self._call is None or not self._call.done():
            return None
        call, self._call = self._call, None
        return call.result()
