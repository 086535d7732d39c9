"""Starts programs in Python without loading them anew: it has loaded what they load, and forks.

    python -m tests.support.forge DESCRIPTOR

An instance or a worker takes half a second of a core to load, and the tests start a thousand. Each is a process of its
own like any other: with its own session, environment, folder and output, and killed like any other.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

MODULES = (
    *("ha_monitor.cli.main", "ha_monitor.service", "kombu.transport.pyamqp", "kombu.transport.redis"),
    *("celery.__main__", "celery.bin.celery", "celery.bin.worker", "celery.apps.worker"),
    *("celery.apps.beat", "celery.bin.beat", "celery.backends.redis", "celery.concurrency.prefork"),
    "celery.concurrency.thread",
)
"""What instances, workers and beats load."""
LARGEST = 1 << 20
"""Bytes of an order."""
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Obey until the tests are gone; in a process that was started, run the program."""
    libc = ctypes.CDLL(None)
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    connection = socket.socket(fileno=descriptor)
    while data := connection.recv(LARGEST):
        order = json.loads(data)
        if "arguments" not in order:
            connection.send(json.dumps(_ended(**order)).encode())
        elif pid := os.fork():
            connection.send(json.dumps(pid).encode())
        else:
            connection.close()
            libc.prctl(_PR_SET_PDEATHSIG, signal.Signals[f"SIG{order.pop('death_signal')}"])
            _run(**order)
            return


def _ended(pid: int, *, collect: bool) -> int:
    """The exit status of one that has ended (negative for a signal). Not collected, its id is not given to another."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | (0 if collect else os.WNOWAIT))
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _run(arguments: list[str], log: str, env: dict[str, str], cwd: str) -> Any:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.path[1:1] = [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder not in sys.path]
    module, *_ = sys.argv = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
