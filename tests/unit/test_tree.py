"""A workflow as a tree, and what took its time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_monitor.events.catalogue import State
from ha_monitor.query.tree import branches, build, critical_path
from ha_monitor.store.queries import KeptTask
from tests.unit.asked import NOW, task


def of(name: str, parent: str | None = None, *, at: float = 0.0, state: State = State.SUCCESS) -> KeptTask:
    return task(name, state, at=NOW - 1000 + at, parent_id=parent, root_id="root", name=f"shop.{name}")


def drawn(*tasks: KeptTask, root: str = "root") -> list[tuple[int, str]]:
    return [(one.depth, one.tasks[0].record.task_id) for one in branches(build(root, tasks))]


def test_a_tree_in_the_order_of_sending() -> None:
    """Given tasks with parents, each is below its own, and those of one parent are in the order of their sending."""
    assert drawn(of("root"), of("b", "root", at=2), of("a", "root", at=1), of("c", "a", at=3)) == [
        (0, "root"),
        (1, "a"),
        (2, "c"),
        (1, "b"),
    ]


def test_two_tasks_that_are_each_others_parents() -> None:
    """Given a task that replaced itself by a chain, so that two name each other, the one sent earlier hangs under the
    root, and the other below it."""
    tasks = of("root"), of("late", "early", at=5), of("early", "late", at=1)

    assert drawn(*tasks) == [(0, "root"), (1, "early"), (2, "late")]


def test_a_root_that_names_itself() -> None:
    """Given a retried root, which names itself as its parent, it has none."""
    assert drawn(of("root", "root"), of("a", "root", at=1)) == [(0, "root"), (1, "a")]


def test_an_unknown_parent() -> None:
    """Given a task whose parent is unknown, it hangs under the root; without a root nothing is lost either."""
    assert drawn(of("root"), of("a", "gone", at=1)) == [(0, "root"), (1, "a")]
    assert drawn(of("a", "gone"), of("b", "a", at=1)) == [(0, "a"), (1, "b")]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 50)), max_size=12))
def test_whatever_the_parents_are_each_task_is_there_once(edges: list[tuple[int, int]]) -> None:
    """Given any parents at all, every task is drawn exactly once."""
    tasks = [of("root"), *(of(f"t{number}", f"t{parent}", at=at) for number, (parent, at) in enumerate(edges))]

    assert sorted(name for _, name in drawn(*tasks)) == sorted(one.record.task_id for one in tasks)
    assert critical_path(build("root", tasks), NOW)


def test_a_large_tree_is_folded_by_name() -> None:
    """Given more than 1,000 tasks, those of one name with one parent are one row, with what is below them."""
    many = [task(f"t{n}", at=NOW - 900, parent_id="root", root_id="root", name="shop.item") for n in range(1200)]
    below = task("x", at=NOW - 800, parent_id="t3", root_id="root", name="shop.mail")

    rows = branches(build("root", [of("root"), *many, below]))

    assert [(one.depth, len(one.tasks), one.below) for one in rows] == [(0, 1, 0), (1, 1200, 1)]


def test_a_deep_chain_is_no_recursion() -> None:
    """Given a chain of 5,000 tasks, it is drawn."""
    chain = [task(f"t{n}", at=NOW - 5000 + n, parent_id=f"t{n - 1}", root_id="t0", name=f"n{n}") for n in range(5000)]

    assert len(drawn(*chain, root="t0")) == 5000


def test_the_critical_path_leads_to_the_last_end() -> None:
    """Given a chain beside a short task, the path is the chain, and tells waiting from running."""
    tasks = [
        task("root", at=NOW - 100, root_id="root"),
        task("slow", at=NOW - 90, root_id="root", parent_id="root", started=NOW - 80, finished=NOW - 20),
        task("quick", at=NOW - 90, root_id="root", parent_id="root"),
        task("last", at=NOW - 19, root_id="root", parent_id="slow", started=NOW - 18, finished=NOW - 1),
    ]

    path = critical_path(build("root", tasks), NOW)

    assert [leg.task.record.task_id for leg in path] == ["root", "slow", "last"]
    assert [(leg.waited, leg.ran) for leg in path[1:]] == [(10.0, 60.0), (1.0, 17.0)]
    assert [leg.before for leg in path] == [0.0, 7.0, 1.0]


def test_the_path_of_a_workflow_under_way_leads_to_what_is_waited_for() -> None:
    """Given a workflow that is not finished, its path leads to the open task that was sent first, until now."""
    tasks = [
        task("root", at=NOW - 100, root_id="root"),
        task("runs", State.STARTED, at=NOW - 50, root_id="root", parent_id="root"),
        task("waits", State.SENT, at=NOW - 10, root_id="root", parent_id="root"),
    ]

    path = critical_path(build("root", tasks), NOW)

    assert [(leg.task.record.task_id, leg.waited, leg.ran) for leg in path[1:]] == [("runs", 2.0, 48.0)]
