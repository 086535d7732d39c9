"""Whatever the order, the repetition, the cuts and the crashes: the same facts, and each event announced.

The scripts run in a real Redis. Hypothesis chooses histories, and how they are delivered.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_monitor.config.schema import Config
from ha_monitor.events.facts import event_id
from ha_monitor.store.memory.record import memory_record
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.record import Facts, state_of
from tests.integration.storing import Inside, Instance
from tests.support.recording import read_stream
from tests.unit.builders import TIME, TurnedClock, decode, event

# The fixtures are connections; every example empties the database.
PROFILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
INSTANCES = 4
Body = dict[str, Any]


@pytest.fixture
def instances(store_url: str) -> list[Instance]:
    return [Instance(store_url) for _ in range(INSTANCES)]


def anew(instances: Iterable[Instance], inside: Inside) -> None:
    """An empty store, and instances that have just been started."""
    inside.redis.flushdb()
    for instance in instances:
        instance.begin_anew()


def id_of(body: Body) -> str:
    return event_id(body, body["timestamp"]).hex()


def ids(items: Iterable[OutboxItem]) -> Counter[str]:
    return Counter(item.entry.event.id for item in items)


# --- what is generated ---------------------------------------------------------------------

# Few times, so that ties are frequent.
times = st.integers(0, 6).map(lambda second: TIME + second)
names = st.sampled_from(["shop.pay", "shop.ship", "mail.send"])
small = st.integers(0, 3)


@st.composite
def events_of(draw: st.DrawFn, uuid: str) -> Body:
    """An event of a task, with fields that contradict those of other events now and then."""
    kind = draw(
        st.sampled_from(
            [
                *("task-sent", "task-received", "task-received", "task-started", "task-started", "task-succeeded"),
                *("task-failed", "task-retried", "task-rejected", "task-revoked", "task-custom"),
            ]
        )
    )
    changes: Body = {"hostname": draw(st.sampled_from(["celery@a", "celery@b"])), "clock": draw(small)}
    if kind in ("task-sent", "task-received"):
        changes |= {"name": draw(names), "retries": draw(small), "args": draw(st.sampled_from(["()", "(1,)"]))}
        changes |= {"parent_id": draw(st.sampled_from([None, "p", "q"]))}
    if kind == "task-sent":
        changes |= {"queue": draw(st.sampled_from(["celery", "mail", None]))}
    if kind == "task-succeeded":
        changes |= {"runtime": draw(st.sampled_from([None, 0.0, 0.5, 2]))}
    if kind in ("task-failed", "task-retried"):
        changes |= {"exception": draw(st.sampled_from(["A()", "B()", "é", "e"]))}
    if kind == "task-rejected":
        changes |= {"requeue": draw(st.booleans())}
    return event(kind, at=draw(times), uuid=uuid, **changes)


@st.composite
def histories(draw: st.DrawFn) -> list[Body]:
    """The different events of one to three tasks."""
    events: dict[str, Body] = {}
    for uuid in ["t1", "t2", "t3"][: draw(st.integers(1, 3))]:
        for body in draw(st.lists(events_of(uuid), min_size=1, max_size=9)):
            events.setdefault(id_of(body), body)
    return list(events.values())


@st.composite
def deliveries(draw: st.DrawFn, history: Sequence[Body]) -> list[tuple[int, list[Body]]]:
    """Each event at least once, in any order, cut into batches for any instances."""
    repeated = draw(st.lists(st.sampled_from(history), max_size=8))
    order = draw(st.permutations([*history, *repeated]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=6)) | {len(order)})
    number = draw(st.integers(2, INSTANCES))
    batches, start = [], 0
    for stop in cuts:
        batches.append((draw(st.integers(0, number - 1)), order[start:stop]))
        start = stop
    return batches


def canonical(inside: Inside, uuids: Iterable[str]) -> dict[str, tuple[bytes, bytes, int]]:
    """What the store knows of the tasks, as bytes: facts with sorted keys, ids seen, announcements that wait."""
    known = {}
    for uuid in uuids:
        facts, seen, waiting = inside.record(uuid)
        if "sw" in facts:
            facts["sw"].sort()  # runs that wait for the name, in the order in which they came
        known[uuid] = (json.dumps(facts, sort_keys=True).encode(), seen, waiting)
    return known


def uuids_of(history: Iterable[Body]) -> set[str]:
    return {body["uuid"] for body in history if "uuid" in body}


def defined(history: Iterable[Body]) -> set[str]:
    """The tasks of which an event with the name is in the history."""
    return {body["uuid"] for body in history if body["type"] in ("task-sent", "task-received")}


# --- the properties ------------------------------------------------------------------------


@PROFILE
@given(st.data())
def test_any_delivery_gives_the_same_facts_and_each_line_once(
    instances: list[Instance], inside: Inside, data: st.DataObject
) -> None:
    """Given any history, delivered in any order with any repetition to any instances, the facts are the same to the
    byte, each event is announced exactly once, nothing waits in the end, and a name that was in the set is in the
    lines.
    """
    history = data.draw(histories())
    anew(instances, inside)
    instances[0].apply(sorted(history, key=id_of))
    instances[0].tick()
    expected = canonical(inside, uuids_of(history))

    anew(instances, inside)
    for number, bodies in data.draw(deliveries(history)):
        instances[number].apply(bodies)
    inside.let_wait_end()
    instances[-1].tick()

    items = [item for instance in instances for item in instance.emitted]
    assert canonical(inside, uuids_of(history)) == expected
    assert all(waiting == 0 for _, _, waiting in expected.values())
    assert inside.redis.zcard(inside.keys.waiting) == 0
    assert ids(items) == Counter(map(id_of, history))
    for item in items:
        uuid = item.entry.event.task_id
        assert item.entry.facts is not None
        assert item.entry.incomplete == (uuid not in defined(history)), item
        assert (item.entry.facts.name is not None) == (uuid in defined(history))


@PROFILE
@given(st.data())
def test_the_store_in_memory_merges_as_the_scripts_do(
    instances: list[Instance], inside: Inside, data: st.DataObject
) -> None:
    """Given the same batches, whatever is in them, the store in memory, with which the loop is tested and simulated,
    finds the same events new, announces the same in the end, and knows the same of each task."""
    history = data.draw(histories())
    anew(instances, inside)
    server = MemoryServer(TurnedClock())
    memories = [memory_record(server, Config()).store for _ in instances]
    for store in memories:
        store.dial().use()
        store.register({"instance": "1"})
    announced: list[OutboxItem] = []
    for number, bodies in data.draw(deliveries(history)):
        real = instances[number].apply(bodies)
        memories[number].send_apply(decode(bodies))
        simulated = memories[number].receive_apply()
        announced += simulated.items
        assert (simulated.new, simulated.repeated) == (real.new, real.repeated)
    inside.let_wait_end()
    instances[-1].tick()
    now = server.clock.time()
    for task in server.tasks.values():
        task.let_wait_end()
        announced += [OutboxItem(0, entry) for entry in task.announce(0.0, now, waited_enough=now)]

    items = [item for instance in instances for item in instance.emitted]
    assert ids(announced) == ids(items)
    for uuid in uuids_of(history):
        real_facts = msgspec.convert(inside.record(uuid)[0], Facts, strict=False)
        facts = server.tasks[uuid].facts
        assert state_of(facts) == state_of(real_facts)
        assert (facts.name is None) == (real_facts.name is None)
        # Which of two definitions of the same microsecond counts, it does not know.
        for field in ("received_count", "started_count", "retried_count", "retries", "sent", "received", "started"):
            assert getattr(facts, field) == getattr(real_facts, field), field


@PROFILE
@given(st.data())
def test_crashes_lose_nothing(instances: list[Instance], inside: Inside, data: st.DataObject) -> None:
    """Given instances that vanish after any call, break their connection, or repeat a call because its reply was
    lost, each event is announced at least once, and by instances that did not vanish exactly once.
    """
    history = data.draw(histories())
    anew(instances, inside)
    living = list(instances)
    announced: list[OutboxItem] = []
    for number, bodies in data.draw(deliveries(history)):
        instance = living[number % len(living)]
        fate = data.draw(st.sampled_from(["well", "well", "reply lost", "connection lost", "vanish", "freeze"]))
        if fate == "freeze" and len(living) > 1:
            # It merged, froze before it announced, and its outbox is taken over; its messages come again.
            instance.apply(bodies, announce=False)
            inside.let_lease_end(instance.store.token)
            living.remove(instance)
            living[0].stay_in_contact()
            announced += instance.emitted
        elif fate == "vanish" and len(living) > 1:
            instance.apply(bodies, announce=False)
            inside.let_lease_end(instance.store.token)
            living.remove(instance)
            announced += instance.emitted
            # The broker delivers again what was not acknowledged.
            living[0].apply(bodies)
        elif fate == "reply lost":
            instance.apply(bodies, announce=False)
            instance.recover()
            instance.apply(bodies)
        elif fate == "connection lost":
            instance.recover()
            instance.apply(bodies)
        else:
            instance.apply(bodies)
    for instance in living:
        instance.store.flush()
        instance.store.flush()
    living[0].stay_in_contact()
    # While a lease ran out unnoticed, names were waited for longer.
    inside.let_wait_end()
    living[0].tick()

    for instance in living:
        announced += instance.emitted
    assert ids(announced) == Counter(map(id_of, history))
    assert inside.redis.zcard(inside.keys.waiting) == 0
    assert inside.redis.zcard(inside.keys.leases) == len(living)


@PROFILE
@given(st.data())
def test_every_call_may_be_repeated(instances: list[Instance], inside: Inside, data: st.DataObject) -> None:
    """Given replies that are lost, so that each call is made twice, Redis holds what it would hold after one."""
    history = data.draw(histories())
    batches = data.draw(deliveries(history))
    outcomes = []
    for calls in (1, 2):
        anew(instances, inside)
        for number, bodies in batches:
            instance, store = instances[number], instances[number].store
            items = []
            for _ in range(calls):
                items += instance.apply(bodies, announce=False).items
            if items:
                retry = (10**9, items[0].entry.event.id.encode())
                for _ in range(calls):
                    store.record_outcome(items[-1].sequence + 1, [retry], [b'"dead"'], 100)
        left = sorted(inside.outbox(instance.store.token) for instance in instances)
        for uuid in inside.redis.zrange(inside.keys.waiting, 0, -1):
            inside.redis.zadd(inside.keys.waiting, {uuid: 1})
        for _ in range(calls):
            instances[1].tick(announce=False)
        due = inside.outbox(instances[1].store.token)
        for _ in range(calls):
            instances[1].store.unregister()
        outcomes.append(
            (
                canonical(inside, uuids_of(history)),
                (left, due),
                inside.redis.zcard(inside.keys.waiting),
                sorted(inside.redis.zrange(inside.keys.retries, 0, -1)),
                inside.redis.llen(inside.keys.dead_letters),
                inside.redis.zcard(inside.keys.leases),
            )
        )

    assert outcomes[0] == outcomes[1]


# --- what real workers sent ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_recorded_stream_shuffled_and_doubled(instances: list[Instance], inside: Inside, seed: int) -> None:
    """Given what real workers and producers sent, shuffled, with a tenth delivered twice, and dealt to three
    instances in batches of all sizes: the facts are those of the orderly stream, and each event is announced once.
    """
    messages = [message.events for message in read_stream("small")]
    stream = [body for bodies in messages for body in bodies]
    anew(instances, inside)
    for start in range(0, len(messages), 200):
        instances[0].apply(*messages[start : start + 200])
    inside.let_wait_end()
    instances[0].tick()
    expected = canonical(inside, uuids_of(stream))
    total = ids(instances[0].emitted)

    anew(instances, inside)
    chance = random.Random(seed)
    shuffled = messages + chance.sample(messages, len(messages) // 10)
    chance.shuffle(shuffled)
    while shuffled:
        size = chance.choice([1, 2, 10, 100])
        instances[chance.randrange(3)].apply(*shuffled[:size])
        del shuffled[:size]
    inside.let_wait_end()
    instances[3].tick()

    items = [item for instance in instances for item in instance.emitted]
    assert canonical(inside, uuids_of(stream)) == expected
    assert all(waiting == 0 for _, _, waiting in expected.values())
    heartbeats = {id_of(body) for body in stream if body["type"] == "worker-heartbeat"}
    assert {id: count for id, count in total.items() if id not in heartbeats} == Counter(
        id_of(body) for body in stream if body["type"] != "worker-heartbeat"
    )
    assert ids(items) == total
    named = {item.entry.event.task_id for item in items if item.entry.facts and item.entry.facts.name}
    assert defined(stream) <= named
    assert not [i for i in items if i.entry.incomplete and i.entry.event.task_id in defined(stream)]


def test_the_generated_histories_reach_what_matters() -> None:
    """Given the generator, ties, contradictions, ends and tasks without a name all occur: else the rest proves
    little.
    """
    seen: Counter[str] = Counter()

    @settings(PROFILE, max_examples=100)
    @given(histories())
    def look(history: list[Body]) -> None:
        stamps = Counter((body["uuid"], body["timestamp"]) for body in history)
        ends = [body for body in history if body["type"] in ("task-succeeded", "task-failed", "task-revoked")]
        seen["tie"] += any(count > 1 for count in stamps.values())
        seen["nameless"] += bool(uuids_of(history) - defined(history))
        named = {(body["uuid"], body["name"]) for body in history if "name" in body}
        seen["two names"] += len(named) > len(defined(history))
        seen["two ends"] += len(ends) > len({body["uuid"] for body in ends})
        assert decode(history).rejected == []

    look()

    assert min(seen[kind] for kind in ("tie", "nameless", "two names", "two ends")) > 5, seen
