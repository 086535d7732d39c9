"""Wrong clocks of workers and producers: no line says a wrong wait, and tasks are judged by the clock of the store."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.outputs.line import EventLine, Identity, build_line
from ha_monitor.store.duties import Duties
from ha_monitor.store.queries import Queries
from ha_monitor.store.queue_flow import QueueWait
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.results import Counting, StuckTask, Watching
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.integration.test_agreement import found as disagreements
from tests.integration.test_counting import BUCKETS, samples
from tests.integration.test_stuck import Leader
from tests.support.process import wait_until
from tests.unit.builders import UUID, event

WAIT = "celery_task_queue_wait_time"
WORKER, PRODUCER, SAME_HOST = "celery@host", "gen4711@shop", "gen4711@host"
HOURS = 7200.0


class Clocks(NamedTuple):
    """By how many seconds the clocks of a task's senders are ahead."""

    producer: float = 0.0
    worker: float = 0.0


def run(clocks: Clocks, *, began: float | None = None, wait: float = 2.0, **sent: Any) -> list[dict[str, Any]]:
    """The events of a task that waits and then succeeds.

    :param began: when it was sent; by default so long ago that it has just ended.
    """
    began = time.time() - wait - 1 if began is None else began
    at_worker = began + clocks.worker
    return [
        event("task-sent", at=began + clocks.producer, hostname=PRODUCER, **sent),
        event("task-received", at=at_worker + 0.5, **{k: v for k, v in sent.items() if k == "eta"}),
        event("task-started", at=at_worker + wait),
        event("task-succeeded", at=at_worker + wait + 0.5),
    ]


def counter(url: str, name: str = "host/1") -> Instance:
    """An instance that counts, and knows that the producers send task-sent."""
    made = Instance(url, counting=Counting(name, BUCKETS)).start()
    made.apply(*(event("task-sent", uuid=f"other {name} {retries}", retries=retries) for retries in (0, 1)))
    return made


def lines_of(*instances: Instance) -> list[EventLine]:
    items = [item for one in instances for item in one.emitted if item.entry.event.task_id == UUID]
    return [build_line(item, Identity("shop", "1", "host", 1), "") for item in items]


def told(*instances: Instance) -> dict[str, float]:
    """The wait in the line of each type of event."""
    lines = lines_of(*instances)
    return {line.event: line.queue_time for line in lines if isinstance(line.queue_time, float)}


def know(inside: Inside, ahead: float, *workers: str) -> None:
    """As if the leader had found the clocks of workers to be wrong."""
    for worker in workers:
        inside.redis.hset(inside.keys.skewed, worker, int(-ahead * 1000))


def catch_up(inside: Inside, ago: float = 1.0) -> None:
    """As if the queue of events had been empty so many seconds ago, and all of it merged."""
    inside.redis.set(inside.keys.caught_up, int((time.time() - ago) * 1000))


# --- waits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [HOURS, -HOURS, 65.0, -65.0])
def test_a_wait_is_right_where_the_worker_s_clock_is_known(store_url: str, inside: Inside, ahead: float) -> None:
    """Given a worker whose clock is known to be wrong, lines and metric have the wait by right clocks."""
    one = counter(store_url)
    know(inside, ahead, WORKER)
    one.apply(*run(Clocks(worker=ahead)))

    assert told(one) == {"task-started": pytest.approx(2.0), "task-succeeded": pytest.approx(2.0)}
    found = samples(one)
    assert found.sum(f"{WAIT}_count") == 1
    assert found.sum(f"{WAIT}_sum") == pytest.approx(2.0)
    assert found.sum("ha_monitor_clock_skew_total") == 0


@pytest.mark.parametrize(
    "clocks",
    [
        Clocks(worker=HOURS),
        Clocks(worker=-HOURS),
        Clocks(producer=HOURS),
        Clocks(producer=-HOURS),
        Clocks(HOURS, -HOURS),
        Clocks(-HOURS, HOURS),
    ],
)
def test_no_wait_is_told_before_a_wrong_clock_is_known(store_url: str, inside: Inside, clocks: Clocks) -> None:
    """Given a wrong clock by which nobody knows how much, no line has a wait, and none is observed."""
    one = counter(store_url)
    catch_up(inside)
    one.apply(*run(clocks))

    assert told(one) == {}
    assert samples(one).sum(f"{WAIT}_count") == 0


def test_a_start_long_before_its_sending_has_no_wait(store_url: str) -> None:
    """Given events that may have waited, so that they prove no clock wrong, a start that came before its sending by
    more than clocks differ has no wait; the metric of clocks has it.
    """
    one = counter(store_url)
    one.apply(*run(Clocks(worker=-HOURS)))

    assert told(one) == {}
    found = samples(one)
    assert found.sum(f"{WAIT}_count") == 0
    assert found.sum("ha_monitor_clock_skew_seconds_total") == pytest.approx(HOURS - 2)


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
@pytest.mark.parametrize("known", [True, False], ids=["known", "not known"])
def test_one_host_with_a_wrong_clock_has_the_right_wait_or_none(
    store_url: str, inside: Inside, ahead: float, known: bool
) -> None:
    """Given a producer on the host of a worker, both wrong, the wait is right if the worker's clock is known."""
    one = counter(store_url)
    catch_up(inside)
    if known:
        know(inside, ahead, WORKER)
    sent, *rest = run(Clocks(ahead, ahead))
    one.apply(sent | {"hostname": SAME_HOST}, *rest)

    assert told(one) == (dict.fromkeys(("task-started", "task-succeeded"), pytest.approx(2.0)) if known else {})


def test_another_producer_with_the_same_wrong_clock_is_not_corrected_by_half(store_url: str, inside: Inside) -> None:
    """Given a producer on another host whose clock is wrong as the worker's is, and not known, there is no wait."""
    one = counter(store_url)
    catch_up(inside)
    know(inside, -HOURS, WORKER)
    one.apply(*run(Clocks(-HOURS, -HOURS)))

    assert told(one) == {}


def test_a_right_producer_on_the_host_of_a_wrong_worker_is_right(store_url: str, inside: Inside) -> None:
    """Given a worker with a clock of its own, such as in a container, a producer of that host keeps its time."""
    one = counter(store_url)
    know(inside, HOURS, WORKER)
    sent, *rest = run(Clocks(worker=HOURS))
    one.apply(sent | {"hostname": SAME_HOST}, *rest)

    assert told(one)["task-started"] == pytest.approx(2.0)


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
def test_without_task_sent_one_clock_measures_the_wait(store_url: str, inside: Inside, ahead: float) -> None:
    """Given no task-sent, the wait is from receipt to start, by the clock of the worker, wrong as it is."""
    one = Instance(store_url).start()
    catch_up(inside)
    one.apply(*run(Clocks(worker=ahead))[1:])

    assert told(one)["task-started"] == pytest.approx(1.5)


@pytest.mark.parametrize(("ahead", "wait"), [(HOURS, 0.0), (-HOURS, HOURS - 8)])
def test_a_wait_from_an_eta_is_by_the_store_s_clock(store_url: str, inside: Inside, ahead: float, wait: float) -> None:
    """Given an eta, a worker that is ahead begins too early and has made nobody wait; one that is behind is late."""
    one = counter(store_url)
    know(inside, ahead, WORKER)
    began = time.time() - HOURS - 20 if ahead < 0 else time.time() - 5
    due = datetime.fromtimestamp(began + 10, UTC).isoformat()
    # By its own clock, that which is behind starts it in time.
    events = run(Clocks(worker=ahead), began=began, wait=2.0 if ahead > 0 else HOURS + 2, eta=due)
    one.apply(*events)

    assert told(one)["task-started"] == pytest.approx(wait, abs=0.01)


def test_events_of_right_clocks_that_had_to_wait_keep_their_waits(store_url: str, inside: Inside) -> None:
    """Given events that waited in the queue for hours while no instance ran, their tasks have their waits."""
    one = counter(store_url)
    catch_up(inside, ago=3 * HOURS)
    one.apply(*run(Clocks(), began=time.time() - HOURS))

    assert told(one)["task-succeeded"] == pytest.approx(2.0)


def test_a_clock_that_was_put_right_is_believed_at_once(store_url: str, inside: Inside) -> None:
    """Given a worker of which the leader still says that its clock is wrong, what fits only the right time is right."""
    one = counter(store_url)
    catch_up(inside)
    know(inside, -HOURS, WORKER)
    one.apply(*run(Clocks()))

    assert told(one)["task-started"] == pytest.approx(2.0)


def retried(clocks: Clocks) -> list[dict[str, Any]]:
    """The events of a task that a worker with its own clock retries, and ends."""
    now = time.time()  # once, or the waits would tell how long this machine took in between
    first, second = run(clocks, began=now - 3.0)[:3], run(clocks, began=now - 4.0, wait=3.0)
    at = second[0]["timestamp"] - clocks.producer + clocks.worker
    again = event("task-sent", at=at, hostname=SAME_HOST, retries=1)
    earlier = [body | {"timestamp": body["timestamp"] - 8, "clock": body["clock"] + 17} for body in first]
    close = event("task-retried", at=at + 0.1)
    return [*earlier, again, close, second[1] | {"retries": 1}, *second[2:]]


def merged(url: str, inside: Inside, clocks: Clocks, order: Sequence[int], instances: int) -> tuple[Any, ...]:
    """The waits in all lines and in the metric, of events that come in an order: to one instance at once, or dealt out
    one by one.
    """
    inside.redis.flushdb()
    if clocks.worker:
        know(inside, clocks.worker, WORKER)
    catch_up(inside)
    made = [counter(url, f"host/{name}") for name in range(instances)]
    events = retried(clocks)
    if instances == 1:
        made[0].apply(*(events[index] for index in order))
    else:
        for turn, index in enumerate(order):
            made[turn % len(made)].apply(events[index])
    told_waits = [(line.event, line.queue_time) for line in lines_of(*made)]
    waits = sorted((kind, round(wait, 2)) for kind, wait in told_waits if isinstance(wait, float))
    found = samples(*made)
    return waits, found.sum(f"{WAIT}_count"), round(found.sum(f"{WAIT}_sum"), 2)


ORDERS = [random.Random(seed).sample(range(8), 8) for seed in range(3)]


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
@pytest.mark.parametrize("instances", [1, 2, 3])
def test_a_known_clock_changes_no_wait_in_any_order(
    store_url: str, inside: Inside, ahead: float, instances: int
) -> None:
    """Given a retried task whose worker, which also sends the retry, has a wrong clock that is known, lines and metric
    have the waits of right clocks, in whichever order the events come, and to whom.
    """
    for order in ORDERS:
        right = merged(store_url, inside, Clocks(), order, instances)
        assert merged(store_url, inside, Clocks(worker=ahead), order, instances) == right


def test_what_is_told_of_unknown_clocks_does_not_depend_on_order(store_url: str, inside: Inside) -> None:
    """Given a producer whose clock is wrong, the first run has no wait and the retry has its own, in any order."""
    # Of one worker the start of a run comes behind its receipt and before the next run.
    orders = [range(8), (1, 2, 0, 4, 5, 3, 6, 7), (3, 1, 7, 2, 4, 5, 6, 0)]
    found = [merged(store_url, inside, Clocks(producer=HOURS), order, n) for order in orders for n in (1, 3)]

    assert found == [found[0]] * len(found)
    assert found[0] == ([("task-started", 3.0), ("task-succeeded", 3.0)], 1, 3.0)


@pytest.mark.parametrize(
    ("kinds", "clocks", "most"),
    [(1, Clocks(), 0), (4, Clocks(), 0), (1, Clocks(producer=HOURS), 30), (4, Clocks(producer=HOURS), 30)],
)
def test_right_clocks_cost_no_memory(store_url: str, inside: Inside, kinds: int, clocks: Clocks, most: int) -> None:
    """Given right clocks, a record has nothing more; one of a producer that is wrong has at most 30 bytes more."""
    one = counter(store_url)
    one.apply(*run(clocks)[:kinds])
    with_clocks = inside.redis.strlen(inside.keys.task(UUID))
    facts = inside.record(UUID)[0]
    inside.redis.flushdb()
    again = counter(store_url)
    again.apply(*run(Clocks())[:kinds])

    assert ("ck" in facts, "cm" in facts) == (most > 0, most > 0)
    assert with_clocks - inside.redis.strlen(inside.keys.task(UUID)) <= most


# --- tasks that go no further ----------------------------------------------------------------

SOON = StuckSettings(sent_after=1, received_after=1, started_after=1, run_time_factor=0)
LATER = StuckSettings(sent_after=3600, received_after=3600, started_after=3600, run_time_factor=0)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)])
def test_a_task_is_found_when_its_time_is_over_whatever_clocks_are_ahead(store_url: str, first: int, last: int) -> None:
    """Given a task that is sent, received or started and hangs, with or without task-sent, and clocks two hours ahead,
    it is found when its limit is over, not two hours later; the line has its age by the store's clock.
    """
    leader = Leader(store_url, SOON)
    leader.lead()
    leader.instance.apply(*run(Clocks(HOURS, HOURS))[first:last])

    candidates = wait_until(leader.found, 30, "the candidate", 0.1)

    assert [one.task_id for one in candidates] == [UUID]
    confirmation = StuckTask(candidates[0].phase, ["worker"], 1)
    assert leader.confirm((candidates[0], confirmation)) == ["task-stuck"]
    assert 1 <= leader.instance.emitted[-1].entry.event.fields["seconds"] < 60


@pytest.mark.parametrize("kinds", [1, 2, 3], ids=["sent", "received", "started"])
def test_a_task_is_not_found_at_once_because_clocks_are_behind(store_url: str, inside: Inside, kinds: int) -> None:
    """Given clocks that are two hours behind, and nobody knows it yet, a task of this minute is not overdue."""
    leader = Leader(store_url, LATER)
    leader.lead()
    catch_up(inside)
    leader.instance.apply(*run(Clocks(-HOURS, -HOURS))[:kinds])
    leader.instance.apply(event("task-sent", uuid="of right clocks", at=time.time() - HOURS, hostname="gen1@other"))
    inside.redis.delete(inside.keys.caught_up)
    leader.instance.apply(event("task-sent", uuid="that waited", at=time.time() - HOURS, hostname="gen1@other"))

    assert [one.task_id for one in leader.found()] == ["that waited"]


def test_the_leader_keeps_since_when_all_is_merged(store_url: str, inside: Inside) -> None:
    """Given a watermark of the fleet, events from before it are of wrong clocks; not while there is none."""
    one = Instance(store_url).start()
    one.store.tick(b"{}", [], watermark_age=0.0)

    def look(watermark: tuple[float, float] | None) -> int | None:
        Duties(one.store).watch(Watching(10, 60), [], may_declare_lost=True, watermark=watermark)
        text = inside.redis.get(inside.keys.caught_up)
        return text and int(text)

    assert look(None) is None
    assert look((2.0, 0.0)) == pytest.approx((time.time() - 2) * 1000, abs=30_000)


# --- what waits ------------------------------------------------------------------------------

MINUTES = 600.0


def waits(url: str) -> QueueWait:
    (found,) = queries(url).queue_waits(["mail"])
    return found


def queries(url: str) -> Queries:
    reader = StoreReader(settings(url), NODE)
    reader.connect()
    return reader.queries


@pytest.mark.parametrize("ahead", [MINUTES, -MINUTES])
def test_a_queue_is_not_older_or_younger_than_it_is_because_of_a_producer(
    store_url: str, inside: Inside, ahead: float
) -> None:
    """Given a producer whose clock is wrong, nobody knows by how much, its task waits since it came, by the store's
    clock, also once a worker has received it: it is neither late at once nor one for later. It comes into the queue
    then, too, and is not in it once it has started."""
    one = Instance(store_url).start()
    catch_up(inside)
    began = time.time() - 3
    sent, received, started = run(Clocks(producer=ahead), began=began, queue="mail")[:3]
    one.apply(sent)

    first = waits(store_url)
    assert (first.waiting, first.later) == (1, 0)
    assert first.oldest == pytest.approx(began, abs=30)
    assert queries(store_url).queue_flow(["mail"], began - 120, began + 120)[0].came == 1
    one.apply(received)
    second = waits(store_url)
    assert (second.waiting, second.later) == (1, 0)
    assert second.oldest == pytest.approx(began, abs=30)
    one.apply(started)
    assert waits(store_url) == QueueWait(0, None, 0)
    assert inside.redis.zcard(inside.keys.waits) == 0


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
def test_a_queue_is_as_old_as_a_known_clock_says(store_url: str, inside: Inside, ahead: float) -> None:
    """Given a producer on the host of a worker whose wrong clock is known, its task waits since it was sent, by the
    store's clock, also once it was received."""
    one = Instance(store_url).start()
    catch_up(inside, ago=MINUTES)
    know(inside, ahead, WORKER)
    began = time.time() - MINUTES
    sent, received = run(Clocks(ahead, ahead), began=began, queue="mail")[:2]
    for body in (sent | {"hostname": SAME_HOST}, received | {"timestamp": time.time() + ahead}):
        one.apply(body)

        assert waits(store_url) == (1, pytest.approx(began, abs=0.002), 0)


def test_a_right_producer_s_task_waits_since_it_was_sent_whatever_its_worker_s_clock(
    store_url: str, inside: Inside
) -> None:
    """Given a right producer, and a worker with a wrong clock that has received its task and then retries it, it waits
    since it was sent, and from its retry on since that, by the store's clock."""
    one = Instance(store_url).start()
    catch_up(inside, ago=MINUTES)
    know(inside, HOURS, WORKER)
    began = time.time() - MINUTES
    sent, received, started, _ = run(Clocks(worker=HOURS), began=began, queue="mail")
    one.apply(sent, received)
    assert waits(store_url) == (1, pytest.approx(began, abs=0.002), 0)

    one.apply(started, event("task-retried", at=began + 60 + HOURS))

    assert waits(store_url) == (1, pytest.approx(began + 60, abs=0.002), 0)


@pytest.mark.parametrize("ahead", [MINUTES, -MINUTES])
def test_what_an_earlier_version_said_of_a_wait_is_no_disagreement_and_goes(
    store_url: str, inside: Inside, ahead: float
) -> None:
    """Given a task of a wrong producer, records and index agree, also where an earlier version has written the time as
    the producer said it; another time is told of. The entry goes when the task starts."""
    one = Instance(store_url).start()
    catch_up(inside)
    began = time.time()
    sent, _, started, _ = run(Clocks(producer=ahead), began=began, queue="mail")
    one.apply(sent)
    assert disagreements(one, inside, keeps_open=False) == []
    (score,) = (score for _, score in inside.redis.zrange(inside.keys.waits, 0, -1, withscores=True))
    earlier = score // 2**42 * 2**42 + int(sent["timestamp"] * 1_000_000) // 1000
    inside.redis.zadd(inside.keys.waits, {UUID: earlier})
    assert disagreements(one, inside, keeps_open=False) == []

    inside.redis.zadd(inside.keys.waits, {UUID: earlier + 1})
    assert [told.what for told in disagreements(one, inside, keeps_open=False)] == [
        "in waits with another queue or time"
    ]
    inside.redis.zadd(inside.keys.waits, {UUID: earlier})
    one.apply(started)
    assert inside.redis.zcard(inside.keys.waits) == 0
