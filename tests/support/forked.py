"""Processes of the tests that `tests.support.forge` starts: instances and workers, by the hundred."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.forge import LARGEST
from tests.support.process import OwnProcess

ROOT = Path(__file__).resolve().parents[2]


class Forge:
    """The process that starts them; it ends with the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            descriptor = other.fileno()
            clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.forge", str(descriptor)],
                stdin=subprocess.DEVNULL,
                env=clean | {"PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                pass_fds=[descriptor],
                start_new_session=True,
            )

    def ask(self, **order: Any) -> int:
        """:raises RuntimeError: if it is gone."""
        with self._lock:
            self._connection.send(json.dumps(order).encode())
            answer = self._connection.recv(LARGEST)
        if not answer:
            raise RuntimeError("the process that starts instances and workers is gone")
        return int(answer)


@cache
def _forge() -> Forge:
    return Forge()


def python_process(
    arguments: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str],
    cwd: str | Path,
    python: str = sys.executable,
    death_signal: str = "KILL",
) -> OwnProcess:
    """Start a program in Python: forked, unless its environment makes another Python of it, such as by another clock.

    :param arguments: as those behind `python -m`: a module, and its arguments.
    :param python: the interpreter; another one is never forked.
    :param death_signal: what it gets if the tests die.
    """
    is_usual = python == sys.executable and env.get("PYTHONPATH") == str(ROOT)
    if is_usual and env.get("LD_PRELOAD") == os.environ.get("LD_PRELOAD"):
        return ForkedProcess(arguments, log, env=env, cwd=cwd, death_signal=death_signal)
    command = [python, "-m", *arguments]
    return OwnProcess(command, log, env=env, cwd=cwd, death_signal=death_signal)


class ForkedProcess(OwnProcess):
    """A program in Python with a session and a log file of its own."""

    def __init__(
        self, arguments: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: str | Path, death_signal: str
    ) -> None:
        self.log = log
        log.touch()
        order = {"arguments": list(arguments), "log": str(log), "env": dict(env), "cwd": str(cwd)}
        self._pid = _forge().ask(**order, death_signal=death_signal)
        self._end = os.pidfd_open(self._pid)
        self._status: int | None = None
        self._collected = False

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def returncode(self) -> int | None:
        if self._status is None and self._has_ended():
            self._status = _forge().ask(pid=self._pid, collect=False)
        return self._status

    def send(self, signum: int) -> None:
        if self.running:
            signal.pidfd_send_signal(self._end, signum)

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _is_collected(self) -> bool:
        return self._collected

    def _collect(self) -> int:
        if not self._collected:
            self._status = _forge().ask(pid=self._pid, collect=True)
            self._collected = True
            os.close(self._end)
        assert self._status is not None
        return self._status
