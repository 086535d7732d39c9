"""The alert rules, as Prometheus' own tool evaluates them."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from ha_monitor.config.schema import Metrics
from ha_monitor.metrics.series import Series
from ha_monitor.metrics.task_text import TaskText
from ha_monitor.store.counts import Counts
from tests.conftest import missing
from tests.support.counted import Clients
from tests.support.machine import patient
from tests.support.process import ServiceMissing, program

RULES = Path(__file__).resolve().parents[2] / "packaging/prometheus/ha-monitor.rules.yml"
FLOWER = RULES.with_name("flower.rules.yml")
ABSENCES = Path(__file__).with_name("long_absences.rules.test.yml")


@pytest.mark.parametrize(
    "command",
    [
        *(("check", "rules", file) for file in (RULES, FLOWER)),
        *(("test", "rules", file.with_suffix(".test.yml")) for file in (RULES, FLOWER)),
        ("test", "rules", ABSENCES),
    ],
)
def test_the_rules_are_valid_and_each_alert_fires_when_provoked_and_only_then(command: tuple[str | Path, ...]) -> None:
    """Given the distribution's promtool, the rules are valid and their tests pass, those of Flower's names, too."""
    try:
        promtool = program("promtool")
    except ServiceMissing as error:
        missing(error)
    done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=patient(60), check=False)

    assert done.returncode == 0, done.stdout + done.stderr


RATE = 'sum by (name) (increase(celery_task_{word}_total{{name!~"None"}}[10m]))'
FAIL_RATE = "{failed} / ({failed} + {succeeded}) * 100 > 5".format(
    failed=RATE.format(word="failed"), succeeded=RATE.format(word="succeeded")
)
"""As the alert on failures of celery-exporter's mixin has it."""
SUCCESS_RATE = "{succeeded} / ({succeeded} + {failed}) > -1".format(
    failed=RATE.format(word="failed"), succeeded=RATE.format(word="succeeded")
)
"""As its table of tasks has it."""


def counted(kind: int, name: str, last: str = "") -> bytes:
    return f"{kind}\x1f{name}\x1fcelery@host\x1fcelery\x1f{last}".encode()


def scraped_series(minutes: int, failures: Mapping[int, tuple[str, int]], succeeding: Collection[str]) -> list[str]:
    """What Prometheus has of an instance that it scrapes each 15 s: the selectors and values of promtool.

    :param failures: minute → (task, how many failures there were of it until then).
    :param succeeding: tasks that succeed every minute.
    """
    settings = Metrics()
    series = Series(settings)
    series.load(Counts(), 0.0)
    text = TaskText(series, settings, "fleet", Clients(15.0))
    values: dict[str, list[str]] = {}
    for scrape in range(minutes * 4):
        at = scrape * 15.0
        if scrape % 4 == 0:
            for name in succeeding:
                series.update([counted(10, name), b"%d" % (scrape // 4 + 1)], at)
            if (failed := failures.get(scrape // 4)) is not None:
                series.update([counted(9, failed[0], "KeyError"), b"%d" % failed[1]], at)
        for line in b"".join(text.pieces(at + 1, openmetrics=False)).decode().splitlines():
            if line.startswith("celery_task_") and "_bucket" not in line:
                name, _, value = line.rpartition(" ")
                values.setdefault(name, ["_"] * scrape).append(value)
    return [f"{{series: '{name}', values: '{' '.join(found)}'}}" for name, found in values.items()]


def test_rare_failures_and_tasks_that_always_fail_are_seen(tmp_path: Path) -> None:
    """Given what is exported of a task that fails six times in ten minutes and has not failed before, one that always
    fails, and one that never does, Prometheus sees six increases, the alert on failures fires for the two, and the
    table of success rates has all three.
    """
    try:
        promtool = program("promtool")
    except ServiceMissing as error:
        missing(error)
    rare = {minute: ("shop.rare", number + 1) for number, minute in enumerate((11, 12, 14, 15, 17, 18))}
    always = {minute: ("shop.always", minute) for minute in (1, 13, 16)}
    lines = scraped_series(20, {**rare, **always}, ["shop.rare", "shop.never"])
    asked = {
        'round(sum(increase(celery_task_failed_total{name="shop.rare"}[10m])))': "{labels: '{}', value: 6}",
        f"round({FAIL_RATE})": "{labels: '{name=\"shop.rare\"}', value: 38}, "
        "{labels: '{name=\"shop.always\"}', value: 100}",
        f"round({SUCCESS_RATE}, 0.01)": "{labels: '{name=\"shop.rare\"}', value: 0.63}, "
        "{labels: '{name=\"shop.always\"}', value: 0}, {labels: '{name=\"shop.never\"}', value: 1}",
    }
    tests = [f"{{expr: '{expr}', eval_time: 19m45s, exp_samples: [{found}]}}" for expr, found in asked.items()]
    (tmp_path / "test.yml").write_text(
        "evaluation_interval: 15s\ntests:\n- interval: 15s\n  input_series:\n  - "
        + "\n  - ".join(lines)
        + "\n  promql_expr_test:\n  - "
        + "\n  - ".join(tests)
        + "\n"
    )
    command = [promtool, "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)

    assert done.returncode == 0, done.stdout + done.stderr
