"""Which tasks a question finds, where it looks, and what it says of what may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import BAD_ENDS, first_heard, last_heard
from ha_monitor.query.language import parse_filter
from ha_monitor.query.search import Found, Order, Search
from ha_monitor.store.queries import Gap, KeptTask, OpenPage
from tests.unit.asked import NOW, Asked, task
from tests.unit.builders import TurnedClock


def find(asked: Asked, *words: str, limit: int = 20, order: Order | None = None) -> Found:
    return Search(asked, TurnedClock()).find(parse_filter(words, NOW), limit, order or Order())


def ids(found: Found) -> list[str]:
    return [one.record.task_id for one in found.tasks]


STATES = [state for state in State if state is not State.UNKNOWN]
NAMES = ["shop.pay", "shop.book", "mail.send{}", "a\x1b[2J"]


@st.composite
def tasks(draw: st.DrawFn) -> list[KeptTask]:
    """Tasks of any states and names, at any times, no two at one."""
    times = draw(st.lists(st.integers(1, 100_000), max_size=40, unique=True))
    return [
        task(
            f"t{number}",
            draw(st.sampled_from(STATES)),
            at=NOW - seconds,
            name=draw(st.sampled_from(NAMES)),
            worker=draw(st.sampled_from(["celery@a", "celery@b"])),
            queue=draw(st.sampled_from(["celery", "mail", None])),
            root_id=draw(st.sampled_from([f"t{number}", "t0"])),
        )
        for number, seconds in enumerate(times)
    ]


QUESTIONS = st.lists(
    st.sampled_from(
        [
            *("state=FAILURE", "state=open", "state=SUCCESS", "state!=SUCCESS", "state=STARTED,FAILURE", "state=SENT"),
            *("name=shop.*", "name=shop.pay", "name!=shop.pay", "name=a*", "worker=celery@a", "queue=mail"),
            *("root=t0", "task_id=t1,t2", "since=-6h", "until=-1h", "runtime>1h", "queue_time<2h"),
        ]
    ),
    max_size=3,
)


@pytest.mark.thorough
@settings(max_examples=100)
@given(tasks(), QUESTIONS, st.integers(0, 5))
def test_what_is_found_is_what_there_is(kept: list[KeptTask], words: list[str], limit: int) -> None:
    """Given tasks and a question, the answer is the newest of all that match, if the indexes have room for all."""
    asked = parse_filter(words, NOW)
    when = last_heard if asked.states <= BAD_ENDS else first_heard
    expected = sorted((one for one in kept if asked.holds(one, NOW)), key=when, reverse=True)

    found = find(Asked(*kept), *words, limit=limit)

    assert found.tasks == (expected[:limit] if limit else expected)
    assert found.more is (limit > 0 and len(expected) > limit)
    assert found.gaps == []


@settings(max_examples=100)
@given(tasks(), QUESTIONS, st.integers(1, 5), st.integers(1, 3))
def test_what_is_called_complete_is(kept: list[KeptTask], words: list[str], limit: int, ring: int) -> None:
    """Given indexes that keep few tasks by name, an answer without gaps lacks nothing of what was asked for."""
    asked = parse_filter(words, NOW)
    when = last_heard if asked.states <= BAD_ENDS else first_heard
    expected = sorted((one for one in kept if asked.holds(one, NOW)), key=when, reverse=True)[:limit]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ha_monitor.query.sources.MAX_NEWEST", ring)
        found = find(Asked(*kept, ring=ring), *words, limit=limit)

    if not found.gaps:
        assert found.tasks == expected


@pytest.mark.parametrize(
    ("words", "searched"),
    [
        (["state=FAILURE"], "what failed, was rejected or revoked"),
        (["state=open"], "all open tasks"),
        (["state=SENT", "queue=celery"], "what waits in celery"),
        (["state=SENT", "queue="], "all open tasks"),
        (["name=shop.pay"], "the newest 200 tasks of shop.pay"),
        (["task_id=t1"], "the ids that were named"),
        (["root=t1"], "the trees of the roots that were named"),
        (["parent=t1"], "the trees of the roots that were named"),
        (["name=none.such", "state=SUCCESS"], "the newest 200 tasks of none.such"),
        (["name=none.*", "state=SUCCESS"], "nothing, since no task has that name"),
        (
            ["worker=celery@a"],
            "the newest 200 tasks of shop.pay, what failed, was rejected or revoked, all open tasks",
        ),
    ],
)
def test_the_narrowest_index_is_searched(words: list[str], searched: str) -> None:
    """Given a question, it is looked at in the smallest index that has all that match."""
    assert find(Asked(task("t1", State.FAILURE)), *words).searched == searched


@pytest.mark.parametrize("words", [["queue="], ["queue=,mail"]])
def test_what_waits_in_an_unknown_queue_is_found(words: list[str]) -> None:
    """Given producers that send no task-sent, the tasks that a worker has received are found by that they lack it."""
    kept = Asked(task("r", State.RECEIVED, queue=None), task("m", State.RECEIVED, queue="other"))

    assert ids(find(kept, "state=SENT,RECEIVED", *words)) == ["r"]


@pytest.mark.parametrize(
    ("words", "found"), [(["parent="], ["top"]), (["root="], ["lone"]), (["root=", "parent=top"], ["lone"])]
)
def test_tasks_without_a_parent_or_a_root_are_found(words: list[str], found: list[str]) -> None:
    """Given a filter for tasks that have none, those are found, wherever they are in a tree."""
    top, lone = task("top", State.FAILURE), task("lone", State.FAILURE, root_id=None, parent_id="top")
    child = task("child", State.FAILURE, root_id="top", parent_id="top")

    answer = find(Asked(top, lone, child), "state=FAILURE", *words)

    assert (ids(answer), answer.gaps) == (found, [])


def test_no_more_is_read_than_is_needed() -> None:
    """Given many failures and many names, the newest few are found by reading about as many records."""
    failed = Asked(*(task(f"t{number}", State.FAILURE, at=NOW - 10 * number) for number in range(5000)))
    named = Asked(*(task(f"t{number}", at=NOW - 10 * number, name=f"n{number % 100}") for number in range(5000)))

    assert ids(find(failed, "state=FAILURE", limit=3)) == ["t0", "t1", "t2"]
    assert failed.read <= 1000
    assert ids(find(named, limit=3)) == ["t0", "t1", "t2"]
    assert named.read <= 300


def test_few_records_are_read_where_many_match() -> None:
    """Given many open tasks and many names, the newest few of them, of a worker, or of those that have been running for
    long, are found by reading a small part of the records."""
    states = (State.SENT, State.STARTED)
    opened = [task(f"t{number}", states[number % 2], at=NOW - number) for number in range(6_000)]
    workers = [
        task(f"t{number}", at=NOW - number, name=f"n{number % 100}", worker=f"w{number % 7}") for number in range(6_000)
    ]

    newest = Asked(*opened)
    assert ids(find(newest, "state=open", limit=3)) == ["t0", "t1", "t2"]
    assert newest.read <= 1000
    running = Asked(*opened)
    assert ids(find(running, "state=STARTED", "runtime>1h", limit=3)) == ["t3603", "t3605", "t3607"]
    assert running.read <= 1000
    of_worker = Asked(*workers)
    assert ids(find(of_worker, "worker=w3", limit=3)) == ["t3", "t10", "t17"]
    assert of_worker.read <= 1000


@pytest.mark.thorough
def test_no_record_is_read_twice() -> None:
    """Given tasks of many names and of one, each record is read once at most; where the newest tasks are spread over
    the names, few more than two of each are read, and of a single name all that are shown at once.
    """
    spread = [task(f"t{number}", at=NOW - number, name=f"n{number % 500}") for number in range(5000)]
    many, one = Asked(*spread), Asked(*(task(f"t{number}", at=NOW - number) for number in range(150)))

    assert len(find(many, "state=SUCCESS", limit=0).tasks) == many.read == 5000
    assert len(find(one, "state=SUCCESS", limit=0).tasks) == one.read == 150
    many.read = 0
    assert ids(find(many, "state=SUCCESS", limit=400))[-1] == "t399"
    assert many.read <= 1200


def test_a_name_with_more_tasks_than_are_kept_is_told() -> None:
    """Given 300 tasks of a name, the newest are listed without a gap, and whoever asks for more is told since when all
    are there; those that failed before are found all the same."""
    old = task("old", State.FAILURE, at=NOW - 9000)
    asked = Asked(*(task(f"t{number}", at=NOW - 10 * number) for number in range(300)), old)

    assert find(asked, "name=shop.pay", limit=100).gaps == []
    found = find(asked, "name=shop.pay", limit=0)
    assert found.gaps == [Gap("succeeded tasks of shop.pay beyond the newest 200", 0, NOW - 1990)]
    assert ids(found)[-2:] == ["t199", "old"]


def test_names_for_which_there_was_no_room() -> None:
    """Given as many names as are kept, whoever asks for others is told that they may be missing."""
    many = Asked(*(task(f"t{number}", name=f"n{number}") for number in range(2000)))
    gap = Gap("tasks of names beyond the first 2000 that were seen", 0, 0)

    assert find(many).gaps == [gap]
    assert find(many, "name=other").gaps == [gap]
    assert find(many, "name=n7").gaps == []


def test_open_tasks_are_not_always_kept() -> None:
    """Given instances without `stuck.enabled`, no list of open tasks is called complete."""
    search = Search(Asked(task("t1", State.SENT)), TurnedClock(), keeps_open=False)

    found = search.find(parse_filter(["state=open"], NOW), 20)

    assert [gap.what for gap in found.gaps] == ["open tasks: they are not kept, since stuck.enabled is false"]


def test_children_of_a_task_whose_tree_is_not_known_may_be_missing() -> None:
    """Given a parent of which no root is known, since nothing or only a part of it is kept, the answer says so; with a
    root it is complete."""
    asked = Asked(task("a", root_id="r"), task("b", root_id=None), task("c", root_id="r", parent_id="a"))

    assert [ids(find(asked, f"parent={parent}")) for parent in ("a", "b", "none")] == [["c"], [], []]
    assert find(asked, "parent=a").gaps == []
    assert [gap.what for gap in find(asked, "parent=b,none").gaps] == [
        "children of b, if that is no root: its own root is not known",
        "children of none, if that is no root: its own root is not known",
    ]


def test_details_that_are_not_kept_any_more_may_match() -> None:
    """Given a task that shrank, an answer by its arguments says that it may lack it; one by its name lacks nothing."""
    asked = Asked(task("r"), task("s", root_id=None, shrunk=True))

    assert [gap.what for gap in find(asked, "task_id=r,s", "arg~x").gaps] == [
        "1 task whose arguments, root and parent are no longer kept (store.detail_ttl)"
    ]
    assert find(asked, "name=shop.pay").gaps == []


def test_a_loss_is_told_under_what_it_touches() -> None:
    """Given a loss an hour ago, an answer about that time says so, and one about the last minutes does not."""
    gap = Gap("12 starts of celery@app3", NOW - 3600, NOW - 3500)
    asked = Asked(task("t1", State.FAILURE), gaps=[gap])

    assert find(asked, "state=FAILURE", "since=-2h").gaps == [gap]
    assert find(asked, "state=FAILURE", "since=-5m").gaps == []
    assert find(asked, "state=FAILURE", "until=-2h").gaps == []


def test_a_search_stops_at_its_time() -> None:
    """Given more open tasks than can be read in time, the search stops, and says that it did not look at all."""

    class Slow(Asked):
        def tasks(self, ids: Any, texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
            clock.now += 0.9
            return super().tasks(ids, texts)

    clock = TurnedClock()
    asked = Slow(*(task(f"t{number}", State.SENT) for number in range(9000)))

    found = Search(asked, clock).find(parse_filter(["state=open"], NOW), 0)

    assert len(found.tasks) == 3000
    assert asked.read == 3000
    assert [gap.what for gap in found.gaps] == ["all open tasks: only 3,000 looked at within 2 s"]


def test_other_orders() -> None:
    """Given a field to sort by, the largest comes first, what has no value last; reversed, the smallest; texts go by
    the alphabet."""
    asked = Asked(task("a", runtime=2.0, name="x"), task("b", runtime=9.0, name="z"), task("c", runtime=None, name="y"))

    assert ids(find(asked, order=Order("runtime"))) == ["b", "a", "c"]
    assert ids(find(asked, order=Order("runtime", reverse=True))) == ["a", "b", "c"]
    assert ids(find(asked, order=Order("name"))) == ["a", "c", "b"]
    assert ids(find(asked, order=Order("name", reverse=True))) == ["b", "c", "a"]


def test_the_oldest_first() -> None:
    """Given a reversed order, the oldest of all come first, not the newest in another order."""
    asked = Asked(*(task(f"t{number}", State.SENT, at=NOW - 10 * number) for number in range(50)))

    assert ids(find(asked, "state=open", limit=2, order=Order(reverse=True))) == ["t49", "t48"]


@pytest.mark.parametrize("words", [["state=SENT"], ["name="], ["task_id=t1"], ["worker=celery@a"]])
def test_a_task_whose_name_never_came_is_found(words: list[str]) -> None:
    """Given an open task without a name, it is found by its state and by what else is known of it."""
    assert ids(find(Asked(task("t1", State.SENT, name=None)), *words)) == ["t1"]


def test_a_record_that_expired_is_skipped() -> None:
    """Given an id in an index whose record is gone, the rest is listed."""

    class Expired(Asked):
        def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
            yield OpenPage(["gone"], NOW + 60)
            yield from super().newest_open(until, running=running)

    assert ids(find(Expired(task("t1", State.SENT)), "state=open")) == ["t1"]
