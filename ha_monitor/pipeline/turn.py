"""The loop's turns: how long ago it last took care of its lease, its connection to the broker, and signals."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.clock import Clock

MAX_TURN = 0.1
"""Seconds after which a turn begins nothing more that waits for the store. With a store nearby, a whole turn takes a
few milliseconds; if each call takes long, several in a row would cost the lease."""


class Turn:
    """One turn of the loop, or the time between two `keep_alive` calls during long work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = float("-inf")

    def begin(self) -> None:
        """Start a new turn: the loop now takes care of what must continue."""
        self._began = self._clock.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether the turn has taken so long that it has to end."""
        return self._clock.monotonic() - self._began >= MAX_TURN


class Steps:
    """The steps of each turn, in rotation: a turn that becomes too long ends, and the next one continues with the next
    step.
    """

    def __init__(self, turn: Turn, *steps: Callable[[], None]) -> None:
        self._turn = turn
        self._steps = steps
        self._next = 0
        self.had_no_time = False
        """Whether the latest turn was too long even before the first step."""

    def take(self) -> None:
        """Take the steps one after the other. Raises what they raise."""
        self.had_no_time = self._turn.is_long
        for _ in self._steps:
            if self._turn.is_long:
                return
            step = self._steps[self._next]
            self._next = (self._next + 1) % len(self._steps)
            step()
