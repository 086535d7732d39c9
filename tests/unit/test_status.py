"""What `ha-monitor status` makes of the shared record."""

from __future__ import annotations

import pytest

from ha_monitor.config.schema import Config
from ha_monitor.pipeline.stats import Stats
from ha_monitor.status.fleet import Fleet, Queue, assemble
from ha_monitor.status.render import render
from ha_monitor.store.reader import Counts, InstanceEntry, WorkerEntry
from ha_monitor.store.reader import Workers as WorkerEntries
from tests.unit.builders import TIME, decode, event

NOW = 1_800_000_000.0
NONE = Counts(waiting=0, retries=0, dead_letters=0, rejected=0, takeovers=0, stuck=0, orphaned=0)


def instance(name: str, *, lease_left: float = 4.0, leads: bool = False, new: int = 10) -> InstanceEntry:
    who = {"instance": name, "host": "mon1", "pid": 7, "version": "1", "started": NOW - 60}
    return InstanceEntry(1, lease_left, who, {"state": "consuming", "new": new}, 0.5, 0, leads)


def worker(name: str, *, silent: float = 1.0, state: str = "online") -> WorkerEntry:
    return WorkerEntry(name, silent, {"active": 2, "processed": 40}, state)


def fleet(
    *,
    instances: tuple[InstanceEntry, ...] = (),
    workers: tuple[WorkerEntry, ...] = (),
    more: int = 0,
    counts: Counts = NONE,
) -> Fleet:
    return assemble(
        Config(),
        now=NOW,
        instances=list(instances),
        workers=WorkerEntries(list(workers), more),
        counts=counts,
        queue=Queue("celeryev.x", 3, 2),
    )


def test_who_leads_and_who_is_dead() -> None:
    """Given a leader, another instance, and one whose lease ran out while it led, only the first leads."""
    found = fleet(instances=(instance("1", leads=True), instance("2"), instance("3", lease_left=-1, leads=True)))

    assert [(one.instance, one.state, one.leads) for one in found.instances] == [
        ("1", "consuming", True),
        ("2", "consuming", False),
        ("3", "dead", False),
    ]
    assert [one.share for one in found.instances] == [0.5, 0.5, 0.0]


def test_what_a_person_reads() -> None:
    """Given a fleet, the text has a row for each instance and worker, and the counts of what needs attention."""
    counts = NONE._replace(stuck=2, orphaned=1, dead_letters=4)
    lines = render(
        fleet(
            instances=(instance("1", leads=True),),
            workers=(worker("celery@app1", silent=70, state="lost"),),
            counts=counts,
        )
    )

    assert lines[0] == "ha-monitor  queue celeryev.x: 3 messages, 2 consumers"
    assert lines[3].split()[:5] == ["1", "mon1", "7", "consuming,", "leads"]
    assert lines[6].split()[:2] == ["celery@app1", "lost"]
    assert lines[8] == "stuck tasks 2   orphaned tasks 1"
    assert lines[9] == "waiting announcements 0   handler retries 0   dead letters 4   rejected 0   takeovers 0"


def test_the_lag_is_by_no_wrong_clock() -> None:
    """Given an event of a sender whose clock is two hours behind, the lag is not larger than the time since the queue
    was empty; with a backlog it is the age of the newest event.
    """
    stats = Stats()
    batch = decode(event("worker-heartbeat", at=TIME - 7200))
    stats.add_batch(batch, new=1, repeated=0, waiting=0, now=TIME)
    assert stats.lag == 7200
    stats.empty_at = TIME - 3
    stats.add_batch(batch, new=1, repeated=0, waiting=0, now=TIME)
    assert stats.lag == 3


def test_a_worker_that_sends_no_task_events_is_marked() -> None:
    """Given workers of which one sends task events, one none of its runs, and one has run nothing, only the second is
    marked.
    """
    entries = (
        worker("a@1")._replace(sends=True),
        worker("b@1")._replace(unsent=3),
        worker("c@1"),
    )
    found = fleet(workers=entries)

    assert [one.task_events for one in found.workers] == [True, False, None]
    assert [line for line in render(found) if "no task events" in line] == [
        line for line in render(found) if line.startswith("b@1")
    ]


def test_more_workers_than_are_shown() -> None:
    """Given more workers than were read, the table ends with how many there are beside them."""
    found = fleet(workers=(worker("a@1"),), more=99_000)

    assert found.more_workers == 99_000
    assert "… and 99000 more workers" in render(found)
    assert "more workers" not in render(fleet(workers=(worker("a@1"),)))


@pytest.mark.parametrize("value", ["x", None, [], float("inf"), float("nan"), -1])
def test_a_broken_counter_of_an_instance_breaks_its_row_only(value: object) -> None:
    """Given an instance whose entry has values that are no numbers, its row shows 0 and the other's what it says."""
    broken = InstanceEntry(
        1,
        4.0,
        {"pid": value, "started": value},
        dict.fromkeys(("new", "events", "lag", "last_event"), value),
        0,
        0,
        False,
    )
    rows = fleet(instances=(instance("1"), broken)).instances

    assert {one.instance: (one.share, one.events, one.lag) for one in rows} == {"1": (1.0, 0, 0.0), "?": (0.0, 0, 0.0)}
    assert render(fleet(instances=(broken,)))


@pytest.mark.parametrize("value", [3e11, 1e14, "x", 0])
def test_a_time_that_is_none_is_left_out(value: object) -> None:
    """Given an instance whose latest event was in a year that no calendar has, or at no time, there is none."""
    broken = InstanceEntry(1, 4.0, {}, {"last_event": value}, 0, 0, False)

    assert [one.last_event for one in fleet(instances=(broken,)).instances] == [None]


def test_who_sees_no_instance_is_told_where_the_address_comes_from() -> None:
    """Given a store without instances, the row says where its URL comes from: it may be another store than theirs."""
    assert "no instance has started yet (store.url is the default)" in render(
        fleet(instances=()), "store.url is the default"
    )
