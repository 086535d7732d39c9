"""Connects in a thread while the loop continues.

The program cannot bound how long connecting takes: a name server that does not answer blocks `getaddrinfo` for half a
minute, and connecting to a distant broker takes some twenty round trips.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from ha_monitor.clock import Clock
from ha_monitor.threads import CallThread, ThreadUnavailable

Connected = TypeVar("Connected")


class Dialed(NamedTuple, Generic[Connected]):
    """A new connection that nothing uses yet. Call either `use` or `discard`, once."""

    use: Callable[[], Connected]
    """Put the connection into use. Does not block; called by the loop."""
    discard: Callable[[], object]
    """Close the connection. May block for a moment; never raises."""


class Dialing(Generic[Connected]):
    """Makes one attempt to connect at a time. Used by the loop."""

    def __init__(self, thread: CallThread, clock: Clock) -> None:
        """:param thread: used for nothing else."""
        self._thread = thread
        self._clock = clock
        self._dial: Callable[[], Dialed[Connected]] | None = None
        self._attempt: Future[Dialed[Connected]] | None = None
        self._began = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether there is an attempt whose result was not returned yet."""
        return self._attempt is not None

    @property
    def duration(self) -> float:
        """Seconds since the attempt began."""
        return self._clock.monotonic() - self._began

    def begin(self, dial: Callable[[], Dialed[Connected]]) -> None:
        """Begin an attempt. Call this only while none is under way.

        :param dial: connects. It runs in the thread, so it must not touch anything that the loop uses.
        """
        self._began = self._clock.monotonic()
        self._dial, self._attempt = dial, self._thread.submit(dial)

    def result(self, within: float) -> Dialed[Connected] | None:
        """The result of the attempt; None if it is still under way after `within` seconds.

        Raises what the attempt raised. If no thread could be started, the attempt is made here and blocks.
        """
        attempt, dial = self._attempt, self._dial
        if attempt is None or dial is None or not self._thread.wait(attempt, within):
            return None
        self._attempt = self._dial = None
        try:
            return attempt.result()
        except ThreadUnavailable:
            return dial()

    def drop(self) -> None:
        """Abandon an attempt that is under way; a connection that it makes is closed."""
        attempt, self._attempt, self._dial = self._attempt, None, None
        if attempt is not None and not attempt.cancel():
            attempt.add_done_callback(_discard)


def _discard(attempt: Future[Dialed[Connected]]) -> None:
    with suppress(Exception):  # if the attempt failed, there is nothing to close
        attempt.result().discard()
