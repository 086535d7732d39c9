"""An Alertmanager of a test's own."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.support.machine import patient
from tests.support.private import PrivateService
from tests.support.process import OwnProcess, program


class PrivateAlertmanager(PrivateService):
    """The distribution's Alertmanager. It tells a receiver of each incident at once, and when it is over."""

    def __init__(self, receiver: str) -> None:
        """:param receiver: the URL that it posts to. :raises ServiceMissing: if Alertmanager is not installed."""
        self._program = program("prometheus-alertmanager")
        super().__init__()
        self._receiver = receiver

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it has."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=patient(10)) as reply:
            found: list[dict[str, Any]] = json.loads(reply.read())
        return found

    def _spawn(self) -> OwnProcess:
        config = self.dir / "alertmanager.yml"
        times = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "4h"}
        receiver = {"name": "test", "webhook_configs": [{"url": self._receiver, "send_resolved": True}]}
        route = {"receiver": "test", "group_by": ["incident"], **times}
        config.write_text(json.dumps({"route": route, "receivers": [receiver]}))
        command = [self._program, f"--config.file={config}", f"--storage.path={self.dir / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="]
        return OwnProcess(command, self.dir / "alertmanager.log", cwd=self.dir)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=patient(2)) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
