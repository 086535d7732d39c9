"""An Alertmanager of a test's own."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.machine import patient
from tests.support.private import PrivateService
from tests.support.process import OwnProcess, program, wait_until


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

    def note_messages(self, count: int) -> None:
        """Wait until it has noted that its receiver took this many messages since its start.

        It notes a message in memory once that is answered, and writes its notes down when it stops. A message that is
        answered while it writes is sent again after the next start.
        """
        wait_until(lambda: self._metric("notification_latency_seconds_count") >= count, 60, f"{count} answers", 0.05)
        # The note follows at once, in the same goroutine. Each group that fires asks for its notes every second.
        asked = self._metric("nflog_queries_total")
        wait_until(lambda: self._metric("nflog_queries_total") >= asked + 2, 60, "a look at the notes", 0.05)

    def _metric(self, name: str) -> float:
        """The sum of a metric of Alertmanager's own; only its webhook is used."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=patient(10)) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        found = [one for family in families for one in family.samples if one.name == f"alertmanager_{name}"]
        return sum(one.value for one in found)

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
