"""What the private servers have in common: start, stop, kill, pause and start again on the same port."""

from __future__ import annotations

import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.machine import machine_load
from tests.support.process import OwnProcess, free_port, wait_until

START_TIMEOUT = 90
"""Seconds. RabbitMQ takes about five; a busy CI machine may need many times that."""


class PrivateService(ABC):
    """A server that a test may stop, kill, pause and start again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.dir = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__}-"))
        self._process: OwnProcess | None = None
        self._ran = False

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does too."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """Id of the server's process.

        :raises RuntimeError: if it does not run.
        """
        if self._process is None or not self._process.running:
            raise RuntimeError(f"{type(self).__name__} does not run")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it serves clients.

        A port that was free may be taken a moment later, so the first start tries again on another one. Later
        starts keep the port, because clients know it by then.
        """
        if self.running:
            return self
        try:
            self._launch()
        except ServiceDied:
            if self._ran:
                raise
            self.port = free_port()
            self._launch()
        self._ran = True
        return self

    def stop(self) -> None:
        """Stop it in an orderly way; its data stay for the next start."""
        if self._process is not None:
            self._process.end()

    def kill(self) -> None:
        """End it with SIGKILL, as the OOM killer would; its data stay as they are."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port, with the data it kept."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it from running (SIGSTOP): connections stay open, and nothing is answered."""
        if self._process is not None:
            self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server run on."""
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def close(self) -> None:
        """End it for good and remove its data."""
        self.resume()
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def output(self) -> str:
        """What the server has logged so far."""
        return "" if self._process is None else self._process.output()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self) -> None:
        process = self._process = self._spawn()

        def ready() -> bool:
            if not process.running:
                raise ServiceDied(self._told_at_end(process))
            return self._ready()

        try:
            wait_until(ready, START_TIMEOUT, f"the start of {type(self).__name__}")
        except TimeoutError:
            process.kill()
            raise

    def _told_at_end(self, process: OwnProcess) -> str:
        # On one line: a summary of tests shows no more of an error than its first line.
        last = " | ".join(line.strip() for line in process.output()[-2000:].splitlines() if line.strip())
        return f"{type(self).__name__} ended with {process.returncode} while it started ({machine_load()}): {last}"

    @abstractmethod
    def _spawn(self) -> OwnProcess:
        """Start the process."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether a client is served."""


class ServiceDied(Exception):
    """A server ended while it was starting."""
