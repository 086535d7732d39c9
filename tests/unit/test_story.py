"""What is told of one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ha_monitor.events.catalogue import State
from ha_monitor.query.id_prefix import MAX_CANDIDATES, candidates
from ha_monitor.query.story import remarks_on, steps_of
from ha_monitor.store.queries import StoryEvent
from tests.unit.asked import NOW, Asked, task
from tests.unit.builders import TurnedClock


def test_each_event_with_the_step_from_the_one_before() -> None:
    """Given a task that was delivered and run twice, each event is told with its step and its number."""
    story = [
        StoryEvent("task-sent", NOW),
        StoryEvent("task-received", NOW + 1),
        StoryEvent("task-started", NOW + 1.5),
        StoryEvent("task-retried", NOW + 3),
        StoryEvent("task-received", NOW + 3),
        StoryEvent("task-rejected", NOW + 4, requeued=True),
        StoryEvent("task-received", NOW + 5),
        StoryEvent("task-started", NOW + 6),
    ]

    steps = steps_of(task(story=story))

    assert [(one.type, one.after, one.note) for one in steps] == [
        ("task-sent", None, ""),
        ("task-received", 1.0, ""),
        ("task-started", 0.5, ""),
        ("task-retried", 1.5, "retry 1"),
        ("task-received", 0.0, "attempt 2"),
        ("task-rejected", 1.0, "back into its queue"),
        ("task-received", 1.0, "delivered again"),
        ("task-started", 1.0, "run 2"),
    ]


def test_an_event_without_a_time_has_no_step() -> None:
    """Given an event whose time is not known, neither it nor the next has a step."""
    story = [StoryEvent("task-sent", 0.0), StoryEvent("task-received", NOW)]

    assert [one.after for one in steps_of(task(story=story))] == [None, None]


def test_a_record_of_an_earlier_version() -> None:
    """Given a record without a story, the last event of each kind is told, and that these are not all."""
    old = task(state=State.FAILURE, at=NOW - 60, story=[])

    assert [(one.type, one.after) for one in steps_of(old)] == [
        ("task-sent", None),
        ("task-received", 1.0),
        ("task-started", 1.0),
        ("task-failed", 1.0),
    ]
    assert "an earlier version wrote this record" in remarks_on(old, NOW)[0]


@pytest.mark.parametrize(
    ("state", "changes", "said"),
    [
        (State.SENT, {}, "It has been waiting in celery for 1m0s; no worker has received it."),
        (State.SENT, {"queue": None}, "It has been waiting for 1m0s; no worker has received it."),
        (State.SENT, {"eta": NOW + 3600}, "It waits for its eta, in 1h0m."),
        (State.RECEIVED, {}, "celery@a has had it for 59s, and has not started it."),
        (State.STARTED, {}, "It has been running for 58s on celery@a."),
        (State.RETRY, {}, "It waits for its next attempt."),
        (State.UNKNOWN, {}, "Only custom events of it are known."),
    ],
)
def test_what_an_open_task_waits_for(state: State, changes: dict[str, Any], said: str) -> None:
    """Given an open task, it is said how long it has been where it is."""
    assert remarks_on(task(state=state, **changes), NOW)[0] == said


def test_what_is_noteworthy() -> None:
    """Given a task with a lost worker, a second delivery, missing events or a reconciled end, that is said."""
    assert "Its worker celery@a is lost." in remarks_on(task(state=State.STARTED), NOW, "lost")
    assert remarks_on(task(runs=3, retries=1), NOW) == [
        "It was started 1 more time than it was retried: delivered again."
    ]
    assert remarks_on(task(reconciled=True), NOW) == [
        "Its end is from the result backend: its last event never arrived."
    ]
    assert remarks_on(task(complete=False), NOW) == ["Some of its events never came, or are too old to be kept."]
    assert remarks_on(task(), NOW) == []


def found(text: str, *ids: str) -> list[str]:
    asked = Asked(*(task(one, State.FAILURE if number % 2 else State.SENT) for number, one in enumerate(ids)))
    return candidates(text, asked, TurnedClock()).ids


def test_a_unique_beginning_is_enough() -> None:
    """Given ids, a beginning finds those that begin so, and a whole id itself alone, though others begin with it."""
    assert found("8d3b", "8d3b9c4e", "8d3c", "x") == ["8d3b9c4e"]
    assert found("8d3", "8d3b9c4e", "8d3c", "x") == ["8d3b9c4e", "8d3c"]
    assert found("8d3", "8d3", "8d3c") == ["8d3"]
    assert found("zz", "8d3") == []


def test_an_id_as_a_table_shows_it() -> None:
    """Given an id that a table cut, or in which it escaped what a terminal would obey, it is found."""
    assert found("8d3b…", "8d3b9c4e") == ["8d3b9c4e"]
    assert found("8d3b...", "8d3b9c4e") == ["8d3b9c4e"]
    assert found(r"a\x1b[2Jb", "a\x1b[2Jb") == ["a\x1b[2Jb"]
    assert found(r"a\x1b[…", "a\x1b[2Jb") == ["a\x1b[2Jb"]


def test_too_many_that_begin_so() -> None:
    """Given many ids that begin so, no more are looked for than can be shown."""
    assert len(found("t", *(f"t{number}" for number in range(50)))) == MAX_CANDIDATES + 1


def test_a_beginning_is_that_of_tasks_that_are_kept() -> None:
    """Given many ids that begin so in an index, of which all but one have expired, the tasks in another index that
    begin so are found as well: none of them is taken for the only one.
    """

    class Expiring(Asked):
        def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
            return [["t1", *(f"t-expired{number}" for number in range(20))] for _ in names]

    asked = Expiring(task("t1"), task("t2", State.FAILURE))

    assert candidates("t", asked, TurnedClock()).ids == ["t1", "t2"]
