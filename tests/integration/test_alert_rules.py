"""The alert rules, as Prometheus' own tool evaluates them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.machine import patient
from tests.support.process import ServiceMissing, program

RULES = Path(__file__).resolve().parents[2] / "packaging/prometheus/ha-monitor.rules.yml"


@pytest.mark.parametrize(
    "command", [("check", "rules", RULES), ("test", "rules", RULES.with_name("ha-monitor.rules.test.yml"))]
)
def test_the_rules_are_valid_and_each_alert_fires_when_provoked_and_only_then(command: tuple[str | Path, ...]) -> None:
    """Given the distribution's promtool, the rules are valid and their tests pass."""
    try:
        promtool = program("promtool")
    except ServiceMissing as error:
        missing(error)
    done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=patient(60), check=False)

    assert done.returncode == 0, done.stdout + done.stderr
