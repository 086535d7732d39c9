"""What the loop leans on, as tests that every implementation of the store's port has to pass."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ha_monitor.errors import LeaseLost
from ha_monitor.events.catalogue import State
from ha_monitor.events.decode import Batch
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import Event
from ha_monitor.events.types import END_TYPES
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Definition, History, Judgement, Occurrence, Run, ScheduleState, Source
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.deliveries import Changes, Claim, DeliveryState, Part, Taken
from ha_monitor.store.error_groups import ErrorMarks
from ha_monitor.store.incidents import (
    MAX_MARKS,
    MAX_SILENCES,
    Incident,
    IncidentChanges,
    IncidentList,
    Mark,
    Marks,
    Notified,
    Phase,
    Severity,
    Silence,
    Silences,
)
from ha_monitor.store.outbox import OutboxItem, retry_entry
from ha_monitor.store.queries import Ended, KeptTask, Queries, StoryEvent
from ha_monitor.store.record import TaskRecord, record_at, state_of
from ha_monitor.store.results import OrphanedTask, Ticked, Watching
from ha_monitor.store.schedules import Coverage, KeptSchedules, KnownSource, ScheduleChanges, without_occurrences
from ha_monitor.store.tail import Tail
from tests.support import asked
from tests.support.merging import merged
from tests.unit.builders import TIME, TurnedClock, decode, event

LEASE = 100.0
DETAIL_TTL = 600.0
WATCHING = Watching(late_after=10.0, lost_after=60.0)


class Incidents(IncidentList, Silences, Marks, Protocol):
    """All that is kept about incidents, for whoever asks."""


class Bed(Protocol):
    """One shared record, and the passing of time in it."""

    clock: TurnedClock
    """That of all instances; the record's own need not follow it."""

    def record(self, *, name_wait: float = 0.0, detail_ttl: float = 0.0) -> SharedRecord:
        """The access of another instance, whose lease is `LEASE`."""

    def queries(self) -> Queries:
        """What can be asked of the record."""

    def let_lease_end(self, token: int) -> None:
        """As if the time of that lease were over."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in the record, too."""

    def let_wait_end(self) -> None:
        """As if the time of all that waits were over."""

    def let_details_expire(self) -> None:
        """As if `DETAIL_TTL` were over for all tasks."""

    def put_clock_back(self, seconds: float) -> None:
        """Put the record's own clock back; those of the instances go on."""

    def let_time_pass(self, seconds: float) -> None:
        """In the record and for all instances."""

    def keep(self) -> None:
        """Remember the record as it is now."""

    def put_back(self) -> None:
        """Have the record as it was then; nobody is told."""

    def delete_all(self) -> None:
        """Have an empty record; nobody is told."""

    def now(self) -> float:
        """The time of the record, seconds since the epoch."""

    def error_marks(self) -> ErrorMarks:
        """What a person says of groups of errors in the record."""

    def incidents(self) -> Incidents:
        """What is kept about incidents."""

    def schedules(self) -> KeptSchedules:
        """What is kept of schedules."""

    def tail(self) -> Tail:
        """One more reader of what the fleet announces."""

    def let_wish_end(self) -> None:
        """As if nobody had looked at the tail for long."""


def life(task_id: str, *, start: float = TIME, **changes: Any) -> list[dict[str, Any]]:
    kinds = ("task-received", "task-started", "task-succeeded")
    return [event(kind, uuid=task_id, at=start + number, **changes) for number, kind in enumerate(kinds)]


def told(item: OutboxItem) -> TaskRecord:
    """The record that a handler of the item gets."""
    assert item.entry.facts is not None
    return record_at(item.entry.event, item.entry.facts)


def types(items: list[OutboxItem]) -> list[str]:
    return [item.entry.event.type for item in items]


def started(bed: Bed, **changes: Any) -> SharedRecord:
    record = bed.record(**changes)
    record.store.dial().use()
    record.store.register({"instance": "1", "host": "host", "pid": 1})
    return record


def merge(record: SharedRecord, batch: Batch) -> list[OutboxItem]:
    return [item for applied in merged(record.store, batch) for item in applied.items]


def tick(record: SharedRecord, *rejected: bytes, eligible: bool = False, watermark_age: float | None = 0.0) -> Ticked:
    return record.store.tick(b"{}", list(rejected), eligible=eligible, watermark_age=watermark_age, requeued=False)


def claim_of(record: SharedRecord, incident: str = "i", number: int = 1) -> Claim:
    part = Part(incident, Phase.FIRING, number)
    return Claim(f"{incident}.chat.{number}", "chat", (part,), TIME, record.store.token)


def exchange(record: SharedRecord, **changes: Any) -> DeliveryState:
    state = record.deliveries.exchange(Changes(**changes))
    assert state is not None
    return state


def restored(record: SharedRecord) -> list[OutboxItem]:
    """What is announced when the instance has repeated all that the record lacks."""
    items = []
    while record.store.needs_restore:
        items += record.store.restore()
    return items


def taken_over(bed: Bed, by: SharedRecord) -> list[Ticked]:
    """Stay in contact for a whole lease, after which an instance may take over what others left."""
    ticks = [tick(by)]
    for _ in range(3):
        bed.clock.now += LEASE * 0.4
        ticks.append(tick(by))
    return ticks


def an_incident(incident_id: str) -> Incident:
    return Incident(
        *(incident_id, "worker-lost", f"celery@{incident_id}", Severity.PAGE, Phase.FIRING, TIME, TIME + 0.25, "lost"),
        facts={"tasks": 3, "name": None, "share": 0.1},
        members=(f"celery@{incident_id}", "celery@é\x1b"),
        born=TIME,
        opened=1,
    )


def opened(*ids: str) -> IncidentChanges:
    """The changes by which incidents begin to fire."""
    events = [Event("incident-opened", f"{one:0>24}", time=TIME, fields={"incident": one}) for one in ids]
    return IncidentChanges([an_incident(one) for one in ids], [], events)


def a_judgement(name: str = "nightly report", due_times: int = 2) -> Judgement:
    """A schedule that ran at all of its due times."""
    definition = Definition(
        name=name, task="shop.report", timetable="0 2 * * *", zone="Europe/Berlin", source=Source.CONF
    )
    occurrences = tuple(
        Occurrence(
            due=TIME + number, state=ScheduleState.ON_TIME, run=Run(task_id=f"t{number}", sent=TIME + number + 1)
        )
        for number in range(due_times)
    )
    history = History(
        name=name,
        timetable="0 2 * * *",
        zone="Europe/Berlin",
        since=TIME - 1,
        occurrences=occurrences,
        next_due=TIME + 60,
    )
    return Judgement(
        definition=definition, state=ScheduleState.ON_TIME, history=history, last=occurrences[-1], period=86400.0
    )


class StoreContract:
    """Inherit it beside a fixture `bed`."""

    def test_what_is_merged_is_announced_in_order_with_what_is_known(self, bed: Bed) -> None:
        """Given the events of a task, each is an item with a sequence number of its own and the facts until then."""
        one = started(bed)

        items = merge(one, decode(*life("a"), event("worker-heartbeat"), event("shop-closed", uuid=None)))

        assert types(items) == ["task-received", "task-started", "task-succeeded", "worker-heartbeat", "shop-closed"]
        assert [item.sequence for item in items] == [0, 1, 2, 3, 4]
        facts = items[2].entry.facts
        assert facts is not None
        assert (facts.name, state_of(facts), facts.started_count, facts.runtime) == ("shop.pay", State.SUCCESS, 1, 0.25)
        assert items[3].entry.facts is None

    def test_an_event_counts_once_whoever_merges_it(self, bed: Bed) -> None:
        """Given the same batch at two instances, the second brings nothing and says that all of it was there."""
        one, two = started(bed), started(bed)
        batch = decode(*life("a"), event("worker-heartbeat"), event("shop-closed", uuid=None))
        merge(one, batch)

        two.store.send_apply(batch)
        again = two.store.receive_apply()

        assert (again.items, again.new, again.repeated, again.merged) == ([], 0, 5, 1)

    @pytest.mark.parametrize("shrinks", [False, True])
    def test_a_record_that_shrank_recognises_what_it_had(self, bed: Bed, shrinks: bool) -> None:
        """Given a task that succeeded and whose details have expired, its events are recognised when they come again; a
        late one is announced once, with name, queue and state; and who asks is told that details are missing. All but
        that is as of a record that did not shrink."""
        one = started(bed, detail_ttl=DETAIL_TTL if shrinks else 0.0)
        bodies = life("a", root_id="root", parent_id="parent")
        sent = event("task-sent", uuid="a", at=TIME - 1, queue="mail", root_id="root", parent_id="parent")
        merge(one, decode(*bodies))
        bed.let_details_expire()

        again = merge(one, decode(*bodies))
        late = merge(one, decode(sent, sent))
        bed.let_details_expire()

        assert (again, types(late)) == ([], ["task-sent"])
        facts = late[0].entry.facts
        assert facts is not None
        assert (facts.name, facts.queue, facts.started_count, facts.root_id) == (
            *("shop.pay", "mail", 1),
            None if shrinks else "root",
        )
        assert (state_of(facts), late[0].entry.incomplete) == (State.SUCCESS, False)
        assert merge(one, decode(sent, *bodies)) == []
        (task,) = bed.queries().tasks(["a"])
        assert task is not None
        assert (task.shrunk, task.complete, task.record.state) == (shrinks, True, State.SUCCESS)
        assert [one.type for one in task.story] == ["task-sent", "task-received", "task-started", "task-succeeded"]
        assert (task.record.parent_id, task.record.queue) == (None if shrinks else "parent", "mail")
        assert bed.queries().children("root", 10) == ["a"]

    def test_batches_are_merged_in_the_order_in_which_they_were_sent(self, bed: Bed) -> None:
        """Given several batches that are in flight, and another call behind them, each is answered in its turn, and
        what was announced meanwhile is known."""
        one = started(bed)
        first = merge(one, decode(event("shop-closed", uuid=None)))
        for body in life("a"):
            one.store.send_apply(decode(body))
        one.store.announced(first[-1].sequence + 1)
        one.store.flush()
        assert one.store.answers_within(60)
        items = [item for _ in range(3) for item in one.store.receive_apply().items]

        assert types(items) == ["task-received", "task-started", "task-succeeded"]
        assert [item.sequence for item in items] == [1, 2, 3]
        one.store.close()
        one.store.dial().use()
        assert [item.sequence for item in one.store.recover().items] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("behind", "every"),
        [(0.0, 1), (3600.0, 1), (0.0, 3 * 3600)],
        ids=["one clock", "clocks an hour apart", "an id that is used for five months"],
    )
    def test_no_event_of_a_task_with_many_is_lost_or_announced_twice(self, bed: Bed, behind: float, every: int) -> None:
        """Given 2,400 events of one task from two workers, however far apart their clocks are, and over however long a
        time, each is announced; and when all are delivered again, the latest first, none.
        """
        one, two = started(bed), started(bed)
        began = TIME - 1300 * (every - 1)
        sent = [event("task-received", at=began), event("task-started", at=began + 1)]
        for number in range(1200):
            at = began + 2 + number * every
            sent.append(event("task-progress", at=at, clock=number))
            sent.append(event("task-progress", at=at - behind, clock=number, hostname="celery@behind"))
        sent.append(event("task-failed", at=began + 1300 * every - behind, hostname="celery@behind"))
        pieces = [sent[first : first + 300] for first in range(0, len(sent), 300)]

        items = [item for number, piece in enumerate(pieces) for item in merge((one, two)[number % 2], decode(*piece))]
        items += tick(one).items + tick(two).items
        again = [item for piece in reversed(pieces) for item in merge(one, decode(*piece))]

        assert len({item.entry.event.id for item in items}) == len(items) == len(sent)
        assert again == []

    def test_the_lines_of_a_task_that_is_retried_very_often_are_complete(self, bed: Bed) -> None:
        """Given 100 retries of one task in batches of 150 events, which two instances merge in turn, every event is
        announced with its name and all that its attempt says, though a record keeps only the latest attempts."""
        one, two = started(bed, name_wait=50.0), started(bed, name_wait=50.0)
        sent = []
        for number in range(101):
            at = TIME + 4 * number
            sent.append(event("task-sent", at=at, retries=number, queue=f"queue-{number}"))
            if number:
                sent.append(event("task-retried", at=at + 0.5))
            sent.append(event("task-received", at=at + 1, retries=number))
            sent.append(event("task-started", at=at + 2))
        sent.append(event("task-succeeded", at=at + 3))
        pieces = [sent[first : first + 150] for first in range(0, len(sent), 150)]

        items = [item for number, piece in enumerate(pieces) for item in merge((one, two)[number % 2], decode(*piece))]

        assert len(items) == len(sent)
        assert [item for item in items if item.entry.incomplete] == []

    def test_what_another_instance_was_given_first_is_not_taken_for_seen(self, bed: Bed) -> None:
        """Given an instance that is behind with the first events of a task while another merges 1,500 later ones, the
        first ones are announced when they come.
        """
        one, two = started(bed), started(bed)
        first = life("a")[:2] + [event("task-progress", uuid="a", at=TIME + 2 + number) for number in range(300)]
        for start in range(0, 1500, 500):
            merge(two, decode(*[event("task-progress", uuid="a", at=TIME + 400 + start + n) for n in range(500)]))

        announced = merge(one, decode(*first))

        late = {item.entry.event.id for item in announced if (item.entry.event.time or 0) < TIME + 400}
        assert len(late) == len(first)
        assert merge(two, decode(*first)) == []

    def test_any_order_of_events_gives_the_same_record(self, bed: Bed) -> None:
        """Given a success that comes before the start of its task, the task has succeeded nevertheless."""
        one = started(bed)
        received, began, succeeded = life("a")
        merge(one, decode(succeeded))
        items = merge(one, decode(began)) + merge(one, decode(received))

        (facts,) = (item.entry.facts for item in items if item.entry.event.type == "task-received")
        assert facts is not None
        assert state_of(facts) is State.SUCCESS

    @pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one by one"])
    def test_the_record_of_an_end_tells_of_the_run_that_it_ended(self, bed: Bed, *, at_once: bool) -> None:
        """Given a task that succeeded, failed in a second run under its id, and succeeded in a third, the record that
        a handler gets has each end's own state, run time and exception."""
        one = started(bed)
        failed = [*life("a", start=TIME + 100, hostname="celery@other")[:2]]
        failed.append(event("task-failed", uuid="a", at=TIME + 105, hostname="celery@other"))
        events = [*life("a"), *failed, *life("a", start=TIME + 200)]

        batches = [events] if at_once else [[body] for body in events]
        items = [item for batch in batches for item in merge(one, decode(*batch))]

        first, second, third = (told(item) for item in items if item.entry.event.type in END_TYPES)
        assert (first.state, first.runtime, first.exception) == (State.SUCCESS, 0.25, None)
        assert (second.state, second.runtime, second.exception) == (State.FAILURE, 4.0, "KeyError('x')")
        assert (second.started, second.finished) == (TIME + 101, TIME + 105)
        assert (third.state, third.runtime, third.exception) == (State.SUCCESS, 0.25, None)
        assert third.started == TIME + 201

    def test_a_later_run_has_retries_and_a_state_of_its_own(self, bed: Bed) -> None:
        """Given a task that failed after two retries, all events of a later run say that it was not retried, and that
        it has not ended before it has."""
        one = started(bed)
        for number in range(3):
            at = TIME + 10 * number
            merge(one, decode(event("task-received", uuid="a", at=at, retries=number)))
            merge(one, decode(event("task-started", uuid="a", at=at + 1)))
            kind = "task-retried" if number < 2 else "task-failed"
            items = merge(one, decode(event(kind, uuid="a", at=at + 2)))
        assert told(items[-1]).retries == 2

        later = [item for body in life("a", start=TIME + 100) for item in merge(one, decode(body))]

        assert [told(item).retries for item in later] == [0, 0, 0]
        assert [told(item).state for item in later] == [State.RECEIVED, State.STARTED, State.SUCCESS]

    def test_what_is_not_announced_is_there_after_a_broken_connection(self, bed: Bed) -> None:
        """Given items of which some were announced, the others come back, with their numbers and a new token."""
        one = started(bed)
        merge(one, decode(*life("a")))
        token = one.store.token
        one.store.announced(2)
        one.store.close()
        one.store.dial().use()

        recovered = one.store.recover()

        assert [(item.sequence, item.entry.event.type) for item in recovered.items] == [(2, "task-succeeded")]
        assert recovered.next_sequence == 3
        assert one.store.token > token
        one.store.announced(3)
        one.store.flush()
        one.store.close()
        one.store.dial().use()
        assert one.store.recover().items == []

    def test_another_instance_gets_what_a_dead_one_left_and_shuts_it_out(self, bed: Bed) -> None:
        """Given a lease that ended, what was not announced goes to one other instance, and each call of the first is
        refused from then on."""
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        one.store.announced(1)
        one.store.flush()
        bed.let_lease_end(one.store.token)

        ticks = taken_over(bed, two)

        items = [item for ticked in ticks for item in ticked.items]
        assert types(items) == ["task-started", "task-succeeded"]
        assert all(item.recovered for item in items)
        (takeover,) = (one for ticked in ticks for one in ticked.taken)
        assert (takeover.who["instance"], takeover.entries) == ("1", 2)
        for call in (
            lambda: tick(one),
            lambda: merge(one, decode(*life("b"))),
            lambda: one.store.record_outcome(3, [], [], 10),
            one.store.recover,
            lambda: one.duties.losses(report=True),
        ):
            with pytest.raises(LeaseLost, match="another instance took over its outbox"):
                call()
        assert types(merge(two, decode(*life("b")))) == ["task-received", "task-started", "task-succeeded"]

    def test_what_was_taken_over_is_marked_after_a_broken_connection_too(self, bed: Bed) -> None:
        """Given entries of a dead instance, of which the first is announced when the connection breaks, the others come
        back marked as `recovered`, and what was merged after them unmarked. The takeover was told of, and is not again.
        """
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        bed.let_lease_end(one.store.token)
        assert [ticked.taken[0].entries for ticked in taken_over(bed, two) if ticked.taken] == [3]
        two.store.announced(1)
        merge(two, decode(*life("b")))
        two.store.close()
        two.store.dial().use()

        recovered = two.store.recover()

        marks = [(item.sequence, item.recovered) for item in recovered.items]
        assert marks == [(1, True), (2, True), (3, False), (4, False), (5, False)]
        assert list(recovered.taken) == []

    def test_a_takeover_is_told_of_though_the_reply_is_lost(self, bed: Bed) -> None:
        """Given a tick that takes over what a dead instance left, and whose reply never comes, the entries come back
        marked as `recovered`, with word of the takeover; after the next broken connection that is not said again."""
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        bed.let_lease_end(one.store.token)
        ticks = taken_over(bed, two)
        assert [len(ticked.taken) for ticked in ticks] == [0, 0, 0, 1]
        store: Any = two.store
        store._rollbacks.calls -= 1  # as if that reply had not come
        recovered = []
        for _ in range(2):
            two.store.close()
            two.store.dial().use()
            recovered.append(two.store.recover())

        assert [[item.recovered for item in found.items] for found in recovered] == [[True] * 3] * 2
        told = [[(taken.who["instance"], taken.entries) for taken in found.taken] for found in recovered]
        assert told == [[("1", 3)], []]

    def test_an_instance_that_leaves_frees_its_outbox_at_once(self, bed: Bed) -> None:
        """Given an orderly end with two items left, they are said to be left, and another instance gets them."""
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        one.store.announced(1)

        assert one.store.unregister() == 2
        assert not one.store.holds_lease()
        items = [item for ticked in taken_over(bed, two) for item in ticked.items]

        assert types(items) == ["task-started", "task-succeeded"]

    def test_one_instance_leads_until_it_may_not(self, bed: Bed) -> None:
        """Given two instances, the first leads and the second does not; once it is not eligible, the second follows."""
        one, two = started(bed), started(bed)
        first, second = tick(one, eligible=True), tick(two, eligible=True)
        assert [(ticked.leads, ticked.followed) for ticked in (first, second)] == [(True, False), (False, False)]
        assert one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0)) is not None
        assert two.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0)) is None
        assert two.open_tasks.candidates() is None
        assert two.duties.losses(report=True) == []

        assert tick(one, eligible=False).leads is False
        followed = tick(two, eligible=True)

        assert (followed.leads, followed.followed) == (True, True)
        assert tick(one, eligible=True).leads is False
        assert one.open_tasks.confirm(0, []) == []

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    @pytest.mark.parametrize("at_once", [True, False])
    def test_a_run_that_is_stopped_at_its_time_limit_fails_once(
        self, bed: Bed, order: tuple[int, int], at_once: bool
    ) -> None:
        """Given the two failures that Celery 5.7 sends of a run that is over its hard time limit, at one instance or
        two, in any order, one is announced; the failure of the next run is another, and so is one of another kind."""
        one, two = started(bed), started(bed)
        stopped = {"exception": "TimeLimitExceeded(2,)", "traceback": "x"}
        both = [event("task-failed", at=TIME + 2 + n / 100, **stopped) for n in range(2)]
        merge(one, decode(event("task-received"), event("task-started")))

        if at_once:
            items = merge(one, decode([both[n] for n in order]))
        else:
            items = [*merge(one, decode(both[order[0]])), *merge(two, decode(both[order[1]]))]
        assert types(items) == ["task-failed"]
        merge(one, decode(event("task-received", at=TIME + 2.015), event("task-started", at=TIME + 2.016)))
        (item,) = merge(one, decode(event("task-failed", at=TIME + 4.02, **stopped)))
        assert item.entry.facts is not None
        assert (item.entry.facts.finished_count, item.entry.facts.finished) == (2, int((TIME + 4.02) * 1_000_000))
        merge(one, decode(event("task-received", at=TIME + 4.03), event("task-started", at=TIME + 4.04)))
        assert types(merge(one, decode(event("task-failed", at=TIME + 4.1)))) == ["task-failed"]

    def test_a_task_that_workers_know_by_another_id_is_marked(self, bed: Bed) -> None:
        """Given a task with a UUID for an id, and one with a text, the record tells them apart, and goes on to."""
        one = started(bed)
        other = {"__type__": "uuid", "__value__": {"hex": "0" * 31 + "1"}}
        found = {}
        for uuid in ("a", other):
            for number, kind in enumerate(("task-sent", "task-received", "task-started")):
                (item,) = merge(one, decode(event(kind, uuid=None, at=TIME + number) | {"uuid": uuid}))
                assert item.entry.facts is not None
                found[item.entry.event.task_id, kind] = item.entry.facts.is_other_id

        assert {key for key, is_other in found.items() if is_other} == {
            ("00000000-0000-0000-0000-000000000001", kind) for kind in ("task-sent", "task-received", "task-started")
        }
        assert len(found) == 6

    def test_the_leader_sees_the_fleet(self, bed: Bed) -> None:
        """Given two instances and a worker that was just heard of, the leader sees them, and the queues it is told."""
        one, two = started(bed), started(bed)
        merge(two, decode(event("worker-heartbeat")))
        tick(one, eligible=True)

        watched = one.duties.watch(WATCHING, ["celery"], may_declare_lost=True, watermark=(0.0, 0.0))

        assert watched is not None
        assert (watched.instances, watched.queues, watched.items) == (2, ["celery"], [])
        assert [(worker.name, worker.state) for worker in watched.workers] == [("celery@host", "online")]

    def test_a_worker_that_was_started_again_is_told_from_the_one_before(self, bed: Bed) -> None:
        """Given a worker that says again that it is there, the leader knows since when, as a heartbeat does not change
        it; of one that said goodbye it does not.
        """
        one = started(bed)
        tick(one, eligible=True)
        came = []
        for ago, kind in (
            (90, "worker-online"),
            (60, "worker-heartbeat"),
            (30, "worker-online"),
            (1, "worker-offline"),
        ):
            merge(one, decode(event(kind, at=TIME - ago, clock=100 - ago)))
            watched = one.duties.watch(WATCHING, [], may_declare_lost=False)
            assert watched is not None
            came += [worker.came for worker in watched.workers]

        assert came == [*(pytest.approx(TIME - ago, abs=0.002) for ago in (90, 90, 30)), None]

    def test_an_event_of_a_task_is_a_sign_of_life_of_its_worker(self, bed: Bed) -> None:
        """Given events of a task, the leader knows the worker that sent some of them, and not the producer."""
        one = started(bed)
        sent = event("task-sent", hostname="gen1@producer")
        merge(one, decode(sent, event("task-started", hostname="celery@worker")))
        tick(one, eligible=True)

        watched = one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))

        assert watched is not None
        assert [(worker.name, worker.state) for worker in watched.workers] == [("celery@worker", "online")]

    def test_a_failed_handler_is_called_again_by_whichever_instance(self, bed: Bed) -> None:
        """Given a retry, it is due after its delay and goes to one instance; a dead letter is kept."""
        one, two = started(bed), started(bed)
        (item,) = merge(one, decode(event("task-received")))
        for _ in range(2):  # repeating it changes nothing
            one.store.record_outcome(1, [(50_000, retry_entry(item.entry, "alerts.mail", 1))], [b"{}"], 10)
        ticked = tick(two)
        assert ticked.items == []
        assert 45 < (ticked.next_due or 0) <= 50
        bed.let_wait_end()

        (again,) = tick(two).items + tick(one).items

        assert (again.entry.kind, again.entry.handler, again.entry.attempt) == (1, "alerts.mail", 1)
        assert (again.entry.event, again.entry.facts) == (item.entry.event, item.entry.facts)
        tick(two, eligible=True)
        watched = two.duties.watch(WATCHING, [], may_declare_lost=False)
        assert watched is not None
        assert (watched.retries, watched.dead_letters) == (0, 1)

    def test_an_announcement_waits_for_its_name(self, bed: Bed) -> None:
        """Given a start whose task is not known by name, it goes out when the name comes, or in the end without."""
        one = started(bed, name_wait=50.0)
        one.store.send_apply(decode(*(event("task-started", uuid=name) for name in "ab")))
        applied = one.store.receive_apply()
        assert (applied.items, applied.waiting) == ([], 2)
        received = event("task-received", uuid="a", at=TIME - 1)
        assert types(merge(one, decode(received))) == ["task-received", "task-started"]
        assert 45 < (tick(one).next_due or 0) <= 50
        bed.let_wait_end()

        (item,) = tick(one).items

        assert (item.entry.event.task_id, item.entry.incomplete) == ("b", True)

    def test_an_announcement_waits_for_what_another_instance_was_given(self, bed: Bed) -> None:
        """Given a start whose task's name another instance may have, which is a minute behind, it goes out when that
        one has merged what it was given, or with the name if that was among it."""
        one, two = started(bed, name_wait=0.01), started(bed, name_wait=0.01)
        tick(two, watermark_age=60.0)
        merge(one, decode(*(event("task-started", uuid=name) for name in "ab")))
        bed.pass_time(2)
        ticked = tick(one)
        assert ticked.items == []
        assert 0.5 < (ticked.next_due or 0) <= 1
        assert types(merge(two, decode(event("task-received", uuid="a", at=TIME - 1)))) == [
            "task-received",
            "task-started",
        ]

        (item,) = tick(two).items

        assert (item.entry.event.task_id, item.entry.incomplete) == ("b", True)

    def test_an_announcement_waits_for_its_own_time(self, bed: Bed) -> None:
        """Given an announcement that waits while another one of the same task has waited enough, it waits on."""
        one = started(bed, name_wait=4.0)
        merge(one, decode(event("task-started", uuid="a")))
        bed.pass_time(3)
        merge(one, decode(event("task-succeeded", uuid="a", at=TIME + 1)))
        bed.pass_time(2)
        assert types(tick(one).items) == ["task-started"]
        assert types(merge(one, decode(event("task-received", uuid="a", at=TIME - 1)))) == [
            "task-received",
            "task-succeeded",
        ]

    def test_messages_that_come_again_are_waited_for(self, bed: Bed) -> None:
        """Given an instance that lost its link, what waits does so until others have had what it was given."""
        one, two = started(bed, name_wait=0.01), started(bed, name_wait=0.01)
        merge(one, decode(event("task-started")))
        bed.pass_time(2)
        two.store.tick(b"{}", [], eligible=False, watermark_age=0.0, requeued=True)
        assert tick(one).items == []
        bed.pass_time(2)

        assert types([*tick(two).items, *tick(one).items]) == ["task-started"]

    def test_attempts_are_shared_and_forgotten(self, bed: Bed) -> None:
        """Given two instances, each sees what the other began, up to a bound; what succeeded is forgotten."""
        mine, theirs = started(bed).attempts, started(bed).attempts

        assert mine.begin(["a", "b"], 3) == [0, 0]
        assert theirs.begin(["b", "c"], 3) == [1, 0]
        assert [mine.begin(["b"], 3) for _ in range(3)] == [[2], [3], [3]]
        theirs.succeeded(["a"])
        mine.set_aside("b", b"{}")
        assert mine.begin(["a", "b"], 3) == [0, 0]

    def test_instances_see_each_other_while_they_live(self, bed: Bed) -> None:
        """Given two instances, each sees what the other published last, until its lease ends."""
        one, two = started(bed), started(bed)
        two.store.tick(b'{"state": "consuming"}', [], eligible=False, watermark_age=None, requeued=False)

        (peer,) = one.store.peers()
        assert (peer.token, peer.stats) == (two.store.token, {"state": "consuming"})
        assert {"instance", "host", "pid"} <= set(peer.who)
        assert [peer.token for peer in two.store.peers()] == [one.store.token]

        bed.let_lease_end(two.store.token)

        assert one.store.peers() == []

    def test_a_dead_leader_is_followed_within_a_lease_when_the_clock_is_put_back(self, bed: Bed) -> None:
        """Given a leader that dies with an item left, and then a step of the record's clock by an hour, another one
        says by how much, and leads and has the item once a lease is over: neither takes an hour."""
        one, two = started(bed), started(bed)
        assert tick(one, eligible=True).leads
        assert tick(two, eligible=True).clock_step == 0
        merge(one, decode(event("task-received")))

        bed.put_clock_back(3600)
        after = tick(two, eligible=True)
        bed.let_time_pass(LEASE + 1)
        ticks = taken_over(bed, two)
        led = tick(two, eligible=True)

        assert 3590 < after.clock_step <= 3600
        assert (after.leads, led.leads) == (False, True)
        assert [ticked.clock_step for ticked in ticks] == [0] * len(ticks)
        assert types([item for ticked in ticks for item in ticked.items]) == ["task-received"]

    def test_nobody_who_lives_loses_the_lease_when_the_clock_is_put_back(self, bed: Bed) -> None:
        """Given two instances that live, of which one leads, a step of the clock by an hour changes nothing of that."""
        one, two = started(bed), started(bed)
        for _ in range(4):
            tick(one, eligible=True)
            tick(two, eligible=True)
            bed.clock.now += LEASE * 0.4
        merge(one, decode(event("task-received")))

        bed.put_clock_back(3600)

        assert tick(two, eligible=True).items == []
        assert (tick(one, eligible=True).leads, tick(two, eligible=True).leads) == (True, False)
        assert [peer.token for peer in two.store.peers()] == [one.store.token]

    def test_what_waits_goes_on_when_the_clock_is_put_back(self, bed: Bed) -> None:
        """Given an end that waits for its name and a handler to be called again, and then a step of the clock by an
        hour, the handler is called at once, and the end is announced when its wait is over."""
        one = started(bed, name_wait=50.0)
        (item,) = merge(one, decode(event("shop-closed", uuid=None)))
        one.store.record_outcome(1, [(50_000, retry_entry(item.entry, "alerts.mail", 1))], [], 10)
        merge(one, decode(event("task-started")))
        assert tick(one).items == []

        bed.put_clock_back(3600)
        (again,) = tick(one).items
        bed.let_time_pass(51)
        (late,) = tick(one).items

        assert again.entry.handler == "alerts.mail"
        assert (late.entry.event.type, late.entry.incomplete) == ("task-started", True)

    def test_a_silent_worker_is_lost_when_the_clock_is_put_back(self, bed: Bed) -> None:
        """Given a worker that falls silent just before a step of the clock by an hour, it is lost when it has been
        silent for so long after it, and comes back when it is heard of."""
        one = started(bed)
        merge(one, decode(event("worker-heartbeat")))
        tick(one, eligible=True)

        def announced() -> list[str]:
            tick(one, eligible=True)
            watched = one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
            assert watched is not None
            return types(watched.items)

        bed.put_clock_back(3600)
        assert announced() == []
        bed.let_time_pass(WATCHING.lost_after + 1)
        assert announced() == ["worker-lost"]
        merge(one, decode(event("worker-heartbeat", at=TIME + 100, clock=2)))
        assert announced() == ["worker-recovered"]

    def test_what_has_waited_says_since_when(self, bed: Bed) -> None:
        """Given an end and a name that come in two calls, the end says that it has waited since before the connection
        that an instance makes in between, but not since before the one of then; the name has not waited."""
        one, two = started(bed, name_wait=50.0), started(bed, name_wait=50.0)
        received, *rest = life("a")
        bed.pass_time(0.01)
        merge(one, decode(*rest))
        bed.pass_time(0.01)
        before = two.store.token
        two.store.close()
        two.store.dial().use()
        two.store.recover()
        items = merge(two, decode(received))

        waited = {item.entry.event.type: item.entry.waited_since for item in items}
        assert waited.pop("task-received") == 0.0
        assert waited.keys() == {"task-started", "task-succeeded"}
        assert [since for since in waited.values() if not before < since < two.store.token] == []

    def test_a_record_that_went_back_is_noticed_once(self, bed: Bed) -> None:
        """Given two instances that made calls, and a record that is put back to before them, the first to make a call
        says so, with how many of its calls are missing and since when; both know when that was."""
        one, two = started(bed), started(bed)
        tick(one)
        tick(two)
        bed.keep()
        merge(one, decode(*life("a")))
        merge(two, decode(*life("b")))
        tick(one)
        assert (one.store.take_rollback(), one.store.went_back_at) == (None, 0.0)

        bed.put_back()
        merge(one, decode(event("task-received", uuid="c")))
        merge(two, decode(event("task-received", uuid="d")))

        told = one.store.take_rollback()
        assert told is not None
        assert told.calls == 2
        assert told.since is not None
        assert told.since <= told.at == one.store.went_back_at == two.store.went_back_at
        assert (one.store.take_rollback(), two.store.take_rollback()) == (None, None)

    def test_a_record_that_went_back_gets_again_what_it_lost(self, bed: Bed) -> None:
        """Given an end that waits for its name, and events that were announced, all merged after the state to which the
        record is put back, each instance has what it did merged again: the end is announced when its name is, and what
        was announced is not.
        """
        one, two = started(bed, name_wait=50.0), started(bed, name_wait=50.0)
        received, *rest = life("a")
        tick(one)
        tick(two)
        bed.keep()
        assert merge(one, decode(*rest)) == []
        told = merge(two, decode(*life("b"), event("shop-closed", uuid=None)))
        two.store.announced(len(told), [item.entry.event.id for item in told])
        assert not (one.store.needs_restore or two.store.needs_restore)

        bed.put_back()
        tick(one)
        tick(two)

        assert one.store.needs_restore
        assert two.store.needs_restore
        assert restored(one) == restored(two) == []
        assert types(merge(two, decode(received))) == ["task-received", "task-started", "task-succeeded"]
        assert merge(one, decode(*life("b"), event("shop-closed", uuid=None))) == []
        assert tick(one).items == tick(two).items == []

    def test_a_name_is_waited_for_until_all_may_be_back_at_a_store_that_went_back(self, bed: Bed) -> None:
        """Given a store that has nothing any more, an end waits for its name, which an instance that is not back yet
        may have merged, for longer than other announcements wait."""
        one, two = started(bed, name_wait=0.01), started(bed, name_wait=0.01)
        received, *rest = life("a")
        tick(one)
        told = merge(two, decode(received))
        two.store.announced(len(told), [item.entry.event.id for item in told])
        bed.delete_all()
        one.store.register({"instance": "1", "host": "host", "pid": 1})
        merge(one, decode(*rest))
        tick(one)
        bed.pass_time(2)
        assert tick(one).items == []
        two.store.register({"instance": "2", "host": "host", "pid": 1})

        assert types(restored(two)) == ["task-started", "task-succeeded"]

    def test_batches_that_were_in_flight_together_are_merged_again_in_their_order(self, bed: Bed) -> None:
        """Given several batches that were merged while others were in flight, and a record that lost them, all of them
        are merged again, the oldest first.
        """
        one = started(bed)
        tick(one)
        bed.keep()
        for one_event in life("a"):
            one.store.send_apply(decode(one_event))
        first = one.store.receive_apply()
        one.store.peers()  # what is left is answered before that
        rest = [one.store.receive_apply() for _ in range(2)]
        assert [types(one_batch.items) for one_batch in (first, *rest)] == [
            ["task-received"],
            ["task-started"],
            ["task-succeeded"],
        ]

        bed.put_back()
        tick(one)

        assert types(restored(one)) == ["task-received", "task-started", "task-succeeded"]

    @pytest.mark.parametrize("last", [0, 1], ids=["the end last", "the name last"])
    def test_what_was_announced_of_lost_work_is_not_announced_by_whoever_merges_it(self, bed: Bed, last: int) -> None:
        """Given an end of one instance and its name of another, which announced all but the end, and a record that has
        neither, whoever merges its part last announces the end, and nothing else.
        """
        records = one, two = started(bed, name_wait=50.0), started(bed, name_wait=50.0)
        tick(one)
        tick(two)
        bed.keep()
        received, *rest = life("a")
        assert merge(one, decode(*rest)) == []
        told = merge(two, decode(received))
        two.store.announced(told[-1].sequence, [item.entry.event.id for item in told[:-1]])
        bed.put_back()
        tick(one)
        tick(two)

        again = restored(records[1 - last]) + restored(records[last])

        assert types(again) == ["task-succeeded"]
        assert tick(one).items == tick(two).items == []

    def test_a_record_that_goes_back_again_is_told_again(self, bed: Bed) -> None:
        """Given a record that goes back to before what was noticed, that is noticed, too, and known to all."""
        one, two = started(bed), started(bed)
        tick(one)
        bed.keep()
        for _ in range(2):
            merge(one, decode(event("task-received")))
            bed.put_back()
            tick(one)
            told = one.store.take_rollback()
            assert told is not None
            assert told.at == one.store.went_back_at

        tick(two)
        assert two.store.went_back_at == one.store.went_back_at
        assert two.store.take_rollback() is None

    def test_a_record_that_is_empty_is_noticed_by_whoever_registers_again(self, bed: Bed) -> None:
        """Given a record that lost all, the first instance that registers anew says so; a new one has nothing to say,
        but knows of it."""
        one, two = started(bed), started(bed)
        tick(one)
        bed.delete_all()
        for store in (one.store, two.store):
            with pytest.raises(LeaseLost, match="no longer knows this instance"):
                tick(one if store is one.store else two)
            store.register({"instance": "1", "host": "host", "pid": 1})
        three = started(bed)

        told = one.store.take_rollback()
        assert told is not None
        assert (told.since, told.seconds, told.calls) == (None, None, 0)
        assert two.store.take_rollback() is None
        assert three.store.take_rollback() is None
        assert one.store.went_back_at == two.store.went_back_at == three.store.went_back_at > 0

    def test_who_lives_is_not_taken_over_by_a_lease_of_an_older_record(self, bed: Bed) -> None:
        """Given a record that is put back to where the lease of an instance that lives has ended by now, whoever finds
        that first leaves its outbox to it.
        """
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        tick(two)
        bed.let_lease_end(one.store.token)
        bed.keep()
        for _ in range(3):
            bed.clock.now += LEASE * 0.4
            tick(one)
            tick(two)

        bed.put_back()

        assert tick(two).taken == tick(one).taken == tick(two).taken == []
        assert two.store.take_rollback() is not None

    def test_who_was_taken_over_by_an_older_record_says_so(self, bed: Bed) -> None:
        """Given a record that goes back and then takes an instance over that does not answer, as when all wait for a
        replica, that instance says what is missing when it registers anew, and has it merged again.
        """
        one, two = started(bed), started(bed)
        tick(one)
        bed.keep()
        told = merge(one, decode(*life("a")))
        one.store.announced(told[-1].sequence + 1, [item.entry.event.id for item in told])
        merge(one, decode(event("task-received", uuid="b")))
        bed.put_back()
        bed.let_lease_end(one.store.token)
        taken_over(bed, two)
        with pytest.raises(LeaseLost):
            tick(one)

        one.store.register({"instance": "1", "host": "host", "pid": 1})

        rollback = one.store.take_rollback()
        assert rollback is not None
        assert rollback.calls == 2
        assert rollback.since is not None
        assert types(restored(one)) == ["task-received"]
        assert two.store.take_rollback() is None

    def test_outages_and_takeovers_are_no_rollback(self, bed: Bed) -> None:
        """Given a broken connection, a lease that ended, and an instance that registers anew, the record has all that
        it confirmed, and nobody says otherwise."""
        one, two = started(bed), started(bed)
        merge(one, decode(*life("a")))
        one.store.close()
        one.store.dial().use()
        one.store.recover()
        tick(one)
        bed.let_lease_end(one.store.token)
        taken_over(bed, two)
        with pytest.raises(LeaseLost):
            tick(one)
        one.store.register({"instance": "1", "host": "host", "pid": 1})
        tick(one)

        assert [record.store.take_rollback() for record in (one, two)] == [None, None]
        assert one.store.went_back_at == two.store.went_back_at == 0.0

    def test_nothing_is_said_of_a_worker_that_was_heard_of_in_what_is_lost(self, bed: Bed) -> None:
        """Given a worker that sent heartbeats, and a record that is put back to long before them, it is not lost: its
        silence counts from when that was noticed."""
        one = started(bed)
        merge(one, decode(event("worker-heartbeat")))
        tick(one, eligible=True)
        bed.let_time_pass(3600)
        tick(one, eligible=True)
        bed.keep()
        merge(one, decode(event("worker-heartbeat", at=TIME + 3600, clock=2)))
        bed.put_back()
        tick(one, eligible=True)

        watched = one.duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))

        assert watched is not None
        assert watched.items == []
        assert [worker.state for worker in watched.workers] == ["online"]

    # --- what can be asked -----------------------------------------------------------------

    def test_a_task_is_found_by_its_id(self, bed: Bed) -> None:
        """Given tasks that ended, are under way and are unknown, each is answered in the order in which it was asked
        for, whatever its id looks like."""
        one, queries = started(bed), bed.queries()
        odd = "é {a}:\n\t*"
        merge(one, decode(*life("a"), *life(odd)[:2], event("task-succeeded", uuid="nameless")))

        found = queries.tasks([odd, "unknown", "a", "nameless"])

        assert found[1] is None
        assert [None if task is None else (task.record.task_id, task.record.state) for task in found] == [
            (odd, State.STARTED),
            None,
            ("a", State.SUCCESS),
            ("nameless", State.SUCCESS),
        ]
        record = found[2].record if found[2] else None
        assert record is not None
        assert (record.name, record.runtime, record.finished) == ("shop.pay", 0.25, TIME + 2)
        assert found[3] is not None
        assert (found[3].record.name, found[3].complete) == (None, False)
        assert queries.tasks([]) == []

    def test_a_task_has_its_story(self, bed: Bed) -> None:
        """Given events of a task that come late, twice, and to two instances, its story has each once, in the order of
        their times, to the microsecond."""
        one, two, queries = started(bed), started(bed), bed.queries()
        received, began, failed = life("a")
        failed = event("task-failed", uuid="a", at=TIME + 2)
        other = event("task-custom", uuid="a", at=TIME + 1.000125)
        back = event("task-rejected", uuid="a", at=TIME + 1.5, requeue=True)
        merge(one, decode(failed, back))
        merge(two, decode(other, received, failed))
        merge(one, decode(began, other))

        (found,) = queries.tasks(["a"])

        assert found is not None
        assert (found.complete, found.reconciled) == (True, False)
        assert found.story == (
            StoryEvent("task-received", TIME),
            StoryEvent("task-started", TIME + 1),
            StoryEvent("custom", TIME + 1.000125),
            StoryEvent("task-rejected", TIME + 1.5, requeued=True),
            StoryEvent("task-failed", TIME + 2, error_group=group_id(received["name"], asked.digest_of(failed))),
        )

    def test_open_tasks_are_listed(self, bed: Bed) -> None:
        """Given tasks of which some are finished, the others are open, and the pieces of the list are all of it."""
        one, queries = started(bed), bed.queries()
        merge(one, decode(*life("ended"), *(body for number in range(5) for body in life(f"open-{number}")[:2])))

        pieces = [queries.open(2, first) for first in range(0, 8, 2)]

        assert [len(piece) for piece in pieces] == [2, 2, 1, 0]
        assert sorted(task_id for piece in pieces for task_id in piece) == [f"open-{number}" for number in range(5)]
        assert sorted(queries.open(100)) == [f"open-{number}" for number in range(5)]

    def test_open_tasks_are_listed_by_age(self, bed: Bed) -> None:
        """Given open tasks, they are listed newest first, before and after the leader has looked at them; those
        that were first heard of later than a time can come last, those that have not started can be left out; and one
        that ends is gone."""
        one, queries = started(bed), bed.queries()
        tick(one, eligible=True)
        for number in (3, 1, 4, 0, 2):
            merge(one, decode(event("task-sent", uuid=f"t{number}", at=TIME + 100 * number, queue="mail")))
        merge(one, decode(event("task-started", uuid="t1", at=TIME + 101)))

        def listed(until: float | None = None, *, running: bool = False) -> list[str]:
            pages = list(queries.newest_open(until, running=running))
            ids = [task_id for page in pages for task_id in page.ids]
            for number, page in enumerate(pages):
                later = queries.tasks([task_id for behind in pages[number + 1 :] for task_id in behind.ids])
                times = [task.first_heard for task in later if task is not None]
                assert page.bound is None or all(at <= page.bound or at > (until or TIME * 2) for at in times)
            return ids

        for _ in range(2):
            assert listed() == ["t4", "t3", "t2", "t1", "t0"]
            assert listed(TIME + 150)[:2] == ["t1", "t0"]
            assert listed(running=True) == ["t1"]
            bed.let_time_pass(100_000)
            tick(one, eligible=True)
            assert one.open_tasks.candidates() is not None
        merge(one, decode(event("task-succeeded", uuid="t1", at=TIME + 300)))
        merge(one, decode(event("task-sent", uuid="t9", at=TIME + 900)))
        assert listed() == ["t9", "t4", "t3", "t2", "t0"]

    @pytest.mark.parametrize("late", ["task-sent", "task-received"])
    def test_what_belongs_to_a_run_before_the_end_begins_no_other(self, bed: Bed, late: str) -> None:
        """Given a task that ended after a retry, whose producer was held up behind its message until all was over, when
        its task-sent comes, or a receipt behind that, the task stays finished. One that is then sent once more is open.
        """
        one, queries = started(bed), bed.queries()
        kinds = ("task-received", "task-started")
        events = [event(kind, uuid="a", at=TIME + number) for number, kind in enumerate(kinds)]
        events.append(event("task-retried", uuid="a", at=TIME + 2))
        again = ("task-sent", *kinds, "task-succeeded")
        events += [event(kind, uuid="a", at=TIME + 3 + number, retries=1) for number, kind in enumerate(again)]
        events.append(event("task-sent", uuid="a", at=TIME + 10))
        if late == "task-received":
            events.append(events.pop(0))
        for one_event in events:
            merge(one, decode(one_event))
        assert queries.open(10) == []

        merge(one, decode(event("task-sent", uuid="a", at=TIME + 20)))

        assert queries.open(10) == ["a"]

    def test_what_ended_badly_is_listed_by_its_end(self, bed: Bed) -> None:
        """Given tasks that failed, were rejected, revoked, succeeded, or go on, those that ended badly are listed, the
        latest first, by time and in pieces; one that succeeds in a second run is one of them no more."""
        one, queries = started(bed), bed.queries()
        ends = {"failed": 3, "rejected": 1, "revoked": 2, "succeeded": 4}
        merge(one, decode(*life("open")[:2], event("task-rejected", uuid="requeued", requeue=True)))
        for end, at in ends.items():
            changes = {"requeue": False} if end == "rejected" else {}
            merge(one, decode(event(f"task-{end}", uuid=end, at=TIME + at, **changes)))
        merge(one, decode(event("task-failed", uuid="again", at=TIME + 5)))

        def listed(since: float = 0.0, until: float = TIME + 100, count: int = 10, offset: int = 0) -> list[str]:
            return [found.task_id for found in queries.ended_badly(since, until, count, offset)]

        assert queries.ended_badly(TIME + 1, TIME + 2, 10) == [
            Ended("revoked", TIME + 2, State.REVOKED),
            Ended("rejected", TIME + 1, State.REJECTED),
        ]
        assert listed() == ["again", "failed", "revoked", "rejected"]
        assert [listed(count=3), listed(count=3, offset=3)] == [["again", "failed", "revoked"], ["rejected"]]
        merge(one, decode(event("task-succeeded", uuid="again", at=TIME + 4)))
        assert listed() == ["failed", "revoked", "rejected"]

    def test_the_newest_tasks_of_a_name_are_known(self, bed: Bed) -> None:
        """Given more tasks of a name than are kept by it, the newest are answered, newest first by when they were first
        heard of, and each once, whatever comes of them later; one whose name is not known is in none."""
        one, two, queries = started(bed), started(bed), bed.queries()
        for first in range(0, 210, 70):
            merge(one, decode(*(event("task-sent", uuid=f"t{first + n}", name="shop.pay") for n in range(70))))
        merge(two, decode(*life("t3"), *life("ship", name="shop.ship"), event("task-succeeded", uuid="nameless")))

        assert queries.names() == ["shop.pay", "shop.ship"]
        assert queries.newest("shop.pay", 1000) == [f"t{number}" for number in range(209, 9, -1)]
        assert queries.newest_of(["no such", "shop.ship", "shop.pay"], 2) == [[], ["ship"], ["t209", "t208"]]

    def test_a_task_is_found_by_the_name_that_it_has(self, bed: Bed) -> None:
        """Given events that contradict each other, a task is found by the name of its record, and by no other."""
        one, queries = started(bed), bed.queries()
        merge(one, decode(event("task-sent", uuid="a", at=TIME, name="first"), *life("b", start=TIME, name="first")))
        merge(one, decode(event("task-received", uuid="a", at=TIME + 1, name="second")))

        assert (queries.newest("first", 9), queries.newest("second", 9)) == (["b"], ["a"])

    def test_tasks_that_have_not_started_are_known_by_queue(self, bed: Bed) -> None:
        """Given tasks that were sent into two queues, one with an eta, those that have not started are answered by
        queue, the longest wait first; one that starts or ends leaves, and one that is retried comes back."""
        one, two, queries = started(bed), started(bed), bed.queries()
        eta = asked.iso(TIME + 50)
        sent = [event("task-sent", uuid=f"t{number}", at=TIME + number, queue="celery") for number in range(5)]
        merge(one, decode(*sent, event("task-sent", uuid="later", at=TIME, queue="celery", eta=eta)))
        merge(two, decode(event("task-sent", uuid="mail", at=TIME, queue="mail"), *life("unsent")[:1]))
        merge(
            two, decode(event("task-received", uuid="t0", at=TIME + 6), event("task-started", uuid="t1", at=TIME + 6))
        )
        merge(one, decode(event("task-revoked", uuid="t2", at=TIME + 7)))

        waits = [("t0", TIME), ("t3", TIME + 3), ("t4", TIME + 4), ("later", TIME + 50)]
        assert queries.queues() == ["celery", "mail"]
        assert (queries.waiting("celery", 10), queries.waiting("celery", 2)) == (waits, waits[:2])
        assert queries.waiting("no such", 10) == []
        merge(one, decode(event("task-started", uuid="mail", at=TIME + 8)))
        assert queries.queues() == ["celery"]
        merge(one, decode(event("task-retried", uuid="mail", at=TIME + 9)))
        assert queries.waiting("mail", 10) == [("mail", TIME + 9)]

    def test_the_tasks_of_a_tree_are_known_by_its_root(self, bed: Bed) -> None:
        """Given tasks that a task started, in any depth, they are answered for it, the newest first, each once; the
        root is none of them, and a task without a root is in no tree."""
        one, two, queries = started(bed), started(bed), bed.queries()
        merge(one, decode(*life("root", root_id="root"), *life("alone", root_id=None)))
        merge(one, decode(event("task-sent", uuid="a", root_id="root", parent_id="root")))
        merge(two, decode(*(event("task-sent", uuid=child, root_id="root", parent_id="a") for child in ("b", "c"))))
        merge(two, decode(*life("a", root_id="root", parent_id="root"), event("task-failed", uuid="b", at=TIME + 1)))

        assert (queries.children("root", 10), queries.children("root", 2)) == (["c", "b", "a"], ["c", "b"])
        assert queries.children("a", 10) == queries.children("alone", 10) == []

    def test_what_is_orphaned_is_among_what_ended_badly_until_it_goes_on(self, bed: Bed) -> None:
        """Given a task that nobody has any more, it is listed until an event of it comes after all."""
        one, queries = started(bed), bed.queries()
        tick(one, eligible=True)
        merge(one, decode(*life("a")[:2], *life("b")[:2], event("worker-heartbeat")))
        bed.let_time_pass(100_000)
        tick(one, eligible=True)
        found = one.open_tasks.candidates()
        assert found is not None
        orphaned = OrphanedTask(must_be_lost=False, confirmed_by=["workers"], answered=1)
        items = one.open_tasks.confirm(found.at - 5000, [(candidate, orphaned) for candidate in found.tasks])
        assert items is not None
        assert types(items) == ["task-orphaned"] * 2

        assert (sorted(queries.orphaned(10)), queries.stuck(10)) == (["a", "b"], [])
        before = queries.ended_badly(0.0, TIME * 2, 10)
        merge(one, decode(life("a")[2], event("task-failed", uuid="b", at=TIME + 3)))
        after = queries.ended_badly(0.0, TIME * 2, 10)

        assert sorted((found.task_id, found.state, found.orphaned) for found in before) == [
            ("a", State.STARTED, True),
            ("b", State.STARTED, True),
        ]
        assert [(found.task_id, found.state, found.orphaned) for found in after] == [("b", State.FAILURE, False)]
        assert queries.orphaned(10) == []

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_every_answer_follows_from_the_events(self, bed: Bed, data: st.DataObject) -> None:
        """Given any history of some tasks, delivered in any order, with any repetition, to two instances, of which the
        leader looks at open tasks now and then, each answer is what follows from the events themselves."""
        bed.delete_all()
        history = data.draw(asked.histories())
        truth, queries = asked.Truth(history), bed.queries()
        instances = [started(bed, name_wait=1000.0), started(bed, name_wait=1000.0)]

        tick(instances[0], eligible=True)

        for number, bodies in data.draw(asked.deliveries(history)):
            merge(instances[number], decode(*bodies))
            if data.draw(st.booleans()):
                assert instances[0].open_tasks.candidates() is not None

        opened = {task_id for page in queries.newest_open() for task_id in page.ids}
        assert opened == set(queries.open(100)) >= {one for one in truth.events if truth.end(one) is None}
        assert queries.ended_badly(0.0, TIME * 2, 100) == truth.ended_badly()
        ids = list(truth.events)
        stories = {one.record.task_id: one.story for one in queries.tasks(ids) if one}
        assert stories == {one: truth.story(one) for one in ids}
        waiting = truth.waiting()
        assert queries.queues() == sorted(waiting)
        assert {queue: queries.waiting(queue, 100) for queue in waiting} == waiting
        children = truth.children()
        roots = {*children, *ids}
        found = {root: sorted(queries.children(root, 100)) for root in roots}
        assert found == {root: children.get(root, []) for root in roots}
        by_name = truth.by_name()
        assert queries.names() == sorted(by_name)
        assert {name: sorted(queries.newest(name, 200)) for name in by_name} == by_name

    def test_the_time_of_the_record_is_told(self, bed: Bed) -> None:
        """Given time that passes in the record, what is asked tells it."""
        queries = bed.queries()
        before = queries.now()
        bed.pass_time(0.01)

        assert before + 0.005 < queries.now() < before + 60

    def test_the_newest_tasks_of_a_name_are_read_in_pieces(self, bed: Bed) -> None:
        """Given a name with few tasks, one with more than are kept and one with none, the pieces of each are the same
        tasks as all at once, and end where the tasks do, or with the last that is kept."""
        one, queries = started(bed), bed.queries()
        for number in range(210):
            merge(one, decode(*life(f"t{number}")))
        merge(one, decode(*life("ship", name="shop.ship")))
        names = ["shop.ship", "shop.pay", "no such"]

        first, second, last, behind = (queries.newest_of(names, 90, offset) for offset in (0, 90, 180, 270))

        assert (first[0], second[0], first[2]) == (["ship"], [], [])
        assert first[1] + second[1] + last[1] == queries.newest("shop.pay", 200)
        assert [len(pieces[1]) for pieces in (first, second, last, behind)] == [90, 90, 20, 0]

    def test_what_a_search_needs_is_what_the_whole_record_says(self, bed: Bed) -> None:
        """Given tasks that succeeded, failed, were retried, started twice, are open, had custom events before all
        others or times that are none, what is told of each without its record is what its record and story tell."""
        one = started(bed)
        kinds = ("task-sent", "task-received", "task-started", "task-retried", "task-succeeded", "task-failed")
        lives = [kinds[:1], kinds[:2], kinds[:3], kinds[:4], (*kinds[:3], kinds[4]), (*kinds[:3], kinds[5]), kinds]
        lives += [("task-progress", *kinds[:3]), (*kinds[:3], *kinds[:3]), kinds[2:3], kinds[4:5], ("task-progress",)]
        for number, life_of in enumerate(lives):
            for shift in (0.0, -TIME):
                steps = [event(kind, uuid=f"{number}{shift}", at=TIME + shift + at) for at, kind in enumerate(life_of)]
                merge(one, decode(*steps))

        ids = [f"{number}{shift}" for number in range(len(lives)) for shift in (0.0, -TIME)]
        for asked_first in bed.queries().tasks(ids):
            assert asked_first is not None
            names = ("task_id", "state", "name", "queue", "worker", "started", "first_heard", "last_heard")
            told = [getattr(asked_first, name) for name in names]
            whole = KeptTask(asked_first.record, asked_first.story, asked_first.complete, asked_first.reconciled)
            assert told == [getattr(whole, name) for name in names]

    # --- incidents -------------------------------------------------------------------------

    def test_an_incident_is_written_with_its_line_by_the_leader_alone(self, bed: Bed) -> None:
        """Given two instances, what the leader writes is read by anybody and announced once; another changes nothing,
        and what is removed is gone.
        """
        one, two = started(bed), started(bed)
        assert tick(one, eligible=True).leads

        assert two.duties.incidents(opened("a")) == []
        assert bed.incidents().incidents() == []
        items = one.duties.incidents(opened("a", "b"))

        assert [(item.entry.event.type, item.entry.event.fields["incident"]) for item in items] == [
            ("incident-opened", "a"),
            ("incident-opened", "b"),
        ]
        assert [kept.id for kept in bed.incidents().incidents()] == ["a", "b"]
        assert bed.incidents().incidents()[0] == an_incident("a")
        assert one.duties.incidents(IncidentChanges([], ["a", "unheard"], [])) == []
        assert [kept.id for kept in bed.incidents().incidents()] == ["b"]

    def test_the_line_of_a_leader_that_died_is_left_to_the_next(self, bed: Bed) -> None:
        """Given a leader that wrote an incident and is gone before its line, another instance gets that line, once, as
        one that may have been written.
        """
        one, two = started(bed), started(bed)
        assert tick(one, eligible=True).leads
        one.duties.incidents(opened("a"))
        bed.let_lease_end(one.store.token)

        found = [item for ticked in taken_over(bed, two) for item in ticked.items]

        assert [(item.entry.event.fields["incident"], item.recovered) for item in found] == [("a", True)]
        with pytest.raises(LeaseLost):
            one.duties.incidents(IncidentChanges([], ["a"], []))
        assert [kept.id for kept in bed.incidents().incidents()] == ["a"]

    def test_a_silence_is_seen_until_it_is_over(self, bed: Bed) -> None:
        """Given silences, incidents say until when nobody is told of them, and one that is over counts no longer."""
        one, kept, now = started(bed), bed.incidents(), bed.now()
        assert tick(one, eligible=True).leads
        one.duties.incidents(opened("a", "b"))
        short = Silence("1", "worker-lost", "celery@a*", now + 50, now, "why")
        assert kept.silence(Silence("2", "worker-lost", "celery@b", now + 60, now))
        assert kept.silence(short)
        assert [silence.id for silence in kept.silences()] == ["1", "2"]
        assert [found.silenced_until for found in kept.incidents()] == [now + 50, now + 60]

        kept.silence(replace(short, until=bed.now() + 0.3))
        bed.pass_time(0.4)

        assert [silence.id for silence in kept.silences()] == ["2"]
        assert [found.silenced_until for found in kept.incidents()] == [None, now + 60]
        assert kept.end("2")
        assert not kept.end("2")
        assert kept.silences() == []

    def test_silences_and_marks_are_bounded(self, bed: Bed) -> None:
        """Given a hundred of each, one more silence is refused, unless it replaces one or one is over; of the marks the
        oldest goes.
        """
        started(bed)
        kept, now = bed.incidents(), bed.now()
        for number in range(MAX_SILENCES):
            assert kept.silence(Silence(str(number), "failing", "", now + 60, now))
        assert not kept.silence(Silence("more", "failing", "", now + 60, now))
        assert kept.silence(Silence("7", "failing", "x", now + 60, now))
        kept.silence(Silence("0", "failing", "", bed.now() + 0.3, now))
        bed.pass_time(0.4)
        assert kept.silence(Silence("more", "failing", "", now + 60, now))
        assert len(kept.silences()) == MAX_SILENCES

        for number in range(MAX_MARKS + 5):
            kept.mark(Mark(f"v{number}", now + number))
        assert [mark.label for mark in kept.marks()] == [f"v{number}" for number in range(MAX_MARKS + 4, 4, -1)]

    def test_a_message_is_claimed_and_then_told(self, bed: Bed) -> None:
        """Given a leader that claims a message, it is under way until its channel took it; what that was told is known
        then, and when."""
        one = started(bed)
        tick(one, eligible=True)
        claim, at = claim_of(one), bed.now()

        noted = exchange(one, claimed=[claim], noted=[("other", "chat", TIME)])
        told = exchange(one, taken=[Taken(claim, at)])

        assert (list(noted.claims), noted.notified) == ([claim], {("other", "chat"): Notified(TIME, Phase.PENDING, 0)})
        assert (list(told.claims), told.notified["i", "chat"]) == ([], Notified(at, Phase.FIRING, 1))
        assert dict(told.taken) == {"chat": [pytest.approx(at, abs=0.002)]}
        assert told.now == pytest.approx(bed.now(), abs=60)

    def test_incidents_say_which_channels_were_told_of_them(self, bed: Bed) -> None:
        """Given a channel that took a message about one of two incidents, and one that is only noted for it, whoever
        reads the incidents sees the first."""
        one = started(bed)
        tick(one, eligible=True)
        one.duties.incidents(opened("i", "j"))
        claim, at = claim_of(one), bed.now()
        exchange(one, claimed=[claim], noted=[("i", "mail", TIME)])
        exchange(one, taken=[Taken(claim, at)])

        told = {"i": {"chat": Notified(at, Phase.FIRING, 1)}, "j": {}}

        assert {kept.id: kept.told for kept in bed.incidents().incidents()} == told

    def test_what_the_leader_says_of_messages_may_be_said_again(self, bed: Bed) -> None:
        """Given replies that are lost, each call is repeated without effect; a message that was released is not told by
        what comes late."""
        one = started(bed)
        tick(one, eligible=True)
        first, second = claim_of(one), claim_of(one, "j")
        for _ in range(2):
            exchange(one, claimed=[first, second])
        for _ in range(2):
            state = exchange(one, taken=[Taken(first, bed.now())], released=[second.id])
        late = exchange(one, taken=[Taken(second, bed.now())])

        assert [*state.claims, *late.claims] == []
        assert set(late.notified) == {("i", "chat")}
        assert [len(times) for times in late.taken.values()] == [1]

    def test_the_next_leader_finds_what_was_in_flight_and_the_last_one_changes_nothing(self, bed: Bed) -> None:
        """Given a leader that loses its place with a message under way, the next one finds its claim under the same id;
        what the last one says then is not heard."""
        one, two = started(bed), started(bed)
        tick(one, eligible=True)
        claim = claim_of(one)
        exchange(one, claimed=[claim])
        assert two.deliveries.exchange(Changes(released=[claim.id])) is None
        tick(one, eligible=False)
        tick(two, eligible=True)

        assert one.deliveries.exchange(Changes(taken=[Taken(claim, bed.now())])) is None
        assert list(exchange(two).claims) == [claim]
        assert exchange(two, taken=[Taken(claim, bed.now())]).notified["i", "chat"].times == 1

    def test_what_is_forgotten_of_messages_is_gone(self, bed: Bed) -> None:
        """Given more entries than one command takes, they are kept, and forgotten when the leader says so."""
        one = started(bed)
        tick(one, eligible=True)
        names = [(f"i{number}", "chat") for number in range(450)]

        kept = exchange(one, noted=[(*name, TIME) for name in names])
        gone = exchange(one, forgotten=names[1:])

        assert set(kept.notified) == set(names)
        assert set(gone.notified) == {names[0]}

    # --- schedules -------------------------------------------------------------------------

    def test_what_the_leader_finds_out_of_schedules_is_there_for_all(self, bed: Bed) -> None:
        """Given what the leader says of schedules, whoever asks finds it, the due times apart, and what is removed is
        gone with its due times.
        """
        one = started(bed)
        tick(one, eligible=True)
        first, second = a_judgement(), a_judgement("\x1b[31m'hostile\n")
        source = KnownSource((first.definition,), TIME, "no worker answered")
        coverage = Coverage(TIME, TIME + 60, ((TIME + 1, TIME + 2),))
        kept = bed.schedules()
        assert (kept.judgements(), kept.sources(), kept.coverage()) == ([], {}, None)

        assert one.duties.schedules(ScheduleChanges([first, second], [], {Source.CONF: source}, coverage))

        names = [first.definition.name, "unheard", second.definition.name]
        assert kept.judgements() == [without_occurrences(second), without_occurrences(first)]
        assert kept.occurrences(names) == [first.history.occurrences, (), second.history.occurrences]
        assert (kept.sources(), kept.coverage()) == ({Source.CONF: source}, coverage)
        assert one.duties.schedules(ScheduleChanges([], [first.definition.name, "unheard"]))
        assert [found.definition.name for found in kept.judgements()] == [second.definition.name]
        assert kept.occurrences([first.definition.name]) == [()]
        assert (kept.sources(), kept.coverage()) == ({Source.CONF: source}, coverage)

    def test_habits_are_kept_until_they_are_forgotten(self, bed: Bed) -> None:
        """Given habits of more tasks than one call reads, all are kept as they were written last, but for those that
        are forgotten.
        """
        one = started(bed)
        tick(one, eligible=True)
        many = [Habit(f"t{number:04}\n'", TIME, TIME + number, (1.5, 600.0)) for number in range(450)]
        assert one.duties.schedules(ScheduleChanges(habits=many))
        assert bed.schedules().habits() == many
        first, second = Habit(many[0].task, TIME, TIME), many[1]

        assert one.duties.schedules(ScheduleChanges(habits=[first], forgotten=[second.task, "unheard"]))

        assert bed.schedules().habits() == [first, *many[2:]]

    def test_as_many_schedules_as_are_watched_are_kept(self, bed: Bed) -> None:
        """Given more schedules than one call writes or reads, all are kept."""
        one = started(bed)
        tick(one, eligible=True)
        many = [a_judgement(f"s{number:04}", due_times=3) for number in range(450)]

        assert one.duties.schedules(ScheduleChanges(many))

        assert bed.schedules().judgements() == list(map(without_occurrences, many))
        names = [found.definition.name for found in many]
        assert bed.schedules().occurrences(names) == [found.history.occurrences for found in many]

    def test_only_the_leader_writes_of_schedules(self, bed: Bed) -> None:
        """Given an instance that does not lead, or no longer, what it says changes nothing, and it hears that."""
        one, two = started(bed), started(bed)
        tick(one, eligible=True)
        assert not two.duties.schedules(ScheduleChanges([a_judgement()]))
        tick(one, eligible=False)
        tick(two, eligible=True)

        assert not one.duties.schedules(ScheduleChanges([a_judgement()]))
        assert bed.schedules().judgements() == []
