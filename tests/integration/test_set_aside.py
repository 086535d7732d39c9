"""A message that kills every instance that gets it, on real brokers' redeliveries and a real store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from ha_monitor.pipeline.redeliveries import SET_ASIDE_AFTER
from ha_monitor.store.attempts import MAX_SET_ASIDE, RedisAttempts
from ha_monitor.store.keys import Keys
from tests.integration.storing import Instance as StoreInstance
from tests.support.instances import Fleet, queue_depth
from tests.support.ledger import Published, assert_guarantee
from tests.support.measured import Measured
from tests.support.poisoned import POISON
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish, read_stream, replicate

HEARTBEAT = Recorded(
    "worker.heartbeat",
    "application/json",
    "utf-8",
    json.dumps(
        {"type": "worker-heartbeat", "hostname": "celery@beats", "pid": 1, "clock": 1, "timestamp": time.time()}
    ),
)
LAUNCHER = ("tests.support.poisoned",)


@contextmanager
def kept_alive(fleet: Fleet) -> Iterator[None]:
    """A fleet whose dead instances are started again, as systemd would, while a test waits."""
    for instance in fleet.instances:
        instance.start(launcher=LAUNCHER)
    with fleet:
        yield


def start_the_dead(fleet: Fleet) -> int:
    """Start what has died; returns how many that were."""
    dead = [instance for instance in fleet.instances if not instance.running]
    for instance in dead:
        instance.start(launcher=LAUNCHER)
    return len(dead)


def test_a_message_that_kills_everybody_costs_no_other_event(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given a message that kills whoever decodes it, among good ones, when two instances are started again and again,
    it is set aside after some deaths, with a line and for looking at; all other events are announced, and the queue is
    empty."""
    messages = list(replicate(read_stream("small"), 1, start=time.time()))[:600]
    published = Published(messages)
    poison = Recorded(
        "task.sent", "application/json", "utf-8", json.dumps({"type": POISON.decode(), "password": "pw1"})
    )
    messages.insert(300, poison)
    fleet = Fleet(tmp_path, broker_url, store_url, size=2)
    deaths = 0
    begun = time.monotonic()
    with kept_alive(fleet):
        fleet.wait_until_consuming()
        publish(broker_url, messages)

        def set_aside() -> bool:
            nonlocal deaths
            deaths += start_the_dead(fleet)
            # As every worker sends it; without any other message there is nobody whom the deadly one could harm.
            publish(broker_url, [HEARTBEAT])
            return bool(fleet.said("message-set-aside"))

        wait_until(set_aside, 120, "the message being set aside", 0.2)
        took = time.monotonic() - begun
        start_the_dead(fleet)
        wait_until(lambda: published.are_in(list(fleet.lines())), 60, "all others", 0.1)
        account = fleet.account(published)
        wait_for_value(lambda: queue_depth(broker_url), 0, 30, "an empty queue", 0.1)
    measured("until a message that kills everybody is set aside", f"{deaths} deaths in {took:.0f} s")

    assert deaths > SET_ASIDE_AFTER
    assert account.lost == 0
    assert_guarantee(account, may_double=True)
    (line,) = fleet.said("message-set-aside")
    assert (line["level"], line["attempts"], line["size"]) == ("error", SET_ASIDE_AFTER, len(poison.body))
    (kept,) = redis.Redis.from_url(store_url).lrange(Keys("ha-monitor", "fleet").set_aside, 0, -1)
    assert json.loads(kept)["sample"] == '{"type": "poison", "password": ***}'


def test_attempts_are_shared_and_forgotten(one: StoreInstance, two: StoreInstance) -> None:
    """Given two instances, each sees what the other began; what succeeded is forgotten."""
    mine, theirs = RedisAttempts(one.store), RedisAttempts(two.store)

    assert mine.begin(["a", "b"], 3) == [0, 0]
    assert theirs.begin(["b", "c"], 3) == [1, 0]
    assert mine.begin(["a", "b", "c"], 2) == [1, 2, 1]
    assert theirs.begin(["a", "b", "c"], 2) == [2, 2, 2]
    mine.succeeded(["b"])
    assert theirs.begin(["a", "b"], 9) == [2, 0]


def test_attempts_do_not_stay_for_ever(one: StoreInstance, store_url: str) -> None:
    """Given an attempt whose message never came again, the store forgets it after a day."""
    RedisAttempts(one.store).begin(["a"], 3)

    left = redis.Redis.from_url(store_url).ttl(one.store.keys.attempt("a"))
    assert 0 < left <= 24 * 3600


def test_only_the_newest_messages_set_aside_are_kept(one: StoreInstance, store_url: str) -> None:
    """Given more messages than are kept, the oldest go."""
    for number in range(MAX_SET_ASIDE + 5):
        RedisAttempts(one.store).set_aside("a", b"%d" % number)

    kept = redis.Redis.from_url(store_url).lrange(one.store.keys.set_aside, 0, -1)
    assert kept == [b"%d" % number for number in range(MAX_SET_ASIDE + 4, 4, -1)]
