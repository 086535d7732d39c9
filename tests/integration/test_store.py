"""What each script does in a real Redis."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import LogLevel
from ha_monitor.errors import ConfigurationError, LeaseLost
from ha_monitor.events.catalogue import Code, State
from ha_monitor.store.duties import Duties
from ha_monitor.store.outbox import retry_entry
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.results import Watching
from tests.integration.storing import LEASE, NODE, Inside, Instance
from tests.support.process import wait_until
from tests.unit.builders import TIME, UUID, decode, event


def started(**changes: Any) -> list[dict[str, Any]]:
    return [event("task-received", **changes), event("task-started", at=TIME + 1)]


# --- register, leases, tokens --------------------------------------------------------------


def test_each_start_gets_a_higher_token(store_url: str, one: Instance, two: Instance) -> None:
    """Given two instances and a third start, each token is higher than all before."""
    first = one.store.token
    one.store.register({})

    assert 0 < first < two.store.token < one.store.token


def test_a_token_does_not_come_again_if_redis_lost_its_data(store_url: str, one: Instance, two: Instance) -> None:
    """Given a Redis that came back empty, the first instance to start anew does not get a token that another one
    still believes to have: the two would trim each other's outbox.
    """
    before = {one.store.token, two.store.token}
    Inside(store_url).redis.flushdb()

    with pytest.raises(LeaseLost):
        one.recover()
    one.store.register({})

    assert one.store.token not in before
    with pytest.raises(LeaseLost):
        two.recover()


def test_the_layout_of_another_version_is_refused(store_url: str, inside: Inside) -> None:
    """Given keys of another format, starting is a configuration error that says what to do, and changes nothing."""
    inside.redis.set(inside.keys.format, 99)

    with pytest.raises(ConfigurationError, match="have format 99, which this version cannot read"):
        Instance(store_url).start()

    assert list(inside.redis.scan_iter()) == [inside.keys.format.encode()]


def test_without_its_lease_an_instance_can_do_nothing(store_url: str, one: Instance, inside: Inside) -> None:
    """Given a lease that another instance took, every call says so, and none changes anything."""
    one.apply(started())
    inside.redis.zrem(inside.keys.leases, one.store.token)
    before = {key: inside.redis.dump(key) for key in inside.redis.scan_iter()}

    for call in (
        lambda: one.apply(event("task-succeeded", at=TIME + 2)),
        one.tick,
        one.store.recover,
        lambda: one.store.record_outcome(10, [(1, b"x")], [b"x"], 10),
    ):
        with pytest.raises(LeaseLost):
            call()
    assert one.store.unregister() == 0

    assert {key: inside.redis.dump(key) for key in inside.redis.scan_iter()} == before


def test_a_lease_is_held_by_the_instances_own_clock(one: Instance) -> None:
    """Given an instance, it knows without asking whether its lease may have run out; each call that renews counts."""
    assert one.store.holds_lease()
    one.clock.now += LEASE - 1
    assert one.store.holds_lease()
    one.tick()
    one.clock.now += LEASE - 1
    assert one.store.holds_lease()
    one.clock.now += 2
    assert not one.store.holds_lease()


# --- apply ---------------------------------------------------------------------------------


def test_a_batch_says_what_was_new(one: Instance, two: Instance) -> None:
    """Given events that another instance has merged, they count as repeated and are not announced again."""
    first = one.apply(started())
    second = two.apply([*started(), event("task-succeeded", at=TIME + 2)])

    assert (first.new, first.repeated, first.waiting) == (2, 0, 0)
    assert (second.new, second.repeated, second.waiting) == (1, 2, 0)
    assert (one.types, two.types) == (["task-received", "task-started"], ["task-succeeded"])


def test_pieces_from_several_instances_become_one_record(one: Instance, two: Instance, inside: Inside) -> None:
    """Given the events of a task at two instances, the record and the line have what each brought."""
    one.apply(event("task-sent", queue="mail", at=TIME))
    two.apply(event("task-received", at=TIME + 1))
    one.apply(event("task-started", at=TIME + 2))
    two.apply(event("task-succeeded", at=TIME + 3))

    task = inside.task(UUID)
    assert (task.name, task.queue, task.state, task.runtime) == ("shop.pay", "mail", State.SUCCESS, 0.25)
    assert (task.sent, task.received, task.started, task.finished) == (TIME, TIME + 1, TIME + 2, TIME + 3)
    assert task.queue_time == 2.0
    assert two.emitted[-1].entry.facts is not None
    assert two.emitted[-1].entry.facts.queue == "mail"


def test_a_record_without_the_mark_of_a_script_is_read(one: Instance, inside: Inside) -> None:
    """Given a record that does not say that a script wrote it, with the time of its definition in full and an end that
    waits, the rest is merged into it as into any other.
    """
    before, rest = ["task-received", "task-succeeded"], ["task-sent", "task-started"]
    for uuid in (UUID, "other"):
        one.apply(*(event(kind, at=TIME, uuid=uuid, root_id="root") for kind in before))
    facts, _, waiting = inside.record("other")
    assert (facts["d"], waiting) == (True, 1)
    inside.unmark("other", d=facts["rl"])
    trouble = [
        one.apply(*(event(kind, at=TIME, uuid=uuid, root_id="root") for kind in rest)).trouble
        for uuid in (UUID, "other")
    ]

    assert trouble == ["", ""]
    assert inside.record("other")[0] == inside.record(UUID)[0]
    said = [(item.entry.event.task_id, item.entry.event.type) for item in one.emitted]
    assert [kind for uuid, kind in said if uuid == "other"] == [kind for uuid, kind in said if uuid == UUID]


def test_the_name_may_come_last_and_at_another_instance(one: Instance, two: Instance, inside: Inside) -> None:
    """Given an end before its name, it waits; whichever instance gets the name announces it."""
    waiting = one.apply([event("task-started"), event("task-succeeded", at=TIME + 1)])
    assert (one.types, waiting.waiting) == ([], 1)

    done = two.apply(event("task-received", at=TIME - 1))

    assert done.waiting == 0
    assert two.types == ["task-received", "task-started", "task-succeeded"]
    assert [item.entry.incomplete for item in two.emitted] == [False] * 3
    assert inside.redis.zcard(inside.keys.waiting) == 0


def test_an_end_waits_for_its_start(one: Instance, two: Instance) -> None:
    """Given an end whose start is still at another instance, it waits: its queue time would be wrong."""
    one.apply([event("task-received"), event("task-succeeded", at=TIME + 2)])
    assert one.types == ["task-received"]

    two.apply(event("task-started", at=TIME + 1))
    assert two.types == ["task-started", "task-succeeded"]


def test_the_end_of_a_retry_waits_for_its_own_start(one: Instance) -> None:
    """Given a second run, its end does not take the first run's start for its own."""
    one.apply([*started(), event("task-retried", at=TIME + 2), event("task-received", at=TIME + 3, retries=1)])
    one.apply(event("task-succeeded", at=TIME + 5))
    assert one.types[-1] == "task-received"

    one.apply(event("task-started", at=TIME + 4))
    assert one.types[-2:] == ["task-started", "task-succeeded"]


def test_a_queue_is_waited_for_where_producers_send_it(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a task of a name whose producers send task-sent, its end waits for the queue; others do not."""
    one.apply(event("task-sent", uuid="other", queue="mail"))

    two.apply([*started(), event("task-succeeded", at=TIME + 2)])
    assert two.types == ["task-received"]
    one.apply(event("task-sent", at=TIME - 1, queue="mail"))
    assert one.types[1:] == ["task-sent", "task-started", "task-succeeded"]

    inside.redis.hset(inside.keys.producers, "shop.pay", 1)
    two.apply([event(kind, uuid="third") for kind in ("task-received", "task-started", "task-succeeded")])
    assert two.types[1:] == ["task-received", "task-started", "task-succeeded"]


def test_what_never_comes_is_not_waited_for_for_ever(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a name that does not come within name_wait, any instance announces what waits, as incomplete, once."""
    one.apply([event("task-started"), event("task-succeeded", at=TIME + 1)])
    inside.let_wait_end()

    two.tick()
    one.tick()

    assert (one.types, two.types) == ([], ["task-started", "task-succeeded"])
    assert [item.entry.incomplete for item in two.emitted] == [True, True]
    # The name comes after all: nothing is announced again, and the record has it.
    one.apply(event("task-received", at=TIME - 1))
    assert one.types == ["task-received"]
    assert inside.task(UUID).name == "shop.pay"


def test_a_tick_says_when_more_is_due(store_url: str) -> None:
    """Given an announcement that waits, the tick before its time brings nothing and says how long that is."""
    one = Instance(store_url, name_wait=50.0).start()
    assert one.tick().next_due is None

    one.apply(event("task-started"))
    ticked = one.tick()

    assert ticked.items == []
    assert ticked.next_due is not None
    assert 45 < ticked.next_due <= 50


def test_records_expire_by_how_the_task_ended(store_url: str, inside: Inside) -> None:
    """Given settings of one's own, a success is kept for the one time and everything else for the other."""
    one = Instance(store_url, success_ttl=1000.0, failure_ttl=2000.0, worker_ttl=3000.0).start()
    one.apply(started())
    assert 1990 < inside.ttl(inside.keys.task(UUID)) <= 2000

    one.apply(event("task-succeeded", at=TIME + 2))
    one.apply([event("task-received", uuid="failed"), event("task-failed", uuid="failed")])
    one.apply(event("worker-online"), event("deploy-finished", uuid=None))

    assert 990 < inside.ttl(inside.keys.task(UUID)) <= 1000
    assert 1990 < inside.ttl(inside.keys.task("failed")) <= 2000
    assert 2990 < inside.ttl(inside.keys.worker("celery@host")) <= 3000
    seen = [key for key in inside.redis.scan_iter() if b":s:" in key]
    assert len(seen) == 2
    assert all(990 < inside.ttl(key) <= 1000 for key in seen)


def test_a_tick_keeps_the_time_at_which_a_record_expires(store_url: str, inside: Inside) -> None:
    """Given a record of which something waited, announcing it does not prolong the record's life."""
    one = Instance(store_url, failure_ttl=2000.0).start()
    one.apply(event("task-started"))
    inside.redis.expire(inside.keys.task(UUID), 500)
    inside.let_wait_end()

    one.tick()

    assert one.types == ["task-started"]
    assert 490 < inside.ttl(inside.keys.task(UUID)) <= 500


def test_a_record_holds_the_latest_ids_and_the_older_ones_have_keys_that_expire(store_url: str, inside: Inside) -> None:
    """Given a task with more events than its record has ids of, the record stays small, and the other ids are kept
    for as long as those of events without a task.
    """
    one = Instance(store_url, success_ttl=1000.0, failure_ttl=2000.0).start()
    one.apply(event("task-received"), [event("task-custom", at=TIME + number) for number in range(1200)])

    assert len(inside.record(UUID)[1]) == 1000 * 12
    older = [key for key in inside.redis.scan_iter() if b":s:" in key]
    assert len(older) == 201
    assert all(990 < inside.ttl(key) <= 1000 for key in older)


def test_events_dated_far_in_the_future_displace_none(one: Instance, inside: Inside) -> None:
    """Given a message that fills the ids of a running task with invented dates, its true end is announced."""
    one.apply(event("task-received"), event("task-started", at=TIME + 1))
    one.apply([event("task-custom", at=3.9e9, clock=number) for number in range(1000)])

    one.apply(event("task-failed", at=TIME + 2))

    assert one.types[-1] == "task-failed"
    assert inside.record(UUID)[0]["tk"] == Code.FAILED


def test_an_event_without_a_task_is_announced_once(one: Instance, two: Instance) -> None:
    """Given a custom event at two instances, as with pub/sub, one of them announces it."""
    for instance in (one, two, one):
        instance.apply(event("deploy-finished", uuid=None, version="1.2"), event("worker-online"))

    assert (one.types, two.types) == (["worker-online", "deploy-finished"], [])
    assert one.emitted[1].entry.event.fields == {"data": {"version": "1.2"}}
    assert one.emitted[1].entry.facts is None


def test_texts_of_any_bytes_come_back_as_they_were(one: Instance) -> None:
    """Given names and texts beyond ASCII, nothing of them is lost on the way through Lua."""
    name = "Zahlung \N{EURO SIGN} \N{PILE OF POO} \x00 \x7f"
    one.apply(event("task-received", name=name), event("task-failed", exception=name))

    one.apply(event("task-started", at=TIME - 1))
    assert {item.entry.facts.name for item in one.emitted if item.entry.facts} == {name}
    assert one.emitted[-1].entry.event.fields["exception"] == name


# --- the outbox ----------------------------------------------------------------------------


def test_what_is_announced_leaves_the_outbox_with_the_next_call(one: Instance, inside: Inside) -> None:
    """Given announced entries, the next call of any kind makes Redis forget them, and the numbers go on."""
    token = one.store.token
    first = one.apply(started())
    assert inside.outbox(token) == 2

    second = one.apply(event("task-succeeded", at=TIME + 2))
    assert inside.outbox(token) == 1
    assert [item.sequence for item in (*first.items, *second.items)] == [0, 1, 2]

    one.store.flush()
    assert inside.outbox(token) == 0


def test_after_a_broken_connection_only_what_is_not_announced_comes_back(one: Instance) -> None:
    """Given three entries of which one is announced, recovering returns the other two, with their numbers."""
    applied = one.apply([*started(), event("task-succeeded", at=TIME + 2)], announce=False)
    one.store.announced(applied.items[0].sequence + 1)

    one.store.close()
    one.store.connect()
    items = one.store.recover().items

    assert items == applied.items[1:]


def test_a_large_outbox_is_pushed_and_recovered_whole(one: Instance, inside: Inside) -> None:
    """Given thousands of entries at once, which is more than Lua passes in one call, none is missing."""
    applied = one.apply([event("deploy", uuid=None, at=TIME + number) for number in range(3000)], announce=False)

    assert [item.sequence for item in applied.items] == list(range(3000))
    assert [item.entry.event.id for item in one.recover()] == [item.entry.event.id for item in applied.items]


def test_leaving_frees_the_outbox_for_others_at_once(one: Instance, two: Instance, inside: Inside) -> None:
    """Given an instance that leaves with work undone, another one takes that over without waiting for a lease."""
    two.stay_in_contact()
    one.apply(started(), announce=False)

    assert one.store.unregister() == 2
    two.tick()

    assert two.types == ["task-received", "task-started"]
    assert [item.recovered for item in two.emitted] == [True, True]
    assert inside.redis.zcard(inside.keys.leases) == 1


def test_leaving_with_everything_done_leaves_nothing(one: Instance, inside: Inside) -> None:
    """Given an instance that has announced everything, nothing of it stays."""
    one.apply(started())

    assert one.store.unregister() == 0

    left = {key.decode().removeprefix(inside.keys.prefix) for key in inside.redis.scan_iter()}
    of_task = {"processes", "p:celery@host\x1f4711", f"t:{UUID}", "names", "n:shop.pay", "errors-since"}
    left = {key for key in left if not key.startswith("m:")}  # statistics of the hour
    of_worker = {"unconfirmed", "w:celery@host", "workers"}
    assert left == {"tokens", "format", "served", "requeued", *of_task, *of_worker}


# --- take over -----------------------------------------------------------------------------


def test_an_instance_that_vanished_is_taken_over_by_one(store_url: str, one: Instance, two: Instance) -> None:
    """Given a lease that ran out, exactly one of the others announces what was left, and everyone can see it."""
    three, inside = Instance(store_url).start(), Inside(store_url)
    one.apply(started(), announce=False)
    two.stay_in_contact()
    three.stay_in_contact()
    inside.let_lease_end(one.store.token)

    taken = [*two.tick().taken, *three.tick().taken]

    assert (two.types, three.types) == (["task-received", "task-started"], [])
    assert [(takeover.who["instance"], takeover.entries) for takeover in taken] == [("1", 2)]
    (report,) = inside.redis.lrange(inside.keys.takeovers, 0, -1)
    assert json.loads(report)["entries"] == 2
    with pytest.raises(LeaseLost):
        one.recover()


def test_only_one_that_was_in_contact_for_a_whole_lease_takes_over(
    one: Instance, two: Instance, inside: Inside
) -> None:
    """Given an outage in which all leases ran out, whoever comes back first does not take the others over."""
    one.apply(started(), announce=False)
    two.stay_in_contact()
    two.clock.now += LEASE * 0.6  # longer than half a lease without contact: what was before does not count
    inside.let_lease_end(one.store.token)

    for _ in range(3):
        assert two.tick().taken == []
        two.clock.now += LEASE * 0.3
    one.recover()
    assert one.types == ["task-received", "task-started"]

    inside.let_lease_end(one.store.token)
    two.clock.now += LEASE * 0.2
    assert len(two.tick().taken) == 1


def test_a_new_instance_does_not_take_over_at_once(one: Instance, two: Instance, inside: Inside) -> None:
    """Given an instance that has just started, it waits for a lease before it takes over."""
    inside.let_lease_end(one.store.token)

    assert two.tick().taken == []
    two.stay_in_contact()
    assert inside.redis.zcard(inside.keys.leases) == 1


def test_a_name_is_waited_for_while_a_vanished_instance_may_hold_it(store_url: str, one: Instance) -> None:
    """Given an instance that has fallen silent, a task without a name waits until it is taken over and what it held
    has come back.
    """
    two, inside = Instance(store_url, name_wait=0.01).start(), Inside(store_url)
    one.store.tick(b"{}", [], watermark_age=10.0)
    two.apply([event("task-started"), event("task-succeeded", at=TIME + 1)])
    inside.let_lease_end(one.store.token)
    time.sleep(1.5)  # Redis has a clock of its own

    assert two.tick().items == []
    two.stay_in_contact()
    assert two.types == []
    wait_until(lambda: two.tick().items, 30, "the announcements", 0.2)

    assert two.types == ["task-started", "task-succeeded"]


def test_only_who_receives_ends_the_wait_for_a_name(store_url: str, inside: Inside) -> None:
    """Given a name that may lie with the broker, an instance without a link to it does not end the wait, although all
    have merged what they had; one that consumes does."""
    one = Instance(store_url, requeue_delay=0.01, name_wait=0.01).start()
    one.apply(event("task-started"))
    inside.put_clock_back(-10)

    assert one.store.tick(b"{}", [], eligible=False, watermark_age=0.0).items == []
    (item,) = one.store.tick(b"{}", [], eligible=True, watermark_age=0.0).items
    assert item.entry.event.type == "task-started"


def test_a_watermark_is_no_newer_for_a_stop_between_the_look_and_the_call(store_url: str, inside: Inside) -> None:
    """Given an instance that is stopped for five seconds between the look at its watermark and the call that tells its
    age, the store takes it from when it looked, as far as is known since the call before."""
    one = Instance(store_url).start()
    one.store.tick(b"{}", [], watermark_age=0.0)
    instance = inside.keys.instance(one.store.token)
    before = int(inside.redis.hget(instance, "seen"))
    looked_at = one.clock.monotonic()
    inside.redis.hset(instance, "seen", before - 5000)

    one.store.tick(b"{}", [], watermark_age=2.0, looked_at=looked_at)

    assert int(inside.redis.hget(instance, "seen")) >= before
    assert int(inside.redis.hget(instance, "merged")) == before - 5000 - 2000


def test_an_orderly_end_does_not_end_the_wait_for_a_link_that_broke(store_url: str, inside: Inside) -> None:
    """Given an instance whose link broke, its messages are waited for, also when another one leaves after that."""
    one, two = (Instance(store_url, requeue_delay=100.0).start() for _ in range(2))
    two.store.tick(b"{}", [], requeued=True)
    until = int(inside.redis.get(inside.keys.requeued))
    one.store.unregister()
    assert int(inside.redis.get(inside.keys.requeued)) == until
    now = inside.redis.time()[0]
    assert now + 90 < until / 1000 <= now + 101


@pytest.mark.parametrize(("requeue_delay", "waited"), [(100.0, 5.0), (3.0, 3.0), (0.0, 1.0)])
def test_what_an_instance_leaves_is_waited_for(
    store_url: str, inside: Inside, requeue_delay: float, waited: float
) -> None:
    """Given an orderly end, what the broker requeues by that is waited for: for as long as RabbitMQ with a busy disk
    may take, but no longer than a dead instance's messages."""
    one = Instance(store_url, requeue_delay=requeue_delay).start()
    inside.redis.set(inside.keys.requeued, 1)

    began = inside.redis.time()
    one.store.unregister()
    ended = inside.redis.time()

    first, last = (seconds * 1000 + microseconds // 1000 for seconds, microseconds in (began, ended))
    assert first <= int(inside.redis.get(inside.keys.requeued)) - waited * 1000 <= last


# --- record_outcome ------------------------------------------------------------------------


def test_a_failed_handler_is_tried_again_by_whichever_instance(one: Instance, two: Instance, inside: Inside) -> None:
    """Given a retry, it is due after its delay and goes to one instance, with what is known of the task."""
    (item,) = one.apply(event("task-received"), announce=False).items
    entry = retry_entry(item.entry, "alerts.mail", 1)

    one.store.record_outcome(item.sequence + 1, [(50_000, entry)], [], 10)
    ticked = two.tick()
    assert ticked.items == []
    assert 45 < (ticked.next_due or 0) <= 50
    inside.let_wait_end()
    two.tick()
    one.tick()

    assert one.emitted == []
    (again,) = two.emitted
    assert (again.entry.kind, again.entry.handler, again.entry.attempt) == (1, "alerts.mail", 1)
    assert again.entry.event == item.entry.event
    assert again.entry.facts == item.entry.facts
    assert inside.outbox(one.store.token) == 0


def test_settling_again_changes_nothing(one: Instance, inside: Inside) -> None:
    """Given a reply that was lost, the same call again adds neither retries nor dead letters."""
    one.apply(started(), announce=False)
    for _ in range(3):
        one.store.record_outcome(2, [(1000, b"entry")], [b'{"a": 1}'], 10)

    assert inside.redis.zcard(inside.keys.retries) == 1
    assert inside.redis.lrange(inside.keys.dead_letters, 0, -1) == [b'{"a": 1}']


def test_only_the_newest_dead_letters_are_kept(one: Instance, inside: Inside) -> None:
    """Given more dead letters than configured, the newest stay, newest first."""
    for number in range(5):
        one.apply(event("deploy", uuid=None, at=TIME + number), announce=False)
        one.store.record_outcome(number + 1, [], [b"%d" % number], 3)

    assert inside.redis.lrange(inside.keys.dead_letters, 0, -1) == [b"4", b"3", b"2"]
    # Saying only that everything is announced must not touch them.
    one.apply(event("deploy", uuid=None, at=TIME + 9))
    one.store.flush()
    assert inside.redis.llen(inside.keys.dead_letters) == 3


def test_only_the_newest_samples_of_rejected_messages_are_kept(one: Instance, inside: Inside) -> None:
    """Given more samples than a hundred, the newest hundred stay."""
    for start in (0, 60):
        one.tick(*(b"%d" % number for number in range(start, start + 60)))

    kept = inside.redis.lrange(inside.keys.rejected, 0, -1)
    assert kept == [b"%d" % number for number in range(119, 19, -1)]


# --- workers -------------------------------------------------------------------------------


def test_workers_are_known_to_all_whoever_heard_them(store_url: str, one: Instance, two: Instance) -> None:
    """Given heartbeats at two instances in any order, the latest counts, and the last word if it came after it."""
    one.apply(event("worker-heartbeat", at=TIME + 2, active=2))
    two.apply(event("worker-heartbeat", at=TIME + 1, active=1), event("worker-online", at=TIME))
    two.apply(event("worker-heartbeat", hostname="celery@other", at=TIME, loadavg=[]))
    two.apply(event("worker-offline", hostname="celery@other", at=TIME + 1))
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    first, second = reader.workers(late_after=10.0).entries
    reader.close()

    assert (first.name, first.heartbeat["active"], first.state) == ("celery@host", 2, "online")
    assert (second.name, second.state) == ("celery@other", "offline")
    assert 0 <= first.silent < 30


@pytest.mark.parametrize(
    "fields",
    [
        {"loadavg": [float("nan"), 1.0]},
        {"loadavg": [None] * 500 + [1.0]},
        {"active": {"a": {"b": [float("inf")]}}},
        {"sw_ident": "\ud800", "freq": 1e300, "processed": 10**30},
    ],
)
def test_a_strange_heartbeat_does_not_break_the_status_of_all(
    store_url: str, one: Instance, fields: dict[str, Any]
) -> None:
    """Given a heartbeat with values that JSON in Redis cannot hold, all workers can still be listed."""
    one.apply(event("worker-heartbeat", **fields), event("worker-heartbeat", hostname="celery@other"))
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    assert [worker.name for worker in reader.workers(late_after=10.0).entries] == ["celery@host", "celery@other"]
    reader.close()


def test_silent_workers_are_forgotten(one: Instance, inside: Inside) -> None:
    """Given a worker of which nothing was heard for worker_ttl, the list forgets it."""
    one.apply(event("worker-heartbeat"), event("worker-heartbeat", hostname="celery@new"))
    inside.redis.zadd(inside.keys.workers, {"celery@host": 1})

    one.tick()
    Duties(one.store).watch(Watching(10, 60), [], may_declare_lost=False)

    assert inside.redis.zrange(inside.keys.workers, 0, -1) == [b"celery@new"]


def test_the_reader_sees_what_the_instances_do(store_url: str, one: Instance, two: Instance) -> None:
    """Given two instances, a reader on any machine sees both, their counters and what they share."""
    one.store.tick(msgspec.json.encode({"lines": 7}), [b'{"reason": "x"}'])
    two.apply(event("task-started"), event("deploy", uuid=None), announce=False)
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    first, second = reader.instances()
    counts = reader.counts()

    assert [first.token, second.token] == [one.store.token, two.store.token]
    assert (first.who["instance"], first.stats, second.outbox) == ("1", {"lines": 7}, 1)
    assert 0 < first.lease_left <= LEASE
    assert (counts.waiting, counts.rejected, counts.retries) == (1, 1, 0)
    assert reader.latest("rejected", 5) == [{"reason": "x"}]
    reader.close()


def test_two_monitors_on_one_redis_do_not_meet(store_url: str, one: Instance) -> None:
    """Given another prefix, the same events are announced there too, and all keys of one share a hash tag."""
    other = Instance(store_url, prefix="other").start()
    one.apply(started())
    other.apply(started())

    assert one.types == other.types == ["task-received", "task-started"]
    tags = {key.decode().partition("}")[0] for key in Inside(store_url).redis.scan_iter()}
    assert tags == {"{ha-monitor:" + NODE, "{other:" + NODE}


def test_a_heartbeat_that_two_instances_are_given_is_new_once(one: Instance, two: Instance) -> None:
    """Given instances that are given every event, as from Redis, each counts as new what it merged first."""
    beats = [event("worker-heartbeat", at=TIME + 2 * number) for number in range(3)]
    quiet = [decode(beat, level=LogLevel.INFO) for beat in beats]
    first = [one.apply_batch(batch) for batch in quiet]
    second = [two.apply_batch(batch) for batch in quiet]

    assert [(applied.new, applied.repeated) for applied in first] == [(1, 0)] * 3
    assert [(applied.new, applied.repeated) for applied in second] == [(0, 1)] * 3


def test_one_command_removes_all_of_one_node_id(store_url: str) -> None:
    """Given the keys of an instance, some with bytes that are no text, and those of a node_id that begins like its own,
    the command in the Ansible role's README removes the first and leaves the second.
    """
    readme = (Path(__file__).resolve().parents[2] / "ansible/README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^redis-cli -c (eval .*)$", readme, re.MULTILINE)
    Instance(store_url).start().apply(event("task-received"), event("worker-online"), event("worker-heartbeat"))
    redis = Inside(store_url).redis
    redis.set("{ha-monitor:tests}:s:a\nb\0c", "")
    redis.set("{ha-monitor:tests2}:t:1", "")

    redis.execute_command(*shlex.split(line.replace("{ha-monitor:ha-monitor}", "{ha-monitor:tests}")))

    assert redis.keys() == [b"{ha-monitor:tests2}:t:1"]


def test_what_is_requeued_is_waited_for_though_the_clock_was_put_back(store_url: str, inside: Inside) -> None:
    """Given messages that the broker may hold for a minute, and then a step of the clock by an hour, they are waited
    for that long, and not for the hour."""
    one = Instance(store_url, requeue_delay=60.0).start()
    one.store.tick(b"{}", [], watermark_age=0.0, requeued=True)

    inside.put_clock_back(3600)
    one.store.tick(b"{}", [], watermark_age=0.0)

    ahead = int(inside.redis.get(inside.keys.requeued)) / 1000 - inside.redis.time()[0]
    assert 30 < ahead <= 61
