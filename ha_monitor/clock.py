"""Time as a parameter, so that tests can control it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The clock that the program uses."""

    def time(self) -> float:
        """Seconds since the epoch, UTC. For times that people read; may jump."""

    def monotonic(self) -> float:
        """Seconds by a clock that never jumps, and that continues while the process or the machine is suspended."""

    def sleep(self, seconds: float) -> None:
        """Block for this many seconds."""


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        # CLOCK_MONOTONIC stands still while a machine is suspended, so a lease measured by it would
        # look valid after a resume; CLOCK_BOOTTIME counts that time.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
