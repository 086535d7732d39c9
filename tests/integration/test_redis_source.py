"""The source on a real Redis broker: pub/sub, which must be noticed when it is silently gone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Message
from tests.support import corpus
from tests.support.machine import Timed, patient
from tests.support.proxy import CutLink
from tests.support.recording import Recorded, publish
from tests.support.services import PrivateRedis, wait_until
from tests.support.threads import no_thread_left, plain_threads


@pytest.fixture
def source(redis_broker_url: str) -> Iterator[Callable[..., RedisSource]]:
    """Makes sources, and closes them."""
    made: list[RedisSource] = []

    def make(url: str = redis_broker_url, **changes: Any) -> RedisSource:
        broker = Broker(**{"url": url, "heartbeat": 1.0, **changes})
        made.append(RedisSource(Config(broker=broker), SystemClock(), plain_threads()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def send(url: str, *numbers: int) -> None:
    publish(url, [Recorded("task.sent", "application/json", "utf-8", json.dumps({"n": n})) for n in numbers])


def take(source: RedisSource, count: int, timeout: float = 30) -> list[int]:
    messages: list[Message] = []
    deadline = time.monotonic() + patient(timeout)
    while len(messages) < count and time.monotonic() < deadline:
        messages += source.receive(count - len(messages), 0.2)
        source.heartbeat()
    return [json.loads(message.body)["n"] for message in messages]


def through(link: CutLink, server: PrivateRedis, url: str) -> str:
    return url.replace(f":{server.port}/", f":{link.url_port}/")


def lost(source: RedisSource, timeout: float = 30) -> str:
    deadline = time.monotonic() + patient(timeout)
    with pytest.raises(BrokerUnavailable) as caught:
        while time.monotonic() < deadline:
            source.receive(10, 0.2)
            source.heartbeat()
    return str(caught.value)


def test_every_instance_gets_every_event(source: Callable[..., RedisSource], redis_broker_url: str) -> None:
    """Given two instances, both receive all that is published after they connected."""
    one, two = source(), source()
    one.connect()
    two.connect()
    send(redis_broker_url, *range(50))

    assert take(one, 50) == list(range(50))
    assert take(two, 50) == list(range(50))
    assert one.redelivers is False


def test_who_is_connected_gets_all_that_is_published_from_then_on(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given a slow link, connecting takes until the server has subscribed the instance, so that another one can go."""
    with CutLink(redis_server.port, delay=0.1) as link:
        one = source(through(link, redis_server, redis_broker_url))
        one.connect()
        send(redis_broker_url, 1)

        assert take(one, 1, timeout=5) == [1]


def test_a_limit_is_kept_and_the_rest_comes_next(source: Callable[..., RedisSource], redis_broker_url: str) -> None:
    """Given more messages than were asked for, the others are there at the next call."""
    one = source()
    one.connect()
    send(redis_broker_url, *range(7))

    got: list[int] = []
    while len(got) < 7:
        messages = one.receive(3, 5)
        assert 0 < len(messages) <= 3
        got += [json.loads(message.body)["n"] for message in messages]
    assert got == list(range(7))


def test_silence_takes_as_long_as_was_allowed(source: Callable[..., RedisSource]) -> None:
    """Given no events, receiving returns with nothing after about its time."""
    one = source()
    one.connect()

    with Timed() as timed:
        assert one.receive(10, 0.3) == []

    assert timed.seconds >= 0.3
    assert timed.undisturbed < 3, timed


def test_a_quiet_broker_is_not_taken_for_a_dead_one(source: Callable[..., RedisSource]) -> None:
    """Given no events for several health checks, the subscription stays, because it answers."""
    one = source()
    one.connect()
    end = time.monotonic() + 5

    while time.monotonic() < end:
        assert one.receive(10, 0.2) == []
        one.heartbeat()


@pytest.mark.parametrize("threads", ["as many as it needs", "none"])
def test_who_was_busy_for_long_has_missed_nothing(
    source: Callable[..., RedisSource], redis_broker_url: str, threads: str
) -> None:
    """Given an instance that does something else for longer than a silent subscription is tolerated, as with a slow
    handler, all that was published is there, on the same connection; so it is where no thread can be started.
    """
    with contextlib.ExitStack() as stack:
        if threads == "none":
            stack.enter_context(no_thread_left("subscription"))
        one = source()
        one.connect()
        send(redis_broker_url, *range(5))
        time.sleep(3)
        send(redis_broker_url, *range(5, 10))

        one.heartbeat()

        assert take(one, 10) == list(range(10))

        def answered() -> bool:
            one.heartbeat()
            assert one.receive(10, 0.05) == []
            return one.silence == 0

        # The last question may just have been asked.
        wait_until(answered, 10, "the answer to the last question")


def test_a_half_open_subscription_is_noticed(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given a network that swallows everything, the source notices within a few health checks, and events arrive
    again after a reconnect.
    """
    with CutLink(redis_server.port) as link:
        one = source(through(link, redis_server, redis_broker_url))
        one.connect()
        send(redis_broker_url, 1)
        assert take(one, 1) == [1]
        link.cut()

        with Timed() as timed:
            lost(one)

        assert timed.undisturbed < 10, timed
        link.drop()
        link.heal()
        one.connect()
        send(redis_broker_url, 2)
        assert take(one, 1) == [2]


def test_a_dropped_subscription_is_noticed_and_repaired(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given a connection that Redis closes, events arrive again: by the client library's own reconnect, or by the
    source's after it said that the broker was gone.
    """
    one = source()
    one.connect()
    send(redis_broker_url, 1)
    assert take(one, 1) == [1]
    with redis_server.client() as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1

    def repaired() -> bool:
        try:
            send(redis_broker_url, 2)
            return take(one, 1, timeout=1) != []
        except BrokerUnavailable:
            one.connect()
            return False

    wait_until(repaired, what="an event after the reconnect")


def test_a_redis_that_is_not_there_is_tried_again(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given a broker that refuses connections, the error is one line without a password; the next URL is tried."""
    with CutLink(redis_server.port) as link:
        link.refuse()
        dead = through(link, redis_server, redis_broker_url).replace("redis://", "redis://:hunter2@")
        one = source(f"{dead};{redis_broker_url}")

        with pytest.raises(BrokerUnavailable) as caught:
            one.connect()
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)

        assert one.connect() == redis_broker_url.partition("://")[2]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel"])
@pytest.mark.parametrize("fault", ["silent", "swallowed", "refused"])
def test_one_attempt_takes_no_longer_than_it_may(
    source: Callable[..., RedisSource], unanswering: Callable[[str], int], scheme: str, fault: str
) -> None:
    """Given a broker, or all three sentinels of one, that accept and say nothing, or whose network swallows everything,
    connecting takes no longer than `broker.connect_timeout`; given that they refuse, no time at all.
    """
    url = f"{scheme}://127.0.0.1:{unanswering(fault)}/0"
    urls = ";".join([url] * 3) if scheme == "sentinel" else url
    options = {"master_name": "main"} if scheme == "sentinel" else {}
    one = source(urls, connect_timeout=1.5, transport_options=options)

    with Timed() as timed, pytest.raises(BrokerUnavailable):
        one.connect()

    if fault == "refused":
        assert timed.undisturbed < 0.5, timed
    else:
        assert timed.seconds > 0.7
        assert timed.undisturbed < 2.5, timed


def test_not_connected_is_an_error(source: Callable[..., RedisSource]) -> None:
    """Given a source that is closed, receiving says so; a heartbeat and a second close do nothing."""
    one = source()
    one.connect()
    one.close()
    one.close()
    one.heartbeat()

    with pytest.raises(BrokerUnavailable, match="not connected to the broker"):
        one.receive(1, 0.1)


def test_no_envelope_raises_out_of_the_source(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given all that anybody could publish on the channel of the events, among good events, nothing is raised, and all
    good ones arrive."""
    one = source()
    one.connect()
    bad = {name: payload for name, payload in corpus.envelopes().items() if not name.startswith("good")}
    channel = f"/{redis_broker_url.rpartition('/')[2]}.celeryev/task.multi"
    got: list[Message] = []
    with redis.Redis.from_url(redis_server.url(0)) as publisher:
        for number, payload in enumerate(bad.values()):
            assert publisher.publish(channel, payload) == 1
            send(redis_broker_url, number)
            got += one.receive(100, 0.2)
            one.heartbeat()
    wait_until(lambda: got.extend(one.receive(100, 0.1)) or len(got) >= 2 * len(bad), 30, "all messages")

    numbers = [json.loads(message.body)["n"] for message in got if message.body.startswith(b'{"n": ')]
    assert numbers == list(range(len(bad)))
    assert len(got) == 2 * len(bad)


def test_no_more_is_taken_at_once_than_there_is_room_for(
    source: Callable[..., RedisSource], redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given many large messages at hand, a call returns before more bytes are held than are allowed, and the rest comes
    with the next calls."""
    one = source()
    one.connect()
    large = json.dumps({"n": "x" * 1_000_000})
    publish(redis_broker_url, [Recorded("task.sent", "application/json", "utf-8", large)] * 20)

    sizes: list[int] = []
    while sum(sizes) < 20:
        messages = one.receive(100, 5)
        assert messages
        sizes.append(len(messages))
        one.heartbeat()

    assert sum(sizes) == 20
    assert max(sizes) <= 5


def test_instances_at_one_redis_receive_each_others_greetings(
    source: Callable[..., RedisSource], own_redis: PrivateRedis
) -> None:
    """Given two sources at one Redis and one at another, each receives its own greeting, and the one that connected
    first also that of the other one there; no greeting is a message.
    """
    first, second, elsewhere = source(), source(), source(own_redis.url())
    sources = (first, second, elsewhere)
    for one in sources:
        one.connect()
        assert one.greeting == ""

    def greeted() -> bool:
        assert [one.receive(10, 0.1) for one in sources] == [[], [], []]
        return all(one.greeting for one in sources) and second.greeting in first.greetings

    wait_until(greeted, 60, "the greetings")
    assert len({one.greeting for one in sources}) == 3
    assert set(first.greetings) == {first.greeting, second.greeting}
    assert list(second.greetings) == [second.greeting]
    assert list(elsewhere.greetings) == [elsewhere.greeting]
