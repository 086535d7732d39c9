"""`ha-monitor web` as a process, and a client that shows all of a reply."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.machine import patient
from tests.support.process import OwnProcess, free_port, wait_until


class Got(NamedTuple):
    """A reply."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(port: int, path: str, method: str = "GET", *, encoded: bool = False, **headers: str) -> Got:
    """Ask for a path, just as it is given.

    :param encoded: whether compressed replies are taken.
    :param headers: with `_` for each `-`.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patient(30))
    try:
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        if encoded:
            connection.putheader("Accept-Encoding", "gzip, deflate, br")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        reply = connection.getresponse()
        return Got(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


class WebProcess(OwnProcess):
    """The pages of a store, on a port of 127.0.0.1."""

    def __init__(self, store_url: str, folder: Path, *arguments: str, **settings: str) -> None:
        """
        :param folder: for its log.
        :param settings: variables without their prefix, such as `WEB_USERNAME`.
        """
        self.port = free_port()
        super().__init__(
            [sys.executable, "-m", "ha_monitor", "web", "--listen", f"127.0.0.1:{self.port}", *arguments],
            folder / f"web-{self.port}.log",
            env=environment(store_url, settings),
        )

    def wait_ready(self) -> WebProcess:
        def answers() -> bool:
            assert self.running, self.output()
            try:
                return get(self.port, "/livez").status == 200
            except OSError:
                return False

        wait_until(answers, 20, "the pages")
        return self

    def get(self, path: str, method: str = "GET", *, encoded: bool = False, **headers: str) -> Got:
        """See `get`."""
        return get(self.port, path, method, encoded=encoded, **headers)


def environment(store_url: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that reads a store."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HA_MONITOR_")}
    more = {f"HA_MONITOR_{name}": value for name, value in settings.items()}
    return {**plain, "HA_MONITOR_STORE_URL": store_url, "HA_MONITOR_NODE_ID": "tests", **more}
