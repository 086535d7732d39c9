"""The counts of an instance as series: each with 0 before its first count, limited, and written where it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ha_monitor.config.schema import Metrics, WorkerLabels
from ha_monitor.metrics.family_text import Family
from ha_monitor.metrics.series import Group, Series
from ha_monitor.metrics.task_text import TaskText
from ha_monitor.store.counts import Counts, LabelSet
from tests.support.counted import Clients, page
from tests.support.scraping import Samples

SETTINGS = Metrics(buckets=[0.1, 1.0])
SEP = "\x1f"


def field(kind: Any, *labels: str) -> bytes:
    return SEP.join((str(kind), *labels)).encode()


def received(name: str = "shop.pay", worker: str = "celery@a", queue: str = "celery") -> bytes:
    return field(2, name, worker, queue, "")


def failed(exception: str) -> bytes:
    return field(9, "shop.pay", "celery@a", "celery", exception)


def label_set(name: str = "shop.pay", worker: str = "celery@a", added: float = 5_000) -> LabelSet:
    return LabelSet(SEP.join((name, worker, "celery")).encode(), added)


def series(*raw: bytes, sets: tuple[LabelSet, ...] = (), settings: Metrics = SETTINGS) -> Series:
    made = Series(settings)
    made.load(Counts(raw, sets), 0.0)
    return made


def texts(made: Series, settings: Metrics = SETTINGS, interval: float = 10.0) -> TaskText:
    return TaskText(made, settings, "tests", Clients(interval))


def samples(text: TaskText, now: float) -> Samples:
    return Samples(b"".join(text.pieces(now, openmetrics=False)).decode())


def test_all_counters_of_a_label_set_are_there_before_the_first_count() -> None:
    """Given a label set that another instance counts under, each counter and histogram of it is there with 0."""
    found = Samples(page(series(sets=(label_set(),)), SETTINGS))

    counters = {name for name, _ in found.values if name.endswith("_total")}
    assert len(counters) == 8
    assert found.of("celery_task_failed_total", exception="")
    assert found.sums("celery_task_runtime_bucket", by="le") == {"0.1": 0, "1.0": 0, "+Inf": 0}
    assert set(found.values.values()) == {0.0}


def test_a_new_series_is_0_for_an_interval_so_that_its_first_count_is_an_increase() -> None:
    """Given a label set and, later, an exception that are new, they are 0 until each client has seen that, then
    with what was counted meanwhile."""
    made = series()
    text = texts(made)
    samples(text, 0)

    made.update([received(), b"3"], 1.0)
    assert samples(text, 10).sum("celery_task_received_total") == 0
    assert samples(text, 15).sum("celery_task_received_total") == 0
    assert samples(text, 20).sum("celery_task_received_total") == 3
    made.update([failed("KeyError"), b"2", received(), b"4"], 21.0)
    found = samples(text, 30)
    assert found.sums("celery_task_failed_total", by="exception") == {"": 0, "KeyError": 0}
    assert found.sum("celery_task_received_total") == 4
    assert samples(text, 40).sums("celery_task_failed_total", by="exception") == {"": 0, "KeyError": 2}


def test_a_label_set_that_was_exported_with_0_counts_at_once() -> None:
    """Given a label set that was known before its first count, the count is there at the next scrape."""
    made = series(sets=(label_set(),))
    text = texts(made)
    samples(text, 0)
    made.update([received(), b"1"], 1.0)

    assert samples(text, 1).sum("celery_task_received_total") == 1


def test_what_there_is_at_first_is_exported_as_it_is() -> None:
    """Given a process that begins again, its counters go on where they were, and were created when they were."""
    made = series(received(), b"7", sets=(label_set(added=5_500),))
    text = page(made, SETTINGS, openmetrics=True) + "# EOF\n"

    found = {
        (sample.name, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name == "celery_task_received"
    }
    assert found == {("celery_task_received_total", 7.0), ("celery_task_received_created", 5.5)}


def test_nothing_is_exported_before_the_counts_are_known() -> None:
    """Given a process that has not read its counts, a scrape has none of tasks: with 0 they would seem to fall."""
    assert page(Series(SETTINGS), SETTINGS) == ""


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_text_that_is_used_again_is_what_would_be_written_anew(openmetrics: bool) -> None:
    """Given changes of all kinds, the text that is kept between scrapes is the one of a process that begins then."""
    made = series(received(), b"7", failed("KeyError"), b"1", sets=(label_set(), label_set("shop.refund")))
    text = texts(made)
    text.pieces(0.0, openmetrics=openmetrics)
    labels = ("shop.pay", "", "celery")
    changes = {
        received(): b"8",
        received("other"): b"1",
        failed("ValueError"): b"2",
        field("r", *labels, "1.0"): b"2",
        field("R", *labels, ""): b"1500000",
        field("w", *labels, "+Inf"): b"1",
        field("l", "celery@a"): b"3",
        field("S", "celery@a"): b"2500000",
        field("z", "shop.pay"): b"1",
    }
    made.update([piece for change in changes.items() for piece in change], 1.0)
    made.add_label_sets([label_set("third")], 2.0)
    made.forget_label_sets([label_set("shop.refund").text])
    made.update([failed("KeyError"), b""], 3.0)
    text.pieces(4.0, openmetrics=openmetrics)

    kept = b"".join(text.pieces(100.0, openmetrics=openmetrics)).decode()
    assert sorted(kept.splitlines()) == sorted(page(made, SETTINGS, openmetrics=openmetrics).splitlines())
    found = list(text_string_to_metric_families(kept + "# EOF\n")) if openmetrics else Samples(kept).values
    assert len(found) > 10


def test_the_samples_that_are_limited_are_those_of_a_scrape() -> None:
    """Given series of all kinds, their number is that of the samples in OpenMetrics, which has the most."""
    labels = ("shop.pay", "", "celery")
    made = series(
        *(received(), b"1", failed("KeyError"), b"1", failed("ValueError"), b"1"),
        *(field("r", *labels, "0.1"), b"1", field("l", "celery@a"), b"1", field("z", "shop.pay"), b"1"),
        sets=(label_set(), label_set("other", "celery@b")),
    )

    lines = page(made, SETTINGS, openmetrics=True).splitlines()
    assert made.samples == len([line for line in lines if not line.startswith("#")])


def test_series_that_are_gone_make_room() -> None:
    """Given label sets of a worker that are moved and forgotten, they are exported no longer, and the room is free."""
    made = series(received(), b"7", sets=(label_set(), label_set(worker="celery@b")))
    text = texts(made)
    samples(text, 0)
    before = made.samples
    made.update([received(), b"", received(worker=""), b"7"], 1.0)
    made.forget_label_sets([label_set().text, label_set(worker="celery@b").text])

    found = samples(text, 20)
    assert found.sums("celery_task_received_total", by="worker") == {"": 0}
    assert samples(text, 40).sums("celery_task_received_total", by="worker") == {"": 7}
    assert made.samples < before
    assert made.without == {"worker": 7, "name": 0}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (WorkerLabels.NODENAME, {("host", "a@host"): 1, ("host", "b@host"): 2}),
        (WorkerLabels.HOSTNAME, {("host", None): 3}),
        (WorkerLabels.NONE, {(None, None): 3}),
    ],
)
def test_other_worker_labels_help_at_once(labels: WorkerLabels, expected: dict[Any, int]) -> None:
    """Given counts from before `metrics.worker_labels` was changed, they are exported, and take room, as it says."""
    settings = Metrics(buckets=[0.1, 1.0], worker_labels=labels)
    raw = [received(worker="a@host"), b"1", received(worker="b@host"), b"2"]
    sets = tuple(label_set(worker=worker) for worker in ("a@host", "b@host"))
    made = series(*raw, sets=sets, settings=settings)

    found = Samples(page(made, settings)).of("celery_task_received_total")
    assert {(dict(key).get("hostname"), dict(key).get("worker")): value for key, value in found.items()} == expected
    assert made.samples == 16 * len(expected) + 2 * 6


def test_what_cannot_be_read_costs_nothing_else() -> None:
    """Given fields that are no counts, and numbers that are none, the others are exported."""
    made = series(b"", b"1", b"9x", b"2", b"99\x1fa\x1fb\x1fc\x1f", b"1", received(), b"-1", received("b"), b"4")

    assert Samples(page(made, SETTINGS)).sums("celery_task_received_total", by="name") == {"b": 4}


def test_names_are_written_as_prometheus_reads_them() -> None:
    """Given a name with quotes, backslashes and line breaks, it is read as it is."""
    name = 'a\\b"c\nd'
    found = Samples(page(series(received(name), b"1"), SETTINGS))

    assert found.sums("celery_task_received_total", by="name") == {name: 1}


def test_a_scrape_writes_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given many label sets of which one has counted since the last scrape, the lines of that one alone are written."""
    names = [f"task.{number}" for number in range(100)]
    made = series(sets=tuple(label_set(name) for name in names))
    text = texts(made)
    text.pieces(0.0, openmetrics=False)
    written: list[Group] = []
    write = Family.set_each

    def noting(self: Family, groups: Sequence[Group], lines: Sequence[str]) -> None:
        written.extend(groups)
        write(self, groups, lines)

    monkeypatch.setattr(Family, "set_each", noting)
    made.update([received("task.7"), b"1"], 1.0)

    assert samples(text, 2.0).sum("celery_task_received_total", name="task.7") == 1
    samples(text, 3.0)
    assert [group.labels[0] for group in written] == ["task.7"] * 8
