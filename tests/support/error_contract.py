"""What groups of errors have in every implementation of the store."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ha_monitor.events.decode import Batch
from ha_monitor.store.error_groups import HOURS, LEARNING, MAX_TASKS, ErrorGroup, GroupState
from tests.support.machine import patient
from tests.support.store_contract import Bed, merge, started, tick, told
from tests.unit.builders import decode, event

LINE = 'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line {}, in charge\nshop.{}: no\n'
HOUR = 3600.0
ENDS_WITHIN = 3.0
"""Seconds that a test takes at most on an idle machine."""


def failure(task_id: str, number: int = 1, *, at: float, kind: str = "Declined", **changes: Any) -> dict[str, Any]:
    """A failure whose text has a number in it."""
    own = {"exception": f"{kind}('order {number}')", "traceback": LINE.format(number, kind)}
    return event("task-failed", uuid=task_id, at=at, **(own | changes))


def retry(task_id: str, number: int = 1, *, at: float, **changes: Any) -> dict[str, Any]:
    return failure(task_id, number, at=at, type="task-retried", **changes)


def named(task_id: str, name: str = "shop.charge", *, at: float) -> dict[str, Any]:
    return event("task-received", uuid=task_id, at=at, name=name)


def batch_of(*events: dict[str, Any]) -> Batch:
    return decode(*events)


def groups(bed: Bed) -> list[ErrorGroup]:
    """All of them, the one that was seen last first."""
    queries = bed.queries()
    return [group for group in queries.error_groups(queries.error_ids()) if group is not None]


def early_enough(bed: Bed) -> float:
    """The time of the record, when the hour of its clock does not end within a test: failures are counted by it."""
    left = HOUR - bed.now() % HOUR
    if left < patient(ENDS_WITHIN):
        bed.pass_time(left)
    return bed.now()


def lasting(group: ErrorGroup) -> tuple[Any, ...]:
    """All of a group but how long ago it was."""
    return group._replace(by_hour=())


class ErrorContract:
    """Inherit it beside a fixture `bed`."""

    def test_errors_of_one_kind_are_one_group(self, bed: Bed) -> None:
        """Given failures and a retry of two kinds at two tasks' names, each group has its counts, its times, its latest
        tasks and the latest text; and the records of the tasks name it."""
        one, now = started(bed), early_enough(bed)
        events = [named(f"t{n}", at=now - 100 + n) for n in range(3)]
        events += [failure(f"t{n}", n, at=now - 50 + n) for n in range(3)]
        events += [retry("t0", 9, at=now - 60), named("o", "other", at=now - 20), failure("o", 5, at=now - 10)]
        items = merge(one, batch_of(*events))

        other, charge = groups(bed)
        assert [group.name for group in (other, charge)] == ["other", "shop.charge"]
        assert (charge.error_class, charge.place) == ("Declined", "shop/tasks.py:charge")
        assert (charge.failures, charge.retries, sum(charge.by_hour)) == (3, 1, 3)
        assert (charge.first, charge.last) == (pytest.approx(now - 60), pytest.approx(now - 48))
        assert [task.task_id for task in charge.tasks] == ["t2", "t1", "t0"]
        assert charge.message == "Declined('order 2')"
        assert charge.traceback == LINE.format(2, "Declined")
        bed.let_wait_end()  # no start is known
        items += tick(one, eligible=True).items
        records = [told(item) for item in items if item.entry.event.type == "task-failed"]
        assert [record.error_group for record in records if record.name == "shop.charge"] == [charge.id] * 3
        assert [record.retry_error_groups for record in records if record.task_id == "t0"] == [[charge.id]]
        assert bed.queries().error_groups([charge.id, "0" * 10]) == [charge, None]
        assert bed.queries().error_ids(charge.id[:4]) == [charge.id]

    def test_any_order_and_repetition_gives_the_same_groups(self, bed: Bed) -> None:
        """Given errors of tasks over two days, in any order, in any batches, at two instances and all of them twice,
        the groups are the same."""
        now = bed.now()
        chance = random.Random(7)
        events = []
        for n in range(40):
            at = now - n * HOUR - 60
            events += [named(f"t{n}", f"name{n % 2}", at=at - 3), retry(f"t{n}", n, at=at - 2)]
            events += [failure(f"t{n}", n, at=at, kind=chance.choice(["Declined", "Late"]))]
        found = []
        for number in range(3):
            bed.delete_all()
            one, two = started(bed), started(bed)
            todo = events * (1 + number)
            if number:
                chance.shuffle(todo)
            size = (200, 7, 3)[number]
            for start in range(0, len(todo), size):
                merge((one, two)[start % 2], batch_of(*todo[start : start + size]))
            found.append([lasting(group) for group in groups(bed)])

        assert len(found[0]) == 4
        assert sum(group[5] for group in found[0]) == sum(group[6] for group in found[0]) == 40
        assert found[1] == found[0]
        assert found[2] == found[0]

    def test_an_error_waits_for_the_name_of_its_task(self, bed: Bed) -> None:
        """Given a failure and a retry before their task's name, they are in its group once that comes; one whose task
        has no name at the end of the wait is in a group without."""
        one, now = started(bed), bed.now()
        merge(one, batch_of(failure("a", 1, at=now - 9), retry("a", 2, at=now - 10), failure("b", 3, at=now - 8)))
        assert groups(bed) == []

        merge(one, batch_of(named("a", at=now - 20)))
        (charge,) = groups(bed)
        assert (charge.name, charge.failures, charge.retries) == ("shop.charge", 1, 1)
        assert charge.traceback == LINE.format(1, "Declined")
        bed.let_wait_end()
        tick(one, eligible=True)

        assert {(group.name, group.failures) for group in groups(bed)} == {
            ("unknown", 1),
            ("shop.charge", 1),
        }

    def test_a_group_is_bounded(self, bed: Bed) -> None:
        """Given a long series of errors with long texts, a group has its latest tasks, the hours of a day, and the end
        of a traceback, from the beginning of a line."""
        one, now = started(bed), early_enough(bed)
        long = "Traceback (most recent call last):\n" + '  File "/srv/é.py", line 1, in f\n' * 150 + "E: x"
        events = [
            each
            for n in range(50)
            for each in (named(f"t{n}", at=now - n * HOUR), failure(f"t{n}", at=now - n * HOUR, traceback=long))
        ]
        for at in range(0, len(events), 20):  # fewer than one call leaves to the next, since their texts are long
            merge(one, batch_of(*events[at : at + 20]))

        (group,) = groups(bed)
        assert [task.task_id for task in group.tasks] == [f"t{n}" for n in range(MAX_TASKS)]
        assert group.failures == 50
        assert (len(group.by_hour), sum(group.by_hour)) == (HOURS, HOURS)
        assert len(group.traceback.encode()) <= 4096
        assert group.traceback.startswith("  File ") and group.traceback.endswith("E: x")

    def test_what_a_person_says_of_a_group(self, bed: Bed) -> None:
        """Given a group that is resolved, it is so until it comes again; ignored, until that time is over; reopened, as
        if nothing had been said. No lease is needed, and what is said of no group is told."""
        one, now = started(bed), bed.now()
        merge(one, batch_of(named("a", at=now - 90), failure("a", at=now - 60)))
        errors = bed.error_marks()
        (key,) = bed.queries().error_ids()

        def state() -> GroupState | None:
            (group,) = groups(bed)
            return group.state

        assert state() is GroupState.KNOWN
        assert errors.resolve(key) and state() is GroupState.RESOLVED
        merge(one, batch_of(named("b", at=now - 80), failure("b", at=now - 70)))  # from before
        assert state() is GroupState.RESOLVED
        bed.let_time_pass(30)
        now = bed.now()
        merge(one, batch_of(named("c", at=now - 20), failure("c", at=now - 10)))
        assert state() is GroupState.REGRESSED
        assert errors.ignore(key, 600) and state() is GroupState.IGNORED
        bed.let_time_pass(601)
        assert state() is GroupState.REGRESSED
        assert errors.resolve(key) and state() is GroupState.RESOLVED
        assert errors.reopen(key) and state() is GroupState.KNOWN
        (group,) = groups(bed)
        assert (group.failures, group.resolved_at, group.ignored_until) == (3, None, None)
        assert [errors.resolve("none"), errors.ignore("none", 5), errors.reopen("none")] == [False] * 3

    def test_nothing_is_new_in_a_store_that_was_empty(self, bed: Bed) -> None:
        """Given an empty store, what comes in its first ten minutes is known; what comes first after them is
        new."""
        one, now = started(bed), bed.now()
        merge(one, batch_of(named("a", at=now - 702), failure("a", at=now - 700)))
        bed.let_time_pass(LEARNING + 60)
        now = bed.now()
        merge(one, batch_of(named("b", at=now - 2), failure("b", at=now - 1, kind="Late")))

        assert {group.error_class: group.state for group in groups(bed)} == {
            "Declined": GroupState.KNOWN,
            "Late": GroupState.NEW,
        }
