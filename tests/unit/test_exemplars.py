"""Exemplars: a graph leads to a task that was counted in it, for clients of OpenMetrics alone, and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain_families
from prometheus_client.samples import Exemplar as Parsed
from prometheus_client.samples import Timestamp

from ha_monitor.metrics import exemplars
from ha_monitor.metrics.exemplars import MAX_ID, MAX_RUNS
from ha_monitor.metrics.task_text import TaskText
from tests.support.announced import AT, failed, succeeded
from tests.unit.test_series import failed as failures
from tests.unit.test_series import field, label_set, received, series, texts

PARSED_AT = Timestamp(int(AT), 250_000_000)
RUN = ("shop.pay", "", "celery")
COUNTED = (
    *(received(), b"3", failures("KeyError"), b"1"),
    *(field("r", *RUN, "1.0"), b"2", field("R", *RUN, ""), b"600000"),
    *(field("w", *RUN, "0.1"), b"2", field("W", *RUN, ""), b"100000"),
)


def asked(text: TaskText, now: float = 0.0) -> dict[tuple[str, str], Parsed]:
    """The exemplars of a page: by the name of the sample and its bucket or exception; the parser is strict."""
    page = b"".join(text.pieces(now, openmetrics=True)).decode() + "# EOF\n"
    return {
        (sample.name, sample.labels.get("le") or sample.labels.get("exception", "")): sample.exemplar
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_a_bucket_and_a_failure_name_a_task_that_was_counted_there() -> None:
    """Given a run and a failure that are announced, the buckets of its run time and its wait, and its class of
    exceptions, have the task's id, the value and the time of the event."""
    text = texts(series(*COUNTED, sets=(label_set(),)))
    assert asked(text) == {}
    text.exemplars.note([succeeded("good", "shop.pay"), failed("bad", "shop.pay")])

    assert asked(text) == {
        ("celery_task_runtime_bucket", "1.0"): Parsed({"task_id": "good"}, 0.3, PARSED_AT),
        ("celery_task_queue_wait_time_bucket", "0.1"): Parsed({"task_id": "good"}, 0.05, PARSED_AT),
        ("celery_task_failed_total", "KeyError"): Parsed({"task_id": "bad"}, 1.0, PARSED_AT),
    }


def test_prometheus_own_format_has_none() -> None:
    """Given a client that does not ask for OpenMetrics, what it gets can be read, and is what it was before."""
    text = texts(series(*COUNTED, sets=(label_set(),)))
    asked(text)
    before = b"".join(text.pieces(0.0, openmetrics=False))
    text.exemplars.note([succeeded("good", "shop.pay"), failed("bad", "shop.pay")])

    after = b"".join(text.pieces(1.0, openmetrics=False))
    assert after == before
    assert all(sample.exemplar is None for family in plain_families(after.decode()) for sample in family.samples)


def test_nothing_is_kept_while_nobody_asks_for_them() -> None:
    """Given clients of Prometheus' own format alone, what is announced is not looked at."""
    text = texts(series(*COUNTED, sets=(label_set(),)))
    text.pieces(0.0, openmetrics=False)
    text.exemplars.note([succeeded("good", "shop.pay")])

    assert len(text.exemplars) == 0


def test_what_is_announced_before_its_count_is_read_is_not_lost() -> None:
    """Given the first failure of a task that nobody has seen, whose count comes after its line, it has its exemplar
    once the series has been 0 for an interval."""
    made = series()
    text = texts(made)
    asked(text)
    text.exemplars.note([failed("bad", "shop.pay")])
    made.update([failures("KeyError"), b"1"], 1.0)
    text.exemplars.settle()

    assert asked(text, 2.0) == {}
    assert asked(text, 20.0) == {("celery_task_failed_total", "KeyError"): Parsed({"task_id": "bad"}, 1.0, PARSED_AT)}


@pytest.mark.parametrize("task_id", ["", "x" * (MAX_ID + 1), "a\nb", 'q"\\', "\x1b[31m", "ü" * MAX_ID, "x" * MAX_ID])
@pytest.mark.parametrize("runtime", [0.3, None, True, "1", float("nan"), float("inf"), -1.0, 10**30, 2])
def test_no_event_makes_a_page_that_cannot_be_read(task_id: str, runtime: Any) -> None:
    """Given ids and run times of every kind, a strict parser reads the page, and an exemplar has at most the 128
    characters that OpenMetrics allows, none of them a control character."""
    text = texts(series(*COUNTED, field("r", *RUN, "+Inf"), b"1", sets=(label_set(),)))
    asked(text)
    text.exemplars.note([succeeded(task_id, "shop.pay", runtime=runtime), failed(task_id, "shop.pay", 7)])

    found = asked(text)
    for exemplar in found.values():
        assert exemplar.labels == {"task_id": task_id}
        assert len("task_id" + task_id) <= 128
        assert task_id.isprintable()
    assert (("celery_task_queue_wait_time_bucket", "0.1") in found) == (task_id in {"ü" * MAX_ID, "x" * MAX_ID})


def test_what_was_taken_over_has_none() -> None:
    """Given a line of another instance's outbox, its count is exported there, and no exemplar of it here."""
    text = texts(series(*COUNTED, sets=(label_set(),)))
    asked(text)
    text.exemplars.note([succeeded("good", "shop.pay")._replace(recovered=True)])

    assert asked(text) == {}


def test_a_busy_instance_looks_at_some_runs_and_all_failures() -> None:
    """Given a batch of many runs with one failure at its end, that has an exemplar, and so has the first of the runs;
    most of the runs are passed over.
    """
    text = texts(series(*COUNTED, field("r", *RUN, "0.1"), b"500", sets=(label_set(),)))
    asked(text)
    runs = [succeeded(f"id-{number}", "shop.pay", runtime=0.05) for number in range(500)]
    text.exemplars.note([*runs, failed("bad", "shop.pay")])

    found = asked(text)
    assert found["celery_task_failed_total", "KeyError"].labels == {"task_id": "bad"}
    assert found["celery_task_runtime_bucket", "0.1"].labels == {"task_id": f"id-{MAX_RUNS - 1}"}


def test_their_number_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more series than exemplars are kept for, those that were renewed last are there."""
    monkeypatch.setattr(exemplars, "MAX_EXEMPLARS", 3)
    names = [f"shop.{number}" for number in range(5)]
    raw = [piece for name in names for piece in (field(9, name, "celery@a", "celery", "KeyError"), b"1")]
    made = series(*raw, sets=tuple(label_set(name) for name in names))
    text = texts(made)
    asked(text)
    text.exemplars.note([failed(f"of {name}", name) for name in names])
    text.exemplars.note([failed("again", "shop.2")])

    assert len(text.exemplars) == 3
    kept = {group.labels[0]: one.task_id for group in made.all() for one in group.exemplars.values()}
    assert kept == {"shop.2": "again", "shop.3": "of shop.3", "shop.4": "of shop.4"}


def test_those_of_series_that_end_go_with_them() -> None:
    """Given a worker that is gone, no exemplar of its series is left on the page."""
    made = series(failures("KeyError"), b"1")
    text = texts(made)
    asked(text)
    text.exemplars.note([failed("bad", "shop.pay")])
    made.update([failures("KeyError"), b""], 5.0)
    text.exemplars.settle()

    assert asked(text, 6.0) == {}
