"""The pages of the demo: one more process, which reads the demo's store."""

from __future__ import annotations

import contextlib
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from ha_monitor.config.web import Web
from ha_monitor.demo.process import Child
from ha_monitor.errors import ServiceMissing
from ha_monitor.http.listening import bind, host_and_port

READY_WITHIN = 20.0
LOG = "web.log"
"""The log of the pages, in the demo's folder."""


def start_pages(environment: Mapping[str, str], folder: Path) -> tuple[Child, str]:
    """Serve the pages on this machine, on their default port if it is free.

    :param environment: that of the instances.
    :param folder: its current folder, where it leaves its log.
    :returns: the process, and the address of the pages.
    :raises ServiceMissing: if it does not start.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}/"
    with (folder / LOG).open("wb") as output:
        command = [sys.executable, "-m", "ha_monitor", "web", "--listen", f"127.0.0.1:{port}"]
        child = Child(command, environment, output, folder)
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and child.running:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{url}livez", timeout=1).close()
            return child, url
        time.sleep(0.05)
    child.kill()
    raise ServiceMissing(f"the pages did not start: {_last_words(folder) or f'no answer within {READY_WITHIN:g} s'}")


def ensure_pages(pages: Child, folder: Path) -> None:
    """:raises ServiceMissing: if the process of the pages has ended unexpectedly."""
    if not pages.running:
        raise ServiceMissing(f"the pages ended: {_last_words(folder) or 'they were killed'}")


def _last_words(folder: Path) -> str:
    return (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]


def _free_port() -> int:
    usual = host_and_port(Web().listen)
    assert usual is not None
    for host, port in (usual, (usual[0], 0)):
        try:
            with bind(host, port) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise ServiceMissing("there is no free port on 127.0.0.1")
