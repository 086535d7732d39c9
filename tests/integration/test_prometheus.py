"""The distribution's real Prometheus scrapes three instances under real workers: what it then says is the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.celery_app import make_app
from tests.support.certificates import self_signed
from tests.support.instances import Fleet
from tests.support.process import ServiceMissing, wait_until
from tests.support.prometheus import PrivatePrometheus
from tests.support.scraping import free_listen, scrape
from tests.support.workers import CeleryWorker

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging/prometheus/ha-monitor.rules.yml"
DASHBOARD = ROOT / "packaging/grafana/ha-monitor.json"
VARIABLES = {"$job": ".*", "$task": ".*", "$__rate_interval": "1m", "$__range": "10m"}
SETTINGS = {
    "store": {"lease": 5.0},
    "metrics": {"survey_interval": 1.0},
    "workers": {"late_after": 4.0, "lost_after": 8.0},
}


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of every query of the dashboard."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression


@pytest.fixture
def listen() -> str:
    return free_listen(3)


@pytest.fixture
def prometheus(listen: str) -> Iterator[PrivatePrometheus]:
    try:
        server = PrivatePrometheus([listen.replace("%i", name) for name in "123"], RULES)
    except ServiceMissing as error:
        missing(error)
    with server:
        yield server


def test_prometheus_has_the_truth_through_the_death_of_the_leader(
    tmp_path: Path, broker_url: str, store_url: str, listen: str, prometheus: PrivatePrometheus
) -> None:
    """Given three instances and two workers, when tasks run and the leader is killed for good half-way and started
    again, the totals are what the workers did, to the task; no fleet-wide gauge was ever doubled; every query of the
    dashboard returns data; and the alert for a lost worker fires when one is killed, and no alert before.
    """
    app = make_app(broker_url, send_sent_event=True)
    settings = {**SETTINGS, "http": {"listen": listen}}
    with (
        Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet,
        CeleryWorker(broker_url, "a", send_sent_event=True) as victim,
        CeleryWorker(broker_url, "b", pool="threads", send_sent_event=True),
    ):
        wait_until(lambda: prometheus.value("sum(celery_worker_up)") == 2, 40, "two workers in Prometheus", 0.5)
        began = time.monotonic()
        for number in range(40):
            for _ in range(9):
                app.tasks["tests.add"].delay(1, 2)
            app.tasks["tests.flaky"].delay(1)
            if number % 8 == 0:
                app.tasks["tests.fail"].delay()
            time.sleep(0.25)
            if number == 15:
                leader = next(one for one in fleet.instances if scrape(listen, one.name).sum("ha_monitor_leader"))
                leader.kill()
            elif number == 35:
                leader.start()
        truth = {
            'celery_task_sent_total{name="tests.add"}': 360,
            'celery_task_received_total{name="tests.add"}': 360,
            'celery_task_succeeded_total{name="tests.add"}': 360,
            'celery_task_started_total{name="tests.flaky"}': 80,
            'celery_task_retried_total{name="tests.flaky"}': 40,
            'celery_task_failed_total{name="tests.fail", exception="KeyError"}': 5,
            'celery_task_runtime_count{name="tests.add"}': 360,
            'celery_task_queue_wait_time_count{name="tests.add"}': 360,
            "ha_monitor_events_lost_total": 0,
            "celery_worker_up": 2,
            "ha_monitor_leader": 1,
            "ha_monitor_instances": 3,
        }

        def seen() -> dict[str, float | None]:
            return {selector: prometheus.value(f"sum({selector})") for selector in truth}

        try:
            wait_until(lambda: seen() == truth, 60, "the truth in Prometheus", 0.5)
        except TimeoutError:
            assert seen() == truth

        def empty() -> list[str]:
            return [f"{title}: {query}" for title, query in queries() if not prometheus.query(query)]

        try:
            wait_until(lambda: not empty(), 20, "data for every query of the dashboard", 1)
        except TimeoutError:
            assert empty() == []
        took = int(time.monotonic() - began)
        most = {
            "celery_worker_up": 2,
            "ha_monitor_leader": 1,
            "ha_monitor_instances": 3,
            'celery_active_worker_count{queue_name="celery"}': 2,
            'celery_active_consumer_count{queue_name="celery"}': 2,
        }
        assert {selector: max(prometheus.history(f"sum({selector})", took)) for selector in most} == most
        firing = {labels["alertname"] for labels, _ in prometheus.query('ALERTS{alertstate="firing"}')}
        assert firing == set()

        victim.kill()
        wait_until(
            lambda: prometheus.query('ALERTS{alertname="CeleryWorkerLost", alertstate="firing"}'), 40, "the alert", 0.5
        )


def test_metrics_behind_a_password_from_a_credential_and_tls(
    tmp_path: Path, broker_url: str, store_url: str, listen: str
) -> None:
    """Given `http.password` in a file of $CREDENTIALS_DIRECTORY alone, and a certificate, a real Prometheus that knows
    both scrapes all instances; without the password it gets nothing.
    """
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "http_password").write_text("hunter2 and more\n")
    certificate, key = self_signed(tmp_path)
    http = {"listen": listen, "username": "prometheus", "tls_certificate": str(certificate), "tls_key": str(key)}
    targets = [listen.replace("%i", name) for name in "12"]
    trusting = {"scheme": "https", "tls_config": {"ca_file": str(certificate)}}
    knowing = {**trusting, "basic_auth": {"username": "prometheus", "password": "hunter2 and more"}}
    fleet = Fleet(
        tmp_path,
        broker_url,
        store_url,
        size=2,
        settings={"http": http},
        env={"CREDENTIALS_DIRECTORY": str(credentials)},
    )
    try:
        with (
            fleet.start(),
            PrivatePrometheus(targets, options=knowing) as good,
            PrivatePrometheus(targets, options=trusting) as bad,
        ):
            wait_until(lambda: good.value("sum(ha_monitor_consuming)") == 2, 30, "the metrics", 0.5)
            wait_until(lambda: bad.value("count(up)") == 2, 30, "its attempts", 0.5)

            assert good.value("sum(up)") == 2
            assert bad.value("sum(max_over_time(up[1m]))") == 0
            assert bad.value("count(ha_monitor_consuming)") is None
    except ServiceMissing as error:
        missing(error)
    assert not any("hunter2" in json.dumps(line) for line in fleet.lines())
