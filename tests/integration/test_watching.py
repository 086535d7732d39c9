"""The leader and its duties in a real Redis: one leads, a frozen one cannot write, each change is announced once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ha_monitor.errors import LeaseLost
from ha_monitor.store.duties import Duties
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.reader import StoreReader, WorkerEntry
from ha_monitor.store.results import Ticked, Watched, Watching
from tests.integration.storing import NODE, Inside, Instance
from tests.support.process import wait_until
from tests.unit.builders import TIME, event

NAME = "celery@host"
WATCHING = Watching(late_after=10.0, lost_after=60.0)


def leads(instance: Instance, *, eligible: bool = True) -> tuple[bool, bool]:
    ticked: Ticked = instance.store.tick(b"{}", [], eligible=eligible)
    return ticked.leads, ticked.followed


def watch(
    instance: Instance,
    *,
    may_declare_lost: bool = True,
    together: bool = False,
    watermark: tuple[float, float] | None = (0.0, 0.0),
) -> Watched:
    watched = Duties(instance.store).watch(
        WATCHING, [], may_declare_lost=may_declare_lost, together=together, watermark=watermark
    )
    assert watched is not None
    instance.announce(watched.items)
    assert shown_to_anybody(instance) == states(watched)
    return watched


def shown_to_anybody(instance: Instance, late_after: float = WATCHING.late_after) -> dict[str, str]:
    """The states of the workers, as `ha-monitor status` says."""
    reader = StoreReader(instance.settings, NODE)
    reader.connect()
    try:
        return {entry.name: entry.state for entry in reader.workers(late_after).entries}
    finally:
        reader.close()


def silence(inside: Inside, seconds: float, name: str = NAME) -> None:
    """As if nothing had been heard of a worker for so long."""
    now = inside.redis.time()
    inside.redis.zadd(inside.keys.workers, {name: now[0] * 1000 + now[1] // 1000 - int(seconds * 1000)})


def entries(instance: Instance) -> list[WorkerEntry]:
    """The workers, as `ha-monitor status` and `check` read them."""
    reader = StoreReader(instance.settings, NODE)
    reader.connect()
    try:
        return reader.workers(WATCHING.late_after).entries
    finally:
        reader.close()


def states(watched: Watched) -> dict[str, str]:
    return {worker.name: worker.state for worker in watched.workers}


def own(instance: Instance) -> list[tuple[str, str]]:
    """The leader's events that an instance announced."""
    ours = ("worker-lost", "worker-recovered")
    events = [item.entry.event for item in instance.emitted]
    return [(one.type, one.worker) for one in events if one.type in ours]


# --- who leads -----------------------------------------------------------------------------


def test_one_leads_and_the_next_follows_when_its_lease_is_over(one: Instance, two: Instance, inside: Inside) -> None:
    """Given two instances, the first to tick leads for as long as its lease holds; the other follows it then."""
    assert (leads(one), leads(two), leads(one)) == ((True, False), (False, False), (True, False))
    inside.let_lease_end(one.store.token)

    assert leads(two) == (True, True)
    assert leads(two) == (True, False)
    assert leads(one) == (False, False)


def test_an_orderly_stop_hands_over_at_once(one: Instance, two: Instance) -> None:
    """Given a leader that leaves, the next tick of another one makes it the leader, which knows that it
    follows another: what that one exported may still be seen.
    """
    leads(one)
    one.store.unregister()

    assert leads(two) == (True, True)


def test_an_instance_that_does_not_consume_does_not_lead(one: Instance, two: Instance) -> None:
    """Given a leader that lost the broker, it gives up, and one that consumes takes it over."""
    leads(one)

    assert leads(one, eligible=False) == (False, False)
    assert leads(two) == (True, True)
    assert leads(one, eligible=True) == (False, False)


def test_a_frozen_former_leader_cannot_write(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a leader that was frozen past its lease, its duties have no effect: neither while another leads, nor
    once its outbox was taken over.
    """
    one.apply(event("worker-heartbeat"))
    leads(one)
    inside.let_lease_end(one.store.token)
    leads(two)
    silence(inside, 61)

    assert Duties(one.store).watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0)) is None
    assert inside.redis.hgetall(inside.keys.liveness) == {}
    two.stay_in_contact()
    with pytest.raises(LeaseLost):
        Duties(one.store).watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
    assert inside.redis.hgetall(inside.keys.liveness) == {}
    watch(two)
    assert own(two) == [("worker-lost", NAME)]


def test_the_leader_sees_the_fleet(one: Instance, two: Instance) -> None:
    """Given two instances and a queue that workers consume, the leader counts and remembers them."""
    leads(one)
    first = Duties(one.store).watch(WATCHING, ["celery"], may_declare_lost=True, watermark=(0.0, 0.0))
    second = watch(one)

    assert first is not None
    assert (second.instances, second.waiting, second.retries, second.dead_letters) == (2, 0, 0, 0)
    assert second.queues == ["celery"]


# --- workers -------------------------------------------------------------------------------


def test_the_leader_sees_when_a_worker_came(one: Instance) -> None:
    """Given a worker that says that it is there, and heartbeats after that, the leader knows since when; of one that
    was heard of by heartbeats alone, and of one that said goodbye, it does not.
    """
    leads(one)
    for kind, name, ago in (
        *(("worker-online", NAME, 90), ("worker-heartbeat", NAME, 1), ("worker-heartbeat", "celery@b", 1)),
        *(("worker-online", "celery@c", 90), ("worker-offline", "celery@c", 1)),
    ):
        one.apply(event(kind, hostname=name, at=TIME - ago))

    came = {worker.name: worker.came for worker in watch(one).workers}

    assert came == {NAME: pytest.approx(TIME - 90, abs=0.002), "celery@b": None, "celery@c": None}


def test_workers_that_are_lost_together_have_one_event(one: Instance, inside: Inside) -> None:
    """Given workers that fall silent at once, the leader is told how many and for how long, and one event tells of all;
    one that never sent heartbeats does not count, and each recovery is told as always.
    """
    names = ["a@host", "b@host"]
    one.apply(*(event("worker-heartbeat", hostname=name) for name in names))
    one.apply(event("task-started", hostname="quiet@host"))
    leads(one)
    assert watch(one).silent == (0, 0.0, 0.0)
    for name, seconds in (*zip(names, (61, 63), strict=True), ("quiet@host", 70)):
        silence(inside, seconds, name)
    silent = watch(one, may_declare_lost=False).silent
    assert silent.workers == 2
    assert 61 <= silent.least <= silent.most - 1
    watch(one, together=True)
    (found,) = [item.entry.event for item in one.emitted if item.entry.event.type == "workers-lost"]

    assert (found.fields["count"], sorted(found.fields["workers"])) == (2, names)
    assert own(one) == []
    assert "all workers fell silent together" in found.fields["reason"]
    one.apply(event("worker-heartbeat", hostname="a@host", at=TIME + 100, clock=9))
    assert states(watch(one, together=True))["a@host"] == "online"
    assert own(one) == [("worker-recovered", "a@host")]


def test_a_silent_worker_is_late_then_lost_and_is_announced_once(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a worker that falls silent, it is late, then lost; one line says so, also if the leader changes."""
    one.apply(event("worker-heartbeat"))
    leads(one)
    assert states(watch(one)) == {NAME: "online"}
    silence(inside, 11)
    assert states(watch(one)) == {NAME: "late"}
    assert own(one) == []
    silence(inside, 61)
    assert states(watch(one)) == {NAME: "lost"}
    inside.let_lease_end(one.store.token)
    leads(two)
    watch(two)

    assert own(one) + own(two) == [("worker-lost", NAME)]
    lost: OutboxItem = one.emitted[-1]
    assert lost.entry.event.fields["silent"] == pytest.approx(61, abs=5)


def test_a_lost_worker_that_sends_again_has_recovered(one: Instance, inside: Inside) -> None:
    """Given a lost worker whose next heartbeat comes, one line says that it recovered; it can be lost again."""
    one.apply(event("worker-heartbeat"))
    leads(one)
    silence(inside, 61)
    watch(one)
    one.apply(event("worker-heartbeat", at=TIME + 100))
    assert states(watch(one)) == {NAME: "online"}
    watch(one)
    silence(inside, 61)
    watch(one)

    assert own(one) == [("worker-lost", NAME), ("worker-recovered", NAME), ("worker-lost", NAME)]
    assert len({item.entry.event.id for item in one.emitted}) == len(one.emitted)


def test_an_old_heartbeat_that_was_held_back_is_no_recovery(one: Instance, inside: Inside) -> None:
    """Given a lost worker and a heartbeat from before, delivered late by an instance that was frozen, it stays lost."""
    one.apply(event("worker-heartbeat", at=TIME + 10))
    leads(one)
    silence(inside, 61)
    watch(one)
    one.apply(event("worker-heartbeat", at=TIME + 8))

    assert states(watch(one)) == {NAME: "lost"}
    assert own(one) == [("worker-lost", NAME)]


def test_a_worker_that_said_goodbye_is_offline_not_lost(one: Instance, inside: Inside) -> None:
    """Given a worker that stopped in an orderly way, its silence is no loss; when it comes back it is online."""
    one.apply(event("worker-heartbeat"), event("worker-offline", at=TIME + 1))
    leads(one)
    silence(inside, 1000)
    assert states(watch(one)) == {NAME: "offline"}
    one.apply(event("worker-online", at=TIME + 2000))

    assert states(watch(one)) == {NAME: "online"}
    assert own(one) == []


def test_an_instance_that_did_not_listen_declares_no_worker_lost(one: Instance, inside: Inside) -> None:
    """Given a leader that has not listened for long enough, a silent worker is late, and lost only later."""
    one.apply(event("worker-heartbeat"))
    leads(one)
    silence(inside, 1000)

    assert states(watch(one, may_declare_lost=False)) == {NAME: "late"}
    assert own(one) == []
    watch(one)
    assert own(one) == [("worker-lost", NAME)]


@pytest.mark.parametrize("watermark", [None, (945.0, 0.0)], ids=["no watermark", "a watermark in its silence"])
def test_what_may_wait_in_the_queue_is_no_silence(
    one: Instance, inside: Inside, watermark: tuple[float, float] | None
) -> None:
    """Given a worker of which nothing came for 1,000 s, while what it sent for all but 55 s of them may wait, it is
    late, and lost once what it may have sent is merged."""
    one.apply(event("worker-heartbeat"))
    leads(one)
    silence(inside, 1000)

    assert states(watch(one, watermark=watermark)) == {NAME: "late"}
    watch(one, watermark=(935.0, 0.0))
    assert own(one) == [("worker-lost", NAME)]
    assert states(watch(one, watermark=watermark)) == {NAME: "lost"}


@pytest.mark.parametrize(
    ("bodies", "seconds", "state"),
    [
        ([event("worker-heartbeat")], 1, "online"),
        ([event("worker-heartbeat")], 11, "late"),
        ([event("worker-heartbeat")], 61, "late"),
        ([event("worker-heartbeat"), event("worker-online", at=TIME + 1)], 1, "online"),
        ([event("worker-heartbeat"), event("worker-offline", at=TIME + 1)], 61, "offline"),
    ],
)
def test_what_a_person_sees_where_nobody_leads(
    one: Instance, inside: Inside, bodies: list[dict[str, Any]], seconds: float, state: str
) -> None:
    """Given no leader, a worker is shown by its silence and its last word, and as lost only if a leader said so."""
    one.apply(*bodies)
    silence(inside, seconds)

    assert shown_to_anybody(one) == {NAME: state}


def test_two_workers_on_one_host_are_kept_apart(one: Instance, inside: Inside) -> None:
    """Given two workers on one host of which one falls silent, only that one is lost."""
    one.apply(event("worker-heartbeat", hostname="a@host"), event("worker-heartbeat", hostname="b@host"))
    leads(one)
    silence(inside, 61, "a@host")

    assert states(watch(one)) == {"a@host": "lost", "b@host": "online"}
    assert own(one) == [("worker-lost", "a@host")]


# --- wrong clocks --------------------------------------------------------------------------

YEAR = 365 * 86400


def now_of(inside: Inside) -> float:
    seconds, microseconds = inside.redis.time()
    return seconds + microseconds / 1e6


def test_a_clock_that_was_a_year_ahead_and_was_put_right_spoils_nothing(one: Instance, inside: Inside) -> None:
    """Given a worker that starts before its host's clock is put right, what it says later counts: it is no lost worker
    when it has said goodbye.
    """
    now = now_of(inside)
    one.apply(event("worker-online", at=now + YEAR), event("worker-heartbeat", at=now + YEAR + 2))
    leads(one)
    assert states(watch(one)) == {NAME: "online"}
    one.apply(event("worker-heartbeat", at=now + 4), event("worker-offline", at=now + 5))
    silence(inside, 61)

    assert states(watch(one)) == {NAME: "offline"}
    assert own(one) == []


def test_where_clocks_are_right_the_order_of_sending_counts(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a goodbye and the heartbeat before it, merged in the wrong order just after they came, it is offline."""
    now = now_of(inside)
    one.apply(event("worker-offline", at=now + 0.2))
    two.apply(event("worker-heartbeat", at=now + 0.1))
    leads(one)

    assert states(watch(one)) == {NAME: "offline"}


def test_a_lost_worker_whose_clock_was_put_back_recovers(one: Instance, inside: Inside) -> None:
    """Given a lost worker that starts again with a clock an hour behind, it has recovered once it goes on sending."""
    one.apply(event("worker-heartbeat"))
    leads(one)
    silence(inside, 61)
    watch(one)
    one.apply(event("worker-heartbeat", at=TIME - 3600))
    assert states(watch(one)) == {NAME: "lost"}
    one.apply(event("worker-heartbeat", at=TIME - 3580))
    # As if it had been heard of again so long ago.
    state, at, before, again = inside.redis.hget(inside.keys.liveness, NAME).decode().split()
    ago = int(WATCHING.late_after * 1000)
    inside.redis.hset(inside.keys.liveness, NAME, f"{state} {at} {int(before) - ago} {int(again) - ago}")

    assert states(watch(one)) == {NAME: "online"}
    assert own(one) == [("worker-lost", NAME), ("worker-recovered", NAME)]
    assert one.emitted[-1].entry.event.fields["silent"] == pytest.approx(61, abs=5)


def test_what_was_held_back_and_then_silence_is_no_recovery(one: Instance, inside: Inside) -> None:
    """Given a lost worker, and heartbeats from before that come in two pieces with silence between, it stays lost."""
    one.apply(event("worker-heartbeat", at=TIME + 10))
    leads(one)
    silence(inside, 61)
    watch(one)
    one.apply(event("worker-heartbeat", at=TIME + 6))
    watch(one)
    silence(inside, 11)
    watch(one)
    one.apply(event("worker-heartbeat", at=TIME + 8))

    assert states(watch(one)) == {NAME: "lost"}
    assert own(one) == [("worker-lost", NAME)]


# --- workers without heartbeats ------------------------------------------------------------

ASKED: dict[str, Any] = {"freq": 5, "active": None, "processed": None, "loadavg": None}
"""What a worker leaves out of a heartbeat that it was asked for."""


def test_events_of_tasks_are_signs_of_life(one: Instance, inside: Inside) -> None:
    """Given a worker whose heartbeats have stopped, it is online while it sends events of tasks, and lost when these
    stop, too; what a producer sends is no such sign.
    """
    leads(one)
    one.apply(event("worker-heartbeat"))
    for second in (100, 200):
        silence(inside, 61)
        one.apply(event("task-started", uuid=f"{second}", at=TIME + second))
        assert states(watch(one)) == {NAME: "online"}
    silence(inside, 61)
    one.apply(event("task-sent", uuid="sent", at=TIME + 300))

    assert states(watch(one)) == {NAME: "lost"}
    assert own(one) == [("worker-lost", NAME)]


def test_a_worker_of_which_only_tasks_tell_is_never_lost(one: Instance, inside: Inside) -> None:
    """Given a worker that sends no heartbeats but those that it is asked for, its silence is no loss: it may have no
    task. It is known by its events of tasks alone, and sends them.
    """
    leads(one)
    one.apply(event("task-started", at=TIME))
    assert states(watch(one)) == {NAME: "online"}
    one.apply(event("worker-heartbeat", at=TIME + 1, **ASKED))
    silence(inside, 1000)

    assert states(watch(one)) == {NAME: "late"}
    one.apply(event("task-started", uuid="2", at=TIME + 1000))
    assert states(watch(one)) == {NAME: "online"}
    assert own(one) == []
    (entry,) = entries(one)
    assert entry.sends


def test_an_answer_to_a_request_hides_no_heartbeat(one: Instance, inside: Inside) -> None:
    """Given a worker that sends heartbeats and answers a request for one, it is lost if it is silent then, and what its
    own heartbeat said is still shown.
    """
    leads(one)
    one.apply(event("worker-heartbeat"), event("worker-heartbeat", at=TIME + 1, **ASKED))
    assert entries(one)[0].heartbeat["processed"] == 7
    silence(inside, 61)

    assert states(watch(one)) == {NAME: "lost"}


def test_last_events_behind_a_goodbye_are_none_of_a_new_life(one: Instance, inside: Inside) -> None:
    """Given a worker that said goodbye, its last event of a task does not bring it back; one of much later does."""
    leads(one)
    one.apply(event("worker-online"), event("worker-offline", at=TIME + 1), event("task-succeeded", at=TIME + 2))
    assert states(watch(one)) == {NAME: "offline"}
    silence(inside, 60)
    one.apply(event("task-started", uuid="2", at=TIME + 60))

    assert states(watch(one)) == {NAME: "online"}


def test_events_of_tasks_cost_one_note_a_second(one: Instance, inside: Inside) -> None:
    """Given many events of tasks of a worker, its record is written once a second, not with each batch."""
    one.apply(event("task-started", uuid="first"))
    before = inside.redis.get(inside.keys.worker(NAME))
    for number in range(5):
        one.apply(event("task-started", uuid=str(number), at=TIME + number))
        inside.redis.zadd(inside.keys.workers, {NAME: inside.redis.time()[0] * 1000 + 500})

    assert inside.redis.get(inside.keys.worker(NAME)) == before


# --- wrong clocks --------------------------------------------------------------------------


JUST_NOW = (30.0, 30.0)


def look_at_clocks(instance: Instance, watermark: tuple[float, float] | None = JUST_NOW) -> list[float]:
    """By how many seconds the clocks are ahead that a look finds wrong.

    :param watermark: its age, and for how long it has been known.
    """
    watched = Duties(instance.store).watch(WATCHING, [], may_declare_lost=True, watermark=watermark)
    assert watched is not None
    instance.announce(watched.items)
    events = [item.entry.event for item in watched.items]
    return [one.fields["skew"] for one in events if one.type == "worker-clock-skew"]


def beat(instance: Instance, ahead: float) -> None:
    """A heartbeat of a worker whose clock is ahead."""
    instance.apply(event("worker-heartbeat", at=time.time() + ahead))


def confirm(instance: Instance, inside: Inside, ahead: float) -> None:
    """Heartbeats, until the worker is a newcomer no more."""

    def is_confirmed() -> bool:
        beat(instance, ahead)
        return inside.redis.zscore(inside.keys.unconfirmed, NAME) is None

    wait_until(is_confirmed, 60, "the confirmation", 0.2)


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_a_wrong_clock_is_told_once_and_shown(one: Instance, inside: Inside, ahead: float) -> None:
    """Given a worker whose clock is two hours behind or ahead, one line says so, status shows it, and neither does when
    it is right again. In the lines after that a wrong clock is news again.
    """
    leads(one)
    confirm(one, inside, ahead)
    assert look_at_clocks(one) == [pytest.approx(ahead, abs=60)]
    beat(one, ahead + 2)
    assert look_at_clocks(one) == []
    assert entries(one)[0].skew == pytest.approx(ahead, abs=60)
    assert watch(one).workers[0].skew == pytest.approx(ahead, abs=60)
    beat(one, 0)
    assert look_at_clocks(one) == []
    assert entries(one)[0].skew == watch(one).workers[0].skew == 0
    beat(one, ahead)
    assert look_at_clocks(one) != []


def test_what_waited_in_the_queue_is_of_no_wrong_clock(one: Instance, inside: Inside) -> None:
    """Given events of two hours ago, no clock is called wrong while they may have waited: in the queue or with an
    instance, of which nothing is known, or that were behind for longer, or until after the event came.
    """
    leads(one)
    confirm(one, inside, -7200)

    assert look_at_clocks(one, None) == []
    assert look_at_clocks(one, (7300.0, 30.0)) == []
    silence(inside, 60)
    assert look_at_clocks(one) == []
