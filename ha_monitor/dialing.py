"""Connecting in a thread, while the loop goes on.

How long it takes has no bound that a program could set: a name server that does not answer blocks `getaddrinfo` for
half a minute, and a distant broker wants some twenty round trips.
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
    """A connection that was made and that nobody uses yet. One of the two is called, once."""

    use: Callable[[], Connected]
    """Use it from now on. Does not block; called by the loop."""
    discard: Callable[[], object]
    """Close it. May block for a moment; never raises."""


class Dialing(Generic[Connected]):
    """One attempt at a time to connect. Used by the loop."""

    def __init__(self, thread: CallThread, clock: Clock) -> None:
        """:param thread: its own."""
        self._thread = thread
        self._clock = clock
        self._dial: Callable[[], Dialed[Connected]] | None = None
        self._attempt: Future[Dialed[Connected]] | None = None
        self._began = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether there is an attempt whose end was not told yet."""
        return self._attempt is not None

    @property
    def lasts(self) -> float:
        """Seconds since the attempt began."""
        return self._clock.monotonic() - self._began

    def begin(self, dial: Callable[[], Dialed[Connected]]) -> None:
        """Begin an attempt; only while none is under way.

        :param dial: connects, and touches nothing that somebody else uses.
        """
        self._began = self._clock.monotonic()
        self._dial, self._attempt = dial, self._thread.submit(dial)

    def result(self, within: float) -> Dialed[Connected] | None:
        """What the attempt has led to; None if it is still under way after so many seconds.

        Raises what the attempt has raised. Without a thread the attempt is made here, and blocks.
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
        """Whatever comes of an attempt that is under way is not wanted any more."""
        attempt, self._attempt, self._dial = self._attempt, None, None
        if attempt is not None and not attempt.cancel():
            attempt.add_done_callback(_discard)


def _discard(attempt: Future[Dialed[Connected]]) -> None:
    with suppress(Exception):  # it failed: there is nothing to close
        attempt.result().discard()
