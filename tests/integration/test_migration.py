"""What was made for celery-exporter and Flower finds its rows in a real Prometheus that scrapes a real instance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, Overrides
from tests.support.process import ServiceMissing, wait_for_value, wait_until
from tests.support.prometheus import PrivatePrometheus
from tests.support.scraping import free_listen
from tests.support.workers import CeleryWorker

FLOWER = Path(__file__).resolve().parents[2] / "packaging/prometheus/flower.rules.yml"
JOB = "celery-exporter"
OURS = f'cluster="", namespace="", job="{JOB}", queue_name=~".*", queue_name!~"None"'
"""As dashboards of celery-exporter select: labels that nobody set are empty."""
TASKS = {"tests.add": (12, 0, 0), "tests.fail": (0, 3, 0), "tests.flaky": (2, 0, 2)}
"""How many runs succeed, fail and are retried."""
ARGUMENTS: dict[str, tuple[Any, ...]] = {"tests.add": (1, 2), "tests.fail": (), "tests.flaky": (1,)}
"""Their arguments."""
Order = Callable[[str, tuple[Any, ...]], object]
WORDS = ("sent", "received", "succeeded", "failed", "rejected", "retried", "revoked")


@pytest.fixture(scope="module")
def listen() -> str:
    return free_listen(1)


@pytest.fixture
def order(broker_url: str) -> Order:
    """Sends a task."""
    app = make_app(broker_url, send_sent_event=True)
    return lambda name, arguments: app.tasks[name].apply_async(arguments)


@pytest.fixture
def prometheus(
    tmp_path: Path, broker_url: str, store_url: str, listen: str, order: Order
) -> Iterator[PrivatePrometheus]:
    """Has seen an instance, a worker, and the tasks from before the first."""
    settings: Overrides = {"http": {"listen": listen}, "metrics": {"survey_interval": 1.0}}
    with ExitStack() as stack:
        try:
            target = listen.replace("%i", "1")
            server = stack.enter_context(PrivatePrometheus([], FLOWER, others={JOB: target}))
        except ServiceMissing as error:
            missing(error)
        stack.enter_context(Fleet(tmp_path, broker_url, store_url, size=1, settings=settings).start())
        stack.enter_context(CeleryWorker(broker_url, "a", send_sent_event=True))
        wait_for_value(lambda: server.value("sum(celery_worker_up)"), 1, 40, "the worker in Prometheus", 0.5)
        for name, arguments in ARGUMENTS.items():
            for _ in range(sum(TASKS[name][:2])):
                order(name, arguments)
                time.sleep(0.2)
        done = 'sum(celery_task_succeeded_total{name="tests.flaky"}) == 2 and sum(celery_task_failed_total) == 3'
        idle = "sum(celery_worker_tasks_active) == 0"  # as its next heartbeat says
        wait_until(lambda: bool(server.query(f"{done} and {idle}")), 40, "the ends of all tasks", 0.5)
        yield server


def increase(word: str, span: str, by: str) -> str:
    return f"sum by ({by}) (round(increase(celery_task_{word}_total{{{OURS}}}[{span}])))"


def test_all_that_dashboards_of_celery_exporter_ask_has_its_rows(prometheus: PrivatePrometheus) -> None:
    """Given tasks that succeed always, never, and after a retry, tables and graphs by task, by queue, by exception and
    of all, over short and long spans, have a row for each of them; alerts and gauges of workers and queues, too; and
    nothing is left out because it is 0.
    """
    names = sorted(TASKS)

    def rows(expression: str, label: str = "name") -> dict[str, float]:
        return {labels.get(label, ""): value for labels, value in prometheus.query(expression)}

    for span in ("10m", "6h", "1w"):
        for word in WORDS:
            assert sorted(rows(increase(word, span, "name"))) == names, (word, span)
            assert list(rows(increase(word, span, "queue_name"), "queue_name")) == ["celery"], (word, span)
            assert list(rows(increase(word, span, "job"), "job")) == [JOB], (word, span)
        succeeded, failed = increase("succeeded", span, "name"), increase("failed", span, "name")
        rate = rows(f"{succeeded} / ({succeeded} + {failed}) > -1")
        assert rate == {"tests.add": 1, "tests.fail": 0, "tests.flaky": 1}, span
        runtime = "sum by (name) (rate(celery_task_runtime_{part}{{{ours}}}[{span}]))"
        mean = [runtime.format(part=part, ours=OURS, span=span) for part in ("sum", "count")]
        assert sorted(rows(f"{mean[0]} / {mean[1]} > 0")) == ["tests.add", "tests.flaky"], span
        assert sorted(rows(f"topk(10, sum by (name) (rate(celery_task_received_total{{{OURS}}}[{span}])))")) == names
        exceptions = rows(increase("failed", span, "name, exception"), "exception")
        assert exceptions["KeyError"] > 0, span
        assert rows(f"{failed} / ({failed} + {succeeded}) * 100 > 5") == {"tests.fail": 100}, span
    for share in (0.5, 0.95, 0.99):
        buckets = f"sum by (name, job, le) (rate(celery_task_runtime_bucket{{{OURS}}}[10m]))"
        found = rows(f"histogram_quantile({share}, {buckets})")
        assert found["tests.add"] > 0, share
        assert found["tests.flaky"] > 0, share
    selected = f'cluster="", namespace="", job="{JOB}", queue_name!~"None"'
    assert prometheus.value(f"count(celery_worker_up{{{selected}}} == 1)") == 1
    assert prometheus.value(f"sum(celery_worker_tasks_active{{{selected}}})") == 0
    assert rows(f"topk(10, sum by (queue_name) (celery_queue_length{{{selected}}}))", "queue_name") == {"celery": 0}
    assert prometheus.query(f'celery_worker_up{{job="{JOB}"}} == 0') == []
    for label, values in (("name", names), ("queue_name", ["celery"])):
        assert prometheus.label_values(label, f'celery_task_received_total{{job="{JOB}"}}') == values
    wanted = dict(zip(("succeeded", "failed", "retried"), zip(*TASKS.values(), strict=True), strict=True))
    for word, counts in wanted.items():
        assert prometheus.value(f"sum(celery_task_{word}_total{{{OURS}}})") == sum(counts), word


def test_quantiles_have_the_run_times_while_tasks_run(prometheus: PrivatePrometheus, order: Order) -> None:
    """Given tasks that take 1.2 s, quantiles over the last two scrapes lie in the bucket of that, from 1 to 2.5 s,
    while such tasks end; of those that never succeeded, there is a row without a number at any time.
    """
    began = time.time()
    for _ in range(4):
        order("tests.slow", (1.2,))
    ended = 'sum(celery_task_runtime_count{name="tests.slow"})'
    wait_for_value(lambda: prometheus.value(ended), 4, 60, "the ends of the slow tasks", 0.5)

    for share, expected in ((0.5, 1.75), (0.95, 2.425), (0.99, 2.485)):
        buckets = f"sum by (name, job, le) (irate(celery_task_runtime_bucket{{{OURS}}}[1m]))"
        found: dict[str, set[float]] = {}
        for labels, points in prometheus.query_range(
            f"histogram_quantile({share}, {buckets})", began, time.time(), 0.5
        ):
            numbers = {round(value, 3) for _, value in points if not math.isnan(value)}
            found[labels["name"]] = numbers
        assert found["tests.slow"] == {expected}, share
        assert found["tests.fail"] == set(), share


def test_flower_s_names_have_their_rows(prometheus: PrivatePrometheus, order: Order) -> None:
    """Given the recording rules, the metrics that Flower exports are there for each worker and task."""
    wanted = {
        ("task-succeeded", "tests.add"): 12.0,
        ("task-failed", "tests.fail"): 3.0,
        ("task-retried", "tests.flaky"): 2.0,
        ("task-started", "tests.flaky"): 4.0,
        ("task-revoked", "tests.add"): 0.0,
    }

    def found() -> dict[tuple[str, str], float]:
        rows = prometheus.query('sum by (type, task, worker) (flower_events_total{worker!=""})')
        assert {labels["worker"].partition("@")[0] for labels, _ in rows} <= {"a"}
        return {(labels["type"], labels["task"]): value for labels, value in rows}

    wait_until(lambda: wanted.items() <= found().items(), 30, "the events under Flower's name", 0.5)
    # Each rule is evaluated in its turn, and by what was scraped until then.
    wait_for_value(lambda: prometheus.value("sum(flower_worker_online)"), 1, 30, "the worker", 0.5)
    running = "sum(flower_worker_number_of_currently_executing_tasks)"
    wait_for_value(lambda: prometheus.value(running), 0, 10, "what is recorded of an idle worker", 0.5)
    held = 'flower_worker_prefetched_tasks{worker!=""}'
    nothing = dict.fromkeys(TASKS, 0.0)

    def values(expression: str) -> dict[str, float]:
        return {labels["task"]: value for labels, value in prometheus.query(expression)}

    def has_tasks(expression: str, tasks: set[str]) -> bool:
        return values(expression).keys() == tasks

    wait_for_value(lambda: values(held), nothing, 30, "what is recorded of tasks that are held", 0.5)
    succeed = {"tests.add", "tests.flaky"}
    recorded = "sum by (task) (flower_task_runtime_seconds_count) > 0"
    wait_until(partial(has_tasks, recorded, succeed), 30, "the recorded run times", 0.5)
    # On a busy machine, a rule may have been evaluated too late for the 0 with which a counter begins. What it records
    # from now on is growth.
    for name, arguments in ARGUMENTS.items():
        order(name, arguments)
    for expression in (
        "sum by (task) (rate(flower_task_runtime_seconds_sum[5m])) / sum by (task) "
        "(rate(flower_task_runtime_seconds_count[5m])) > 0",
        "histogram_quantile(0.9, sum by (task, le) (rate(flower_task_runtime_seconds_bucket[5m]))) > 0",
    ):
        wait_until(partial(has_tasks, expression, succeed), 30, expression, 0.5)
    wait_until(partial(has_tasks, "flower_task_prefetch_time_seconds", set(TASKS)), 30, "each task", 0.5)
