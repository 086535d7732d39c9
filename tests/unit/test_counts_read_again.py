"""Counts that are read from the store again, as after a lease that was lost: only the values of series change."""

from __future__ import annotations

from collections import Counter

import pytest

from ha_monitor.metrics.task_text import TaskText
from tests.unit.builders import TurnedClock
from tests.unit.test_retirement import Instance, Shared


def lines(text: TaskText, now: float, *, openmetrics: bool) -> dict[str, float]:
    """Values by series, each of which is there once."""
    page = b"".join(text.pieces(now, openmetrics=openmetrics)).decode()
    rows = [row.rpartition(" ") for row in page.splitlines() if not row.startswith("#")]
    assert [series for series, times in Counter(series for series, _, _ in rows).items() if times > 1] == []
    return {series: float(value) for series, _, value in rows}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_series_is_exported_once_and_goes_on(openmetrics: bool) -> None:
    """Given an instance that was scraped, counts on, and reads all its counts anew, each series is exported once, with
    what was counted, does not begin with 0 again, and goes on; one that is no longer there is gone.
    """
    clock, shared = TurnedClock(), Shared()
    one = Instance(shared, clock)
    for name in ("shop.pay", "shop.old"):
        one.counts.count(name, "celery@a", 5)
    one.live(1)
    lines(one.text, clock.now, openmetrics=openmetrics)
    one.live(10)
    before = lines(one.text, clock.now, openmetrics=openmetrics)
    (pay,) = [row for row in before if row.startswith("celery_task_received_total") and "shop.pay" in row]
    assert before[pay] == 5

    one.counts.count("shop.pay", "celery@a", 2)
    for kept in (one.counts.hash, shared.label_sets):
        for text in [text for text in kept if b"shop.old" in text]:
            del kept[text]
    one.counts.outdated = True
    one.live(1)
    after = lines(one.text, clock.now, openmetrics=openmetrics)

    assert after[pay] == 7
    assert after.keys() == {row for row in before if "shop.old" not in row}
    one.counts.count("shop.pay", "celery@a")
    one.live(1)
    assert lines(one.text, clock.now, openmetrics=openmetrics)[pay] == 8
