"""What is shipped for Prometheus and Grafana fits the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from ha_monitor.config.schema import Config, Http, Metrics, WorkerLabels, Workers
from ha_monitor.metrics.definitions import ALL, BY_CODE, Kind
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedules.model import ScheduleState
from ha_monitor.store.counts import Counts, LabelSet
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.store.results import Table, Watched, WorkerState
from tests.support.counted import scraped
from tests.support.metrics_table import table
from tests.support.scraping import Samples
from tests.support.store_contract import a_judgement
from tests.unit.builders import TurnedClock

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging/prometheus/ha-monitor.rules.yml"
GRAFANA = {path.stem: json.loads(path.read_text()) for path in (ROOT / "packaging/grafana").glob("*.json")}
"""The dashboards by their uid."""
ADDED = LabelSet(b"shop.pay\x1fcelery@host\x1fcelery", 1.7e12)
NAME = re.compile(r"\b(?:celery|ha_monitor)_[a-z_]+\b")
SUFFIXES = {Kind.HISTOGRAM: ("_bucket", "_count", "_sum"), Kind.COUNTER: ("",), Kind.GAUGE: ("",)}
KNOWN = {metric.name + suffix for metric in ALL for suffix in SUFFIXES[metric.kind]}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for board in GRAFANA.values() for panel in board["panels"] if panel["type"] != "row")


def names_in(text: str) -> set[str]:
    """Names of metrics in an expression; a pattern stands for those that it matches."""
    patterns = re.findall(r'__name__=~"([^"]+)"', text)
    plain = re.sub(r'__name__=~"[^"]+"', "", text)
    matched = {name for pattern in patterns for name in KNOWN if re.fullmatch(pattern, name)}
    assert matched or not patterns, text
    return set(NAME.findall(plain)) | matched


def test_every_metric_is_documented_as_it_is() -> None:
    """Given the definitions of the metrics, their table in the documentation is the same to the letter."""
    text = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")

    assert table() in text, "run `python -m tests.support.metrics_table` and put its output there"


TASK = ("name", "hostname", "queue_name")
OF_CELERY_EXPORTER = {
    **{f"celery_task_{word}_total": TASK for word in ("sent", "received", "started", "succeeded")},
    **{f"celery_task_{word}_total": TASK for word in ("rejected", "revoked", "retried")},
    "celery_task_failed_total": (*TASK, "exception"),
    # Without the worker by default, where celery-exporter has a hostname: its dashboards do not use it there.
    "celery_task_runtime": ("name", "queue_name"),
    "celery_task_queue_wait_time": ("name", "queue_name"),
    "celery_worker_up": ("hostname",),
    "celery_worker_tasks_active": ("hostname",),
    "celery_queue_length": ("queue_name",),
    "celery_active_consumer_count": ("queue_name",),
    "celery_active_worker_count": ("queue_name",),
    "celery_active_process_count": ("queue_name",),
}
PROMISED = {
    "batches": "ha_monitor_batches_total",
    "time to ingest a batch": "ha_monitor_batch_seconds",
    "lag": "ha_monitor_lag_seconds",
    "depth of the queue": "ha_monitor_queue_length",
    "redeliveries": "ha_monitor_messages_redelivered_total",
    "duplicates dropped": "ha_monitor_events_repeated_total",
    "waits for names": "ha_monitor_waiting_tasks",
    "dead letters": "ha_monitor_dead_letters_total",
    "rejects": "ha_monitor_events_rejected_total",
    "takeovers of outboxes": "ha_monitor_takeovers_total",
    "reconnects to the broker": "ha_monitor_broker_connects_total",
    "reconnects to the store": "ha_monitor_store_connects_total",
    "events lost": "ha_monitor_events_lost_total",
    "build": "ha_monitor_build_info",
}


def test_dashboards_made_for_celery_exporter_find_their_metrics() -> None:
    """Given the names and labels of celery-exporter, all are there; only the label `worker` is added."""
    labels = {metric.name: metric.labels for metric in ALL if metric.name.startswith("celery_")}

    assert {
        name: tuple(label for label in of if label != "worker")
        for name, of in labels.items()
        if name in OF_CELERY_EXPORTER
    } == OF_CELERY_EXPORTER
    assert [name for name, of in labels.items() if ("worker" in of) != ("hostname" in of)] == []


def test_the_monitor_tells_of_itself() -> None:
    """Given what operators ask of the monitor itself, there is a metric for each."""
    assert set(PROMISED.values()) <= {metric.name for metric in ALL}


def test_no_metric_is_defined_twice() -> None:
    assert len({metric.name for metric in ALL}) == len(ALL)


def test_what_is_exported_is_what_is_defined() -> None:
    """Given a leader with something to tell in every respect, the exposition has exactly the metrics defined, and the
    process's own.
    """
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    from ha_monitor.broker.survey import Survey, TaskQueue

    clock = TurnedClock()
    stats = Stats(depth=3)
    telemetry = Telemetry(Config(http=Http(listen="127.0.0.1:0")), clock, stats)
    labels = "\x1fshop.pay\x1fcelery@host\x1fcelery\x1f"
    fields = [
        *(f"{code:d}{labels}{'KeyError' if 'exception' in metric.labels else ''}" for code, metric in BY_CODE.items()),
        "l\x1fcelery@host",
        "z\x1fshop.pay",
        "s\x1fcelery@host",
        "S\x1fcelery@host",
    ]
    fields += [f"r{labels}0.1", f"R{labels}", f"w{labels}0.1", f"W{labels}"]
    telemetry.series.load(Counts([piece for field in fields for piece in (field.encode(), b"1")], [ADDED]), clock.now)
    telemetry.leads(clock.now + 5, followed=False)
    tables = [Table("workers", 1, 10_000, 0), Table("starts", None, 20_000, 0)]
    telemetry.fleet = Watched([], 1, 2, 3, 4, [WorkerState("celery@host", "online", 1)], ["celery"], tables=tables)
    telemetry.surveyed(Survey([TaskQueue("celery", 1, 1, 1, 1)], {}), clock.now)
    telemetry.incidents = [Incident("x", "failing", "shop.pay", Severity.WARN, Phase.FIRING, 1.0, 1.0, "some fail")]
    telemetry.schedules = [a_judgement()]

    samples = Samples(scraped(telemetry, clock.now))
    found = {name for name, _ in samples.values}
    # Its parser is strict: a family is there once, all its samples have its name and the endings of its type.
    families = list(text_string_to_metric_families(scraped(telemetry, clock.now, openmetrics=True)))

    in_openmetrics = {sample.name for family in families for sample in family.samples}
    assert {name for name in in_openmetrics if not name.endswith("_created")} == {
        name for name in found if not name.endswith("_created")
    }
    assert "celery_task_failed_created" in in_openmetrics
    assert len({family.name for family in families}) == len(families)
    assert all(dict(labels)["node_id"] == "ha-monitor" for _, labels in samples.values)
    created = {name for name in found if name.endswith("_created")}
    assert {name for name in found - created if not name.startswith("process_")} == KNOWN


def test_the_leader_shows_workers_that_have_lost_nothing() -> None:
    """Given two workers of which one lost events, the leader shows both: of a series that is new Prometheus could not
    say that it grew.
    """
    clock = TurnedClock()
    telemetry = Telemetry(Config(http=Http(listen="127.0.0.1:0")), clock, Stats())
    telemetry.series.load(Counts([b"l\x1fa@host", b"3"]), clock.now)
    telemetry.leads(clock.now + 5, followed=False)
    telemetry.watched(Watched([], 1, 0, 0, 0, [WorkerState(f"{name}@host", "online", 0) for name in "ab"], []))

    found = Samples(scraped(telemetry, clock.now))
    assert found.sums("ha_monitor_events_lost_total", by="worker") == {"a@host": 3, "b@host": 0}


@pytest.mark.parametrize(
    ("labels", "found"), [("worker", {"a@h": -7200, "b@h": 65, "c@h": 0}), ("hostname", {"h": -7200})]
)
def test_the_leader_shows_each_worker_s_clock(labels: str, found: dict[str, float]) -> None:
    """Given three workers of which two have wrong clocks, the leader shows each; where those of a host are not told
    apart, the one that is wrong by most.
    """
    clock = TurnedClock()
    chosen = WorkerLabels.NODENAME if labels == "worker" else WorkerLabels.HOSTNAME
    telemetry = Telemetry(
        Config(http=Http(listen="127.0.0.1:0"), metrics=Metrics(worker_labels=chosen)), clock, Stats()
    )
    skews = {"a@h": -7200.0, "b@h": 65.0, "c@h": 0.0}
    workers = [WorkerState(name, "online", 0, skew=skew) for name, skew in skews.items()]
    telemetry.fleet = Watched([], 1, 0, 0, 0, workers, [])
    telemetry.leads(clock.now + 5, followed=False)

    samples = Samples(scraped(telemetry, clock.now))
    assert samples.sums("ha_monitor_worker_clock_skew_seconds", by=labels) == found


def test_a_worker_that_said_goodbye_is_shown_for_ten_minutes() -> None:
    """Given workers that are offline or lost, the one that said goodbye long ago is not exported, so that no alert on
    workers that are down goes on for ever; the count by states has it, and the lost one stays.
    """
    clock = TurnedClock()
    telemetry = Telemetry(Config(http=Http(listen="127.0.0.1:0")), clock, Stats())
    states = [("a@h", "online", 1), ("b@h", "offline", 500), ("c@h", "offline", 700), ("d@h", "lost", 7000)]
    workers = [WorkerState(name, state, None, silent_for=seconds) for name, state, seconds in states]
    telemetry.watched(Watched([], 1, 0, 0, 0, workers, []))
    telemetry.leads(clock.now + 5, followed=False)

    samples = Samples(scraped(telemetry, clock.now))
    assert samples.sums("celery_worker_up", by="worker") == {"a@h": 1, "b@h": 0, "d@h": 0}
    assert samples.sums("ha_monitor_workers", by="state") == {"online": 1, "late": 0, "lost": 1, "offline": 2}


def test_where_losses_are_not_looked_for_no_worker_is_shown_without_one() -> None:
    """Given `workers.count_losses = false`, the leader does not claim that nothing was lost."""
    clock = TurnedClock()
    config = Config(http=Http(listen="127.0.0.1:0"), workers=Workers(count_losses=False))
    telemetry = Telemetry(config, clock, Stats())
    telemetry.series.load(Counts(), clock.now)
    telemetry.leads(clock.now + 5, followed=False)
    telemetry.watched(Watched([], 1, 0, 0, 0, [WorkerState("a@host", "online", 0)], []))

    assert Samples(scraped(telemetry, clock.now)).of("ha_monitor_events_lost_total") == {}


def test_the_alerts_and_the_dashboard_use_metrics_that_there_are() -> None:
    """Given every expression that is shipped, its metrics exist."""
    used = names_in("".join(re.findall(r"expr: (.*?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)))
    for panel in panels():
        used |= {name for target in panel["targets"] for name in names_in(target["expr"])}

    assert used - KNOWN == set()
    assert len(used) > 20


def test_the_dashboards_can_be_laid_out() -> None:
    """Given the panels, each has an id and a place of its own, a title and a query, and none covers another one."""
    found = list(panels())

    assert len({panel["id"] for panel in found}) == len(found)
    assert all(panel["title"] and panel["targets"] for panel in found)
    for board in GRAFANA.values():
        taken: list[tuple[int, int]] = []
        for place in (panel["gridPos"] for panel in board["panels"]):
            assert place["x"] + place["w"] <= 24
            columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            taken += [(x, y) for x in columns for y in lines]
        assert len(set(taken)) == len(taken), board["title"]


def test_all_thresholds_of_the_dashboards_colour_something() -> None:
    """Given the thresholds of panels and columns, each begins with what is below all others, and has a colour for
    what is above them, in order: one that is never reached or that all reach tells nothing."""
    settings = [
        (panel["title"], one)
        for panel in panels()
        for config in (
            panel["fieldConfig"].get("defaults", {}),
            *({one["id"]: one["value"] for one in each["properties"]} for each in panel["fieldConfig"]["overrides"]),
        )
        if (one := config.get("thresholds"))
    ]
    for title, thresholds in settings:
        first, *others = thresholds["steps"]
        assert first["value"] is None, title
        assert others, title
        assert [one["value"] for one in others] == sorted({one["value"] for one in others}), title
        assert len({one["color"] for one in thresholds["steps"]}) == len(thresholds["steps"]), title
    assert {"Failure ratio", "By task", "Top failures", "Slowest tasks"} <= {title for title, _ in settings}


def test_each_state_of_a_schedule_that_was_judged_has_its_colour() -> None:
    """Given the table of schedules, what ran as it should is green there, and all else that was judged is not."""
    panel = next(panel for panel in panels() if panel["title"] == "Schedules")
    found = {
        state: shown["color"]
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "mappings"
        for mapping in one["value"]
        for state, shown in mapping["options"].items()
    }

    assert found.keys() == set(ScheduleState) - {ScheduleState.PAUSED, ScheduleState.WAITING, ScheduleState.NOT_KNOWN}
    assert {state for state, color in found.items() if color == "green"} == {ScheduleState.ON_TIME}


def test_the_dashboards_lead_to_each_other() -> None:
    """Given the overview, the one by task and the one by worker, each links to the others with what is chosen and the
    time that is shown; a task's name in a table leads to that task, and a worker's to that worker.
    """
    assert GRAFANA.keys() == {board["uid"] for board in GRAFANA.values()}
    assert GRAFANA.keys() == {"ha-monitor", "ha-monitor-tasks", "ha-monitor-workers"}
    variables: dict[str, set[str]] = {}
    shared: dict[str, Any] = {}
    for uid, board in GRAFANA.items():
        variables[uid] = {one["name"] for one in board["templating"]["list"]}
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert all(set(link["tags"]) <= set(other["tags"]) for other in GRAFANA.values())
        assert link["includeVars"]
        assert link["keepTime"]
        for one in board["templating"]["list"]:
            assert shared.setdefault(one["name"], one) == one, "one variable has two meanings"
        assert board["annotations"] == GRAFANA["ha-monitor"]["annotations"]

    found: dict[str, tuple[str, str, str]] = {}
    for panel in panels():
        for override in panel["fieldConfig"].get("overrides", []):
            for one in override["properties"]:
                if one["id"] == "links":
                    (target,) = one["value"]
                    uid, variable = re.findall(r"^/d/([\w-]+)\?var-(\w+)=\$\{__value\.raw\}", target["url"])[0]
                    found[panel["title"]] = (override["matcher"]["options"], uid, variable)
                    passed = set(re.findall(r"\$\{(\w+):queryparam\}", target["url"]))
                    assert passed == {"datasource", "job", "node_id"}
                    assert passed | {variable} <= variables[uid]
                    assert "${__url_time_range}" in target["url"]
    assert found == {
        **dict.fromkeys(("By task", "Top failures", "Slowest tasks"), ("Task", "ha-monitor-tasks", "task")),
        "Workers": ("worker", "ha-monitor-workers", "worker"),
    }


def test_the_dashboards_can_be_narrowed_down() -> None:
    """Given the variables of the dashboards, each is used by panels, what is about a task by those of the task and the
    queue, and every panel and mark by those of the job and the fleet.
    """
    expressions = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels()}
    marks = GRAFANA["ha-monitor"]["annotations"]["list"]
    expressions |= {mark["name"]: [mark["expr"]] for mark in marks}
    ours = [one for found in expressions.values() for one in found if "rabbitmq_" not in one]
    used = set(re.findall(r"=~\"\$(\w+)\"", " ".join(ours)))

    assert used == {"job", "node_id", "queue", "task", "worker", "instance"}
    assert [one for one in ours if 'job=~"$job", node_id=~"$node_id"' not in one] == []
    about_tasks = [one for one in ours if "celery_task_" in one]
    assert [one for one in about_tasks if 'name=~"$task", queue_name=~"$queue"' not in one] == []
    assert {mark["name"] for mark in marks} == {"Another instance leads", "Workers lost"}


def test_every_alert_leads_to_its_page_and_its_panels() -> None:
    """Given the alerts, each has a section of its own in docs/alerts.md with what to look at and what to do, and links
    to it and to the dashboard; the table of monitoring.md has all of them.
    """
    rules = yaml.safe_load(RULES.read_text())
    alerts = {rule["alert"]: rule["annotations"] for group in rules["groups"] for rule in group["rules"]}
    page = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))

    assert set(sections) == set(alerts)
    assert [name for name, text in sections.items() if "\n- Look: " not in text or "\n- Do: " not in text] == []
    for name, notes in alerts.items():
        assert notes["runbook_url"] == f"file:///usr/share/doc/ha-monitor/alerts.md#{name.lower()}"
        uid = re.match(r"/d/([\w-]+)", notes["dashboard"])
        assert uid is not None
        board = GRAFANA[uid[1]]
        chosen = set(re.findall(r"[?&]var-(\w+)=", notes["dashboard"]))
        assert chosen <= {one["name"] for one in board["templating"]["list"]}, name
        assert notes["summary"]
    table_rows = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert [name for name in alerts if f"`{name}`" not in table_rows] == []
    used = {name for one in alerts.values() for name in re.findall(r"[?&]var-(\w+)=", one["dashboard"])}
    assert used == {"node_id", "queue", "task"}


def test_every_name_of_flower_is_recorded_tested_and_explained() -> None:
    """Given the metrics that Flower exports of tasks and workers, each has a rule, from metrics that there are, a test
    and a row in docs/migration.md."""
    rules = yaml.safe_load(RULES.with_name("flower.rules.yml").read_text())["groups"][0]["rules"]
    recorded = {rule["record"] for rule in rules}
    histogram = {f"flower_task_runtime_seconds_{part}" for part in ("bucket", "count", "sum")}
    gauges = {"flower_worker_online", "flower_worker_number_of_currently_executing_tasks"}
    gauges |= {"flower_worker_prefetched_tasks", "flower_task_prefetch_time_seconds"}

    assert recorded == {"flower_events_total", *histogram, *gauges}
    kinds = {rule["labels"]["type"] for rule in rules if rule["record"] == "flower_events_total"}
    # What Celery's workers and producers send of tasks; a type that only ha-monitor knows is none of Flower's.
    ends = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}
    assert kinds == {"task-sent", "task-received", "task-started", "task-retried", *ends}
    assert kinds <= {f"task-{metric.name.split('_')[2]}" for metric in BY_CODE.values()}
    assert {name for rule in rules for name in names_in(rule["expr"])} - KNOWN == set()
    tests = RULES.with_name("flower.rules.test.yml").read_text()
    explained = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    assert [name for name in recorded if name not in tests] == []
    assert [name for name in recorded - histogram | {"flower_task_runtime_seconds"} if name not in explained] == []


def test_every_alert_is_tested_both_ways() -> None:
    """Given the tests of the rules, which promtool runs in tests/integration, each alert fires and is silent there."""
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    text = RULES.with_name("ha-monitor.rules.test.yml").read_text()
    silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text))
    firing = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", text))
    assert alerts == silent == firing
