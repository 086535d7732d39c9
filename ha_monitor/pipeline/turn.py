"""How long the loop has not looked after what must go on: its lease, its connection to the broker, what it was told."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.clock import Clock

ENOUGH = 0.1
"""Seconds after which nothing more that waits for the store is begun in a turn. With a store that is near, all of a
turn takes a few milliseconds; where each call takes long, several in a row would cost the lease."""


class Turn:
    """One round of the loop, or of what keeps it alive within something long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = float("-inf")

    def begin(self) -> None:
        """The loop looks after all that must go on."""
        self._began = self._clock.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether it has taken so long that it has to end."""
        return self._clock.monotonic() - self._began >= ENOUGH


class Steps:
    """What each turn does, if there is time for it: else the next turn goes on with the next."""

    def __init__(self, turn: Turn, *steps: Callable[[], None]) -> None:
        self._turn = turn
        self._steps = steps
        self._next = 0
        self.had_no_time = False
        """Whether the latest turn was long before any of them."""

    def take(self) -> None:
        """Take one after the other. Raises what they raise."""
        self.had_no_time = self._turn.is_long
        for _ in self._steps:
            if self._turn.is_long:
                return
            step = self._steps[self._next]
            self._next = (self._next + 1) % len(self._steps)
            step()
