"""How busy the machine is, so that a failed test tells a fault from a slow machine."""

from __future__ import annotations

import os
import statistics
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 5
"""By how much a time-out is longer than what an idle machine needs. A condition that comes true ends the wait at once,
so this costs nothing but at a failure."""


def patient(seconds: float) -> float:
    """How long to wait for what takes at most so many seconds on an idle machine."""
    return seconds * PATIENCE


def machine_load() -> str:
    """The load averages, the number of cores, and for how much of the last 10 s something waited for a core."""
    averages = " ".join(f"{average:.1f}" for average in os.getloadavg())
    text = f"load {averages} on {os.cpu_count()} cores"
    try:
        pressure = Path("/proc/pressure/cpu").read_text().split("avg10=", 1)[1].split()[0]
    except (OSError, IndexError):
        return text  # a kernel without pressure stall information
    return f"{text}, waiting for a core {pressure} % of the last 10 s"


def is_loaded(load: float, *, without: int = 0) -> bool:
    """Whether each core had at least this load in the last minute, on average.

    :param without: number of processes that always have work and are not counted.
    """
    return os.getloadavg()[0] - without >= load * (os.cpu_count() or 1)


def are_others_busy(loads: Path = Path("/proc/loadavg")) -> bool:
    """Whether other processes have work for all cores now. Takes a second, in which this process starts nothing."""
    others = []
    for _ in range(20):
        running = int(loads.read_text().split()[3].partition("/")[0])
        others.append(running - 1)  # this process is one of them
        time.sleep(0.05)
    return statistics.median(others) >= (os.cpu_count() or 1)


class Timed:
    """Times what is done in it, and beside it how late the machine is: what it lets wait, a thread that only sleeps
    waits for as well.

        with Timed() as timed:
            connect()
        assert timed.undisturbed < 2 * TIMEOUT
    """

    STEP = 0.005

    def __init__(self) -> None:
        self.seconds = 0.0
        """What it took."""
        self.late = 0.0
        """By how much the thread woke up too late in that time, in all."""
        self._began = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)

    @property
    def undisturbed(self) -> float:
        """What it would have taken on an idle machine, at most."""
        return self.seconds - self.late

    def __enter__(self) -> Self:
        self._thread.start()
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.monotonic() - self._began
        self._ended.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, of which the machine was {self.late:.2f} s late ({machine_load()})"

    def _sleep(self) -> None:
        due = time.monotonic() + self.STEP
        while not self._ended.wait(self.STEP):
            now = time.monotonic()
            self.late += max(0.0, now - due)
            due = now + self.STEP
        # The last wait may have been the one that the machine let wait.
        self.late += max(0.0, time.monotonic() - due)
