"""A Prometheus server of a test's own."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.process import OwnProcess, program
from tests.support.services import PrivateService


class PrivatePrometheus(PrivateService):
    """The distribution's Prometheus, scraping once a second under the job `ha-monitor`."""

    def __init__(self, targets: Sequence[str], rules: Path | None = None) -> None:
        """
        :param targets: addresses and ports.
        :raises ServiceMissing: if Prometheus is not installed.
        """
        self._program = program("prometheus")
        super().__init__()
        self._targets = targets
        self._rules = rules

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series of an instant query: labels and value.

        :raises ValueError: if Prometheus refuses the expression.
        """
        arguments = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{arguments}", timeout=10) as reply:
                answer: dict[str, Any] = json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from None
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one series; None if it gives none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return series[0][1] if series else None

    def history(self, expression: str, seconds: int) -> list[float]:
        """All values that an expression had in the last seconds, at steps of a second."""
        values = self.query(f"max_over_time(({expression})[{seconds}s:1s])")
        return [value for _, value in values]

    def _spawn(self) -> OwnProcess:
        config = self.dir / "prometheus.yml"
        job = {"job_name": "ha-monitor", "static_configs": [{"targets": list(self._targets)}]}
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: {json.dumps([str(self._rules)] if self._rules else [])}\n"
            f"scrape_configs: {json.dumps([job])}\n"
        )
        command = [self._program, f"--config.file={config}", f"--storage.tsdb.path={self.dir / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        return OwnProcess(command, self.dir / "prometheus.log", cwd=self.dir)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
