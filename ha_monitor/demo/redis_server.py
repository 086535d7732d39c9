"""The demo's own Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from ha_monitor.demo.process import Child
from ha_monitor.errors import ServiceMissing

START_WITHIN = 20.0


def start_redis(folder: Path) -> tuple[Child, str]:
    """Start the distribution's redis-server on a free port of the loopback interface.

    :param folder: where it may write files.
    :returns: the process, and its URL without a database.
    :raises ServiceMissing: if it is not installed, or does not start.
    """
    program = shutil.which("redis-server") or shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
    if program is None:
        raise ServiceMissing("redis-server is not installed; apt install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    child = Child([program, *options], os.environ, subprocess.DEVNULL, folder)
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and child.running:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return child, f"redis://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    child.kill()
    raise ServiceMissing(f"{program} did not start on port {port}")
