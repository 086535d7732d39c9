"""The alert rules that are shipped, as Prometheus' own tool sees them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.support.machine import patient
from tests.unit.test_monitoring import RULES


def test_every_alert_fires_when_provoked_and_only_then() -> None:
    """Given the distribution's promtool, the rules are valid, their tests pass, and test each alert both ways."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "on CI nothing may be missing: promtool"
        pytest.skip("promtool is not installed")
    tests = RULES.with_name("ha-monitor.rules.test.yml")
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(tests)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=patient(60), check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    text = tests.read_text()
    silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text))
    firing = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", text))
    assert alerts == silent == firing
