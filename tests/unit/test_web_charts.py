"""Pictures of numbers: what they show is what the numbers say."""

from __future__ import annotations

from ha_monitor.events.catalogue import State
from ha_monitor.query.history import bounds_of, queues_over
from ha_monitor.query.tree import branches, build, critical_path
from ha_monitor.store.queue_flow import QueueFlow
from ha_monitor.web.charts import PANEL, TOP, Row, chart, sparkline
from ha_monitor.web.formatting import duration
from ha_monitor.web.timeline import timeline
from tests.unit.asked import NOW, Asked, task


def test_a_sparkline_is_a_point_for_each_value() -> None:
    """Given values, the largest is at the top and nothing at the bottom; nothing at all is no line."""
    assert sparkline([0, 1, 2]) == "0,19 55,10 110,1"
    assert sparkline([None, 4]) == "0,19 110,1"
    assert [sparkline(values) for values in ([], [3], [0, 0, None])] == ["", "", ""]


def test_a_chart_has_round_scales_and_gaps_where_nothing_is_known() -> None:
    """Given numbers by minute, bars reach as high as they say on a round scale, and a line is left out where nothing
    is known."""
    rows = [
        Row("runs", bars=[0, 5, 10], bad_bars=[0, 0, 5]),
        Row("run time", [("p50", [0.5, None, 0.3]), ("p95", [1.7, None, 1.9])], form=duration),
    ]
    found = chart(rows, [NOW // 60 * 60 + 60 * step for step in range(4)])
    runs, times = found.panels
    assert runs.ticks == [(TOP + PANEL, "0"), (TOP, "10")]
    assert runs.bars == "M1.1 100v-50h.8V100zM2.1 100v-100h.8V100z"
    assert runs.bad_bars == "M2.1 100v-50h.8V100z"
    assert [text for _, text in times.ticks] == ["0", "2.0 s"]
    assert [len(line.pieces) for line in times.lines] == [2, 2]
    assert [line.upper for line in times.lines] == [False, True]


def test_steps_are_whole_ones_of_the_clock() -> None:
    """Given any time, an hour by minute has sixty steps, of which the last is not over."""
    bounds = bounds_of(NOW, 3600, 60)
    assert len(bounds) == 61
    assert [one % 60 for one in bounds] == [0] * 61
    assert bounds[-2] <= NOW < bounds[-1]
    day = bounds_of(NOW, 86400, 1200)
    assert len(day) == 73
    assert {one % 1200 for one in day[:-1]} == {0}


def test_what_waited_is_worked_out_back_from_now() -> None:
    """Given what waits now and what came and left since, each step says how many tasks waited at its end."""
    asked = Asked(*(task(f"t{number}", State.SENT, at=NOW - 50) for number in range(3)))
    asked.flows["celery"] = QueueFlow(5, 4, 0, 0.0)
    points = queues_over(asked, ["celery"], [NOW - 180, NOW - 120, NOW - 60, NOW])["celery"]
    assert [point.waiting for point in points] == [1, 2, 3]


def test_a_timeline_tells_waiting_and_running_apart() -> None:
    """Given a workflow, each task has a bar of its waiting and one of its run, as long as they were, in the order of
    the tree, and the critical path is marked."""
    root = task("root", at=NOW - 100)
    child = task("child", State.FAILURE, at=NOW - 97, root_id="root", parent_id="root")
    other = task("other", State.STARTED, at=NOW - 50, root_id="root", parent_id="root")
    tree = build("root", [root, child, other])
    found = timeline(branches(tree), critical_path(tree, NOW), "child", NOW)
    assert [(row.task_id, row.depth, row.is_this, row.critical) for row in found.rows] == [
        ("root", 0, False, True),
        ("child", 1, True, False),
        ("other", 1, False, True),
    ]
    assert found.seconds == 100
    assert [[(bar.kind, bar.x, bar.width) for bar in row.bars] for row in found.rows] == [
        [("wait", "0.00%", "2.00%"), ("run", "2.00%", "1.00%")],
        [("wait", "3.00%", "2.00%"), ("run bad", "5.00%", "1.00%")],
        [("wait", "50.00%", "2.00%"), ("run", "52.00%", "48.00%")],
    ]
