"""Handlers that take long, and do nothing else. Instances load them by name, with a folder in `$FAULT_HANDLERS`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ha_monitor.events.model import Event
from ha_monitor.handling import on
from ha_monitor.store.record import TaskRecord
from tests.support.fault_handlers import VARIABLE, slow
from tests.support.process import wait_until

__all__ = ["WAITING", "Gate", "slow", "waits"]

WAITING = "deploy-waiting"
"""An event of the user's own, whose handler works until the test lets it go."""


class Gate:
    """Where a test and the handler `waits` meet."""

    def __init__(self, folder: Path) -> None:
        self._begun, self._open, self._done = (folder / name for name in ("begun", "open", "done"))

    def wait_until_begun(self) -> None:
        wait_until(self._begun.exists, 60, "the handler at work", 0.05)

    @property
    def done(self) -> bool:
        """Whether the handler has returned."""
        return self._done.exists()

    def open(self) -> None:
        """Let the handler return, and wait for that."""
        self._open.touch()
        wait_until(self._done.exists, 60, "the end of the handler", 0.05)

    def work(self) -> None:
        """Wait until it is open, as the handler."""
        self._begun.touch()
        while not self._open.exists():
            time.sleep(0.05)
        self._done.touch()


@on(WAITING)
def waits(event: Event, task: TaskRecord | None) -> None:
    """Work for as long as the test wants."""
    Gate(Path(os.environ[VARIABLE])).work()
