"""Child processes that never outlive the demo."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


class Child:
    """A process that ends with its parent, however the parent ends."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: int | IO[bytes], folder: Path
    ) -> None:
        """:param folder: the current folder of the child, so that it imports nothing from the user's by accident."""
        parent = os.getpid()
        library = ctypes.CDLL(None, use_errno=True)

        def die_with_parent() -> None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the parent died before the call above

        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A session of its own: Ctrl-C at the terminal reaches only the demo, which ends the others in order.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it only makes system calls
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def end(self, timeout: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds."""
        self.ask_to_end()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
