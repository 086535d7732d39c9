"""The distribution's real Prometheus scrapes three instances under real workers: what it then says is the truth."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import missing, served
from tests.support.celery_app import make_app
from tests.support.certificates import Certificate
from tests.support.dashboard import Window, all_chosen, filled, marks, panels, picture, variables
from tests.support.instances import Fleet, Overrides
from tests.support.measured import Measured
from tests.support.process import ServiceMissing, wait_for_value, wait_until
from tests.support.prometheus import PrivatePrometheus
from tests.support.scraping import free_listen, scrape
from tests.support.services import PrivateRabbitMQ
from tests.support.workers import CeleryWorker

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging/prometheus/ha-monitor.rules.yml"
VARIABLES = {**all_chosen(), "$__rate_interval": "1m", "$__range": "10m"}
SETTINGS = {
    "store": {"lease": 5.0},
    "metrics": {"survey_interval": 1.0},
    "workers": {"late_after": 4.0, "lost_after": 8.0},
}


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of every query of the dashboard."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], filled(target["expr"], VARIABLES)


@pytest.fixture
def listen() -> str:
    return free_listen(3)


@pytest.fixture
def exporting_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node that Prometheus can scrape."""
    yield from served(lambda: PrivateRabbitMQ(exporter=True))


@pytest.fixture
def scraping(listen: str) -> Iterator[Callable[..., PrivatePrometheus]]:
    """Starts a Prometheus that scrapes the instances 1 to 3, with more options of `PrivatePrometheus`."""
    with ExitStack() as stack:

        def start(**options: Any) -> PrivatePrometheus:
            try:
                server = PrivatePrometheus([listen.replace("%i", name) for name in "123"], **options)
            except ServiceMissing as error:
                missing(error)
            return stack.enter_context(server)

        yield start


def test_prometheus_has_the_truth_through_the_death_of_the_leader(
    *,
    tmp_path: Path,
    exporting_rabbitmq: PrivateRabbitMQ,
    store_url: str,
    listen: str,
    scraping: Callable[..., PrivatePrometheus],
    measured: Measured,
) -> None:
    """Given three instances and two workers, when tasks run and the leader is killed for good half-way and started
    again, the totals are what the workers did, to the task; no fleet-wide gauge was ever doubled; exemplars name
    tasks that ran; every query of the dashboard, those of its variables included, returns data; and no alert fires.
    """
    broker_url = exporting_rabbitmq.url()
    prometheus = scraping(rules=RULES, others={"rabbitmq": f"127.0.0.1:{exporting_rabbitmq.exporter_port}"})
    app = make_app(broker_url, send_sent_event=True)
    schedules = {"nightly": {"task": "tests.nightly", "every": "1d"}}
    settings: Overrides = {**SETTINGS, "http": {"listen": listen}, "schedules": schedules}
    with (
        Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet,
        CeleryWorker(broker_url, "a", send_sent_event=True) as one,
        CeleryWorker(broker_url, "b", pool="threads", send_sent_event=True) as other,
    ):
        wait_for_value(lambda: prometheus.value("sum(celery_worker_up)"), 2, 40, "two workers in Prometheus", 0.5)
        began = time.monotonic()
        ids: dict[str, set[str]] = {"tests.add": set(), "tests.fail": set()}
        for number in range(40):
            for _ in range(9):
                ids["tests.add"].add(app.tasks["tests.add"].delay(1, 2).id)
            app.tasks["tests.flaky"].delay(1)
            if number % 8 == 0:
                ids["tests.fail"].add(app.tasks["tests.fail"].delay().id)
            time.sleep(0.25)
            if number == 15:
                leader = next(one for one in fleet.instances if scrape(listen, one.name).sum("ha_monitor_leader"))
                leader.kill()
                killed = time.time()
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

        for selector, value in wait_for_sums(prometheus, truth).items():
            measured(f"{selector}: truth / sum in Prometheus", f"{truth[selector]} / {value}")

        check_exemplars(prometheus, ids)

        def empty(at: float) -> list[str]:
            return [f"{title}: {query}" for title, query in queries() if not prometheus.query(query, at)]

        found = {
            name: prometheus.label_values(label, filled(selector, VARIABLES)) for name, selector, label in variables()
        }
        # A receipt that is merged before the first task-sent of its name, by whichever instance, is of no known queue.
        found["queue"] = [queue for queue in found["queue"] if queue != "unknown"]
        assert found == {
            "job": ["ha-monitor"],
            "node_id": ["fleet"],
            "queue": ["celery"],
            "task": ["tests.add", "tests.fail", "tests.flaky"],
            "worker": sorted(worker.nodename for worker in (one, other)),
            "instance": sorted(listen.replace("%i", name) for name in "123"),
        }

        drawn: list[set[str | None]] = []

        check_marks(prometheus)

        def complete() -> bool:
            """Whether all queries had data some seconds ago, and all panels in a window that ended then: a panel draws
            the end of its window, and a scrape of a busy machine comes late."""
            ended = time.time() - 5
            if empty(ended):
                return False
            window = Window(ended - int(time.monotonic() - began), ended, 1)
            image = ElementTree.fromstring(picture(prometheus, window, VARIABLES))
            drawn.append({element.text for element in image.iter("{http://www.w3.org/2000/svg}text")})
            return "No data" not in drawn[-1]

        try:
            wait_until(complete, 60, "data for every query of the dashboard, and in every panel", 1)
        except TimeoutError:
            assert empty(time.time()) == []
            raise
        took = int(time.monotonic() - began)
        assert {panel["title"] for panel in panels()} <= drawn[-1]
        limits = {
            "celery_worker_up": 2,
            "ha_monitor_leader": 1,
            "ha_monitor_instances": 3,
            'celery_active_worker_count{queue_name="celery"}': 2,
            'celery_active_consumer_count{queue_name="celery"}': 2,
        }
        assert {selector: max(prometheus.most(f"sum({selector})", took)) for selector in limits} == limits
        measured("leader killed → the next one's gauges in Prometheus", f"{back_after(killed, prometheus):.1f} s")
        firing = {labels["alertname"] for labels, _ in prometheus.query('ALERTS{alertstate="firing"}')}
        assert firing == set()


def check_exemplars(prometheus: PrivatePrometheus, ids: Mapping[str, set[str]]) -> None:
    """Those of failures and run times name tasks of that name."""
    for selector in ("celery_task_failed_total", 'celery_task_runtime_bucket{name="tests.add"}'):
        named = prometheus.exemplars(selector, 300)
        assert named
        assert [one for labels, one in named if one["labels"]["task_id"] not in ids[labels["name"]]] == []


def check_marks(prometheus: PrivatePrometheus) -> None:
    """The dashboard marks that another instance came to lead, and no lost worker."""
    found = {name: prometheus.most(filled(expression, VARIABLES), 300) for name, expression in marks()}
    assert found["Another instance leads"]
    assert set(found["Another instance leads"]) == {1.0}
    assert found["Workers lost"] == []


def wait_for_sums(prometheus: PrivatePrometheus, truth: Mapping[str, float]) -> Mapping[str, float | None]:
    """The sums of these selectors, as soon as all of them are right at once."""
    seen: dict[str, float | None] = {}

    def are_right() -> bool:
        seen.update({selector: prometheus.value(f"sum({selector})") for selector in truth})
        return seen == truth

    try:
        wait_until(are_right, 60, "the truth in Prometheus", 0.5)
    except TimeoutError:
        assert seen == truth
    return seen


def back_after(killed: float, prometheus: PrivatePrometheus) -> float:
    """Seconds from the death of a leader until another one's gauges are there: the end of the first gap after it."""
    ((_, points),) = prometheus.query_range("sum(ha_monitor_leader)", killed - 2, time.time(), 0.5)
    return next(later for (earlier, _), (later, _) in pairwise(points) if later - earlier > 0.6) - killed


def test_alerts_fire_when_it_happens_and_end_when_it_is_over(
    *,
    tmp_path: Path,
    broker_url: str,
    store_url: str,
    listen: str,
    scraping: Callable[..., PrivatePrometheus],
    measured: Measured,
) -> None:
    """Given the rules with short waits in a real Prometheus, nothing fires while all is well; an instance that is
    killed is missed, a worker that is killed is lost, each by the alert for it alone; when both are back, nothing
    fires.
    """
    rules = tmp_path / "rules.yml"
    rules.write_text(re.sub(r"for: \d+m", "for: 3s", RULES.read_text()))
    prometheus = scraping(rules=rules)
    with (
        Fleet(tmp_path, broker_url, store_url, settings={**SETTINGS, "http": {"listen": listen}}).start() as fleet,
        CeleryWorker(broker_url, "a") as worker,
        CeleryWorker(broker_url, "b"),
    ):

        def alerts(state: str) -> set[str]:
            return {labels["alertname"] for labels, _ in prometheus.query(f'ALERTS{{alertstate="{state}"}}')}

        def wait_for(firing: set[str], what: str) -> None:
            began = time.monotonic()
            wait_for_value(lambda: alerts("firing"), firing, 60, what, 0.2)
            measured(what, f"{time.monotonic() - began:.1f} s")

        up = "sum(up) == 3 and on() sum(celery_worker_up) == 2"
        wait_until(lambda: prometheus.query(up) and alerts("firing") == set(), 60, "a fleet that is well", 0.5)
        time.sleep(10)  # for as long as an alert would take, and until silence of a worker means something
        assert prometheus.query('max_over_time(ALERTS{alertstate="firing"}[10s])') == []
        wait_for_value(lambda: alerts("pending"), set(), 60, "that none is pending", 0.2)

        missing_one = next(one for one in fleet.instances if not scrape(listen, one.name).sum("ha_monitor_leader"))
        missing_one.kill()
        wait_for_value(lambda: alerts("pending"), {"HaMonitorInstanceMissing"}, 20, "the alert's wait", 0.1)
        wait_for({"HaMonitorInstanceMissing"}, "instance killed → HaMonitorInstanceMissing fires (for: 3 s)")
        missing_one.start()
        wait_for(set(), "instance started → no alert")

        worker.kill()
        wait_for({"CeleryWorkerLost"}, "worker killed → CeleryWorkerLost fires (lost_after: 8 s)")
        worker.start()
        wait_for(set(), "worker started → no alert")


def test_metrics_behind_a_password_from_a_credential_and_tls(
    tmp_path: Path,
    broker_url: str,
    store_url: str,
    listen: str,
    scraping: Callable[..., PrivatePrometheus],
    *,
    certificates: list[Certificate],
) -> None:
    """Given `http.password` in a file of $CREDENTIALS_DIRECTORY alone, and a certificate, a real Prometheus that knows
    both scrapes all instances; without the password it gets nothing.
    """
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "http_password").write_text("hunter2 and more\n")
    ours = certificates[0]
    http = {"listen": listen, "username": "prometheus", "tls_certificate": str(ours.cert), "tls_key": str(ours.key)}
    trusting = {"scheme": "https", "tls_config": {"ca_file": str(ours.ca)}}
    knowing = {**trusting, "basic_auth": {"username": "prometheus", "password": "hunter2 and more"}}
    good, bad = scraping(options=knowing), scraping(options=trusting)
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    with Fleet(tmp_path, broker_url, store_url, settings={"http": http}, env=env).start() as fleet:
        wait_for_value(lambda: good.value("sum(ha_monitor_consuming)"), 3, 30, "the metrics", 0.5)
        wait_for_value(lambda: bad.value("count(up)"), 3, 30, "its attempts", 0.5)

        assert good.value("sum(up)") == 3
        assert bad.value("sum(max_over_time(up[1m]))") == 0
        assert bad.value("count(ha_monitor_consuming)") is None
    assert not any("hunter2" in json.dumps(line) for line in fleet.lines())
