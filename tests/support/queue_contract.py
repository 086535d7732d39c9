"""What is kept of queues in every implementation of the store."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from ha_monitor.store.queue_flow import QueueFlow, QueueWait
from tests.support.store_contract import WATCHING, Bed, merge, started, tick
from tests.unit.builders import decode, event

MINUTE, HOUR = 60.0, 3600.0


def sent(task_id: str, *, at: float, queue: str | None = "mail", eta: float | None = None, **changes: Any) -> Any:
    due = None if eta is None else datetime.fromtimestamp(eta, UTC).isoformat()
    return event("task-sent", uuid=task_id, at=at, queue=queue, eta=due, **changes)


def of_task(kind: str, task_id: str, *, at: float, **changes: Any) -> dict[str, Any]:
    return event(f"task-{kind}", uuid=task_id, at=at, **changes)


def flow(bed: Bed, queue: str, since: float, until: float) -> QueueFlow:
    (found,) = bed.queries().queue_flow([queue], since, until)
    return found


class QueueContract:
    """Inherit it beside a fixture `bed`."""

    def test_what_waits_in_a_queue(self, bed: Bed) -> None:
        """Given tasks that were sent, one of them with an eta to come, one with an eta that came, and one that runs,
        those that may start wait, the oldest since it could; queues are known by what is sent there, and by the workers
        that consume them."""
        one, now = started(bed), bed.now()
        merge(one, decode(sent("a", at=now - 30), sent("b", at=now - 90, eta=now - 20), sent("c", at=now - 50)))
        merge(one, decode(of_task("started", "c", at=now - 10), sent("d", at=now - 99, eta=now + 900)))
        merge(one, decode(sent("e", at=now - 5, queue="push"), of_task("received", "f", at=now - 5)))
        tick(one, eligible=True)
        one.duties.watch(WATCHING, ["mail", "idle"], may_declare_lost=False)

        mail, none, push = bed.queries().queue_waits(["mail", "none", "push"])
        assert (mail.waiting, round(now - (mail.oldest or 0)), mail.later) == (2, 30, 1)
        assert none == QueueWait(0, None, 0)
        assert (push.waiting, push.later) == (1, 0)
        known = bed.queries().known_queues()
        assert [(queue.name, queue.has_producers) for queue in known] == [
            ("idle", False),
            ("mail", True),
            ("push", True),
        ]
        assert [queue.consumed_at is not None for queue in known] == [True, True, False]

    def test_what_came_and_left_by_minute(self, bed: Bed) -> None:
        """Given tasks that are sent, started, ended, retried, put back and revoked, each queue has for each minute what
        came and left; a task with an eta comes when that does, and one whose queue is not known is in none."""
        one = started(bed)
        at = bed.now() // 60 * 60 - 600
        merge(one, decode(sent("a", at=at + 1), sent("b", at=at + 2, eta=at + 61), sent("c", at=at + 3, queue="push")))
        merge(one, decode(of_task("started", "a", at=at + 5), of_task("succeeded", "a", at=at + 7, runtime=2.0)))
        merge(one, decode(of_task("started", "b", at=at + 62), of_task("retried", "b", at=at + 63)))
        merge(one, decode(sent("b", at=at + 63, retries=1), of_task("received", "b", at=at + 64, retries=1)))
        merge(one, decode(of_task("started", "b", at=at + 121), of_task("failed", "b", at=at + 125)))
        merge(one, decode(of_task("revoked", "c", at=at + 9)))
        merge(one, decode(of_task("started", "d", at=at + 9)))
        merge(one, decode(sent("e", at=at + 1), of_task("started", "e", at=at + 2)))
        merge(one, decode(of_task("rejected", "e", at=at + 3, requeue=True), of_task("started", "e", at=at + 4)))

        assert flow(bed, "mail", at, at + 60) == QueueFlow(3, 3, 1, 2.0)
        assert flow(bed, "mail", at + 60, at + 120) == QueueFlow(2, 1, 0, 0.0)
        assert flow(bed, "mail", at + 120, at + 180) == QueueFlow(0, 1, 1, 4.0)
        assert flow(bed, "mail", at, bed.now()) == QueueFlow(5, 5, 2, 6.0)
        assert flow(bed, "push", at, bed.now()) == QueueFlow(1, 1, 0, 0.0)
        assert flow(bed, "none", at, bed.now()) == QueueFlow(0, 0, 0, 0.0)
        # The same by time, at one go; what lies outside of what is kept is nothing.
        bounds = [at - 10 * HOUR, at - 9 * HOUR, at, at + 60, at + 120, at + 180]
        by_time = bed.queries().queue_flow_by(["push", "mail"], bounds)
        assert by_time == [
            [flow(bed, name, since, until) for since, until in pairwise(bounds)] for name in ("push", "mail")
        ]
        assert [one.came for one in by_time[1]] == [0, 0, 3, 2, 0]

    def test_any_order_and_repetition_gives_the_same_flow(self, bed: Bed) -> None:
        """Given the events of many tasks in any order, in any batches, at two instances and all of them twice, each
        minute has what the events themselves say."""
        chance = random.Random(5)
        begin = bed.now() // 60 * 60 - 40 * MINUTE
        events: list[dict[str, Any]] = []
        came: Counter[int] = Counter()
        left: Counter[int] = Counter()
        took = 0.0
        for number in range(40):
            task_id, at = f"t{number}", begin + chance.random() * 30 * MINUTE
            events += [sent(task_id, at=at), of_task("received", task_id, at=at + 1)]
            came[int(at // 60)] += 1
            for attempt in range(1, 1 + number % 4):
                events += [of_task("started", task_id, at=at + 5), of_task("retried", task_id, at=at + 6)]
                events += [sent(task_id, at=at + 5.5, retries=attempt)]
                events += [of_task("received", task_id, at=at + 50, retries=attempt)]
                came[int((at + 5.5) // 60)] += 1
                left[int((at + 5) // 60)] += 1
                at += 60
            events += [of_task("started", task_id, at=at + 5), of_task("succeeded", task_id, at=at + 9, runtime=4.0)]
            left[int((at + 5) // 60)] += 1
            took += 4.0
        for repeated in range(3):
            bed.delete_all()
            one, two = started(bed), started(bed)
            todo = events * (1 + repeated % 2)
            if repeated:
                chance.shuffle(todo)
            size = (20, 5, 1)[repeated]
            for first in range(0, len(todo), size):
                merge((one, two)[first // size % 2], decode(*todo[first : first + size]))

            found = {}
            for minute in range(int(begin // 60), int(bed.now() // 60)):
                found[minute] = flow(bed, "mail", minute * 60, minute * 60 + 60)
            assert {minute: one.came for minute, one in found.items() if one.came} == dict(came)
            assert {minute: one.left for minute, one in found.items() if one.left} == dict(left)
            total = flow(bed, "mail", begin, bed.now())
            assert (total.ended, total.run_time) == (40, took)

    def test_what_lies_outside_of_what_is_kept_counts_nowhere(self, bed: Bed) -> None:
        """Given a task that was sent a day ago, and one whose eta comes tomorrow, neither is counted; a start that is
        still to come by the record's clock counts as now."""
        one, now = started(bed), bed.now()
        merge(one, decode(sent("a", at=now - 24 * HOUR), sent("b", at=now, eta=now + 24 * HOUR)))
        merge(one, decode(sent("c", at=now), of_task("started", "c", at=now + HOUR)))

        assert flow(bed, "mail", now - 25 * HOUR, now + 25 * HOUR) == QueueFlow(1, 1, 0, 0.0)
        assert flow(bed, "mail", now - 120, now + 120).left == 1
