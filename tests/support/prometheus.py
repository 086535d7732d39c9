"""A Prometheus server of a test's own."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.machine import patient
from tests.support.private import PrivateService
from tests.support.process import OwnProcess, program

Series = tuple[dict[str, str], list[tuple[float, float]]]


class PrivatePrometheus(PrivateService):
    """The distribution's Prometheus, scraping once a second under the job `ha-monitor`."""

    def __init__(
        self,
        targets: Sequence[str],
        rules: Path | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        others: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param targets: addresses and ports.
        :param rules: a file of alert rules.
        :param options: more of the job's configuration, such as its `scheme`.
        :param others: other jobs, each with one target.
        :raises ServiceMissing: if Prometheus is not installed.
        """
        self._program = program("prometheus")
        super().__init__()
        self._targets = targets
        self._rules = rules
        self._options = options or {}
        self._others = others or {}

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The series of an instant query: labels and value.

        :param at: seconds since the epoch; now by default.
        :raises ValueError: if Prometheus refuses the expression.
        """
        found = self._ask("query", query=expression, time=time.time() if at is None else at)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The series of a range query, as a panel of Grafana asks for them: labels, and pairs of time and value.

        :param start: seconds since the epoch, as `end`; `step` is in seconds, too.
        :raises ValueError: if Prometheus refuses the expression.
        """
        found = self._ask("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [(series["metric"], [(float(at), float(value)) for at, value in series["values"]]) for series in found]

    def exemplars(self, selector: str, seconds: float) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """The labels and the exemplars of the last seconds, with their labels, of the series of a selector."""
        now = time.time()
        found = self._ask("query_exemplars", query=selector, start=now - seconds, end=now)
        return [(series["seriesLabels"], one) for series in found for one in series["exemplars"]]

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values that a label has in the series of a selector, as Grafana's `label_values` asks for them."""
        values: list[str] = self._ask(f"label/{label}/values", **{"match[]": selector})
        return values

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one series; None if it gives none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return series[0][1] if series else None

    def most(self, expression: str, seconds: int) -> list[float]:
        """The largest value that each series of an expression had in the last seconds, also between two scrapes."""
        values = self.query(f"max_over_time(({expression})[{seconds}s:200ms])")
        return [value for _, value in values]

    def _ask(self, path: str, **arguments: str | float) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=patient(10)) as reply:
                return json.loads(reply.read())["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{arguments}: {error.read().decode()}") from None

    def _spawn(self) -> OwnProcess:
        config = self.dir / "prometheus.yml"
        jobs = [{"job_name": "ha-monitor", "static_configs": [{"targets": list(self._targets)}], **self._options}]
        for name, target in self._others.items():
            jobs.append({"job_name": name, "static_configs": [{"targets": [target]}]})
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: {json.dumps([str(self._rules)] if self._rules else [])}\n"
            f"scrape_configs: {json.dumps(jobs)}\n"
        )
        command = [self._program, f"--config.file={config}", f"--storage.tsdb.path={self.dir / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        command += ["--enable-feature=exemplar-storage"]
        return OwnProcess(command, self.dir / "prometheus.log", cwd=self.dir)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=patient(2)) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
