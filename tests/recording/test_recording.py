"""The recordings themselves, their copies and their publication."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
import redis
from kombu import Connection

from tests.support.capture import capture
from tests.support.celery_app import make_app
from tests.support.machine import Timed
from tests.support.recording import Recorded, publish, read_stream, read_truth, replicate
from tests.support.services import wait_until


@pytest.mark.parametrize("name", ["stream", "small"])
def test_a_recording_agrees_with_what_its_producer_knows(name: str) -> None:
    truth = read_truth(name)
    messages = read_stream(name)
    events = [event for message in messages for event in message.events]
    assert len(messages) == truth["recording"]["messages"]
    types = Counter(event["type"] for event in events)
    assert types == truth["recording"]["events_by_type"]
    succeeded = {event["uuid"] for event in events if event["type"] == "task-succeeded"}
    assert len(succeeded) == types["task-succeeded"] == truth["tasks_by_state"]["SUCCESS"]
    assert not succeeded & set(truth["not_successful"])
    assert types["task-failed"] == truth["tasks_by_state"]["FAILURE"]
    assert types["task-retried"] == truth["retries"]
    assert {event["uuid"] for event in events if event["type"] == "task-sent"} == succeeded | set(
        truth["not_successful"]
    )


def test_copies_differ_in_what_identifies_an_event() -> None:
    messages = read_stream("small")
    copies = list(replicate(messages, 3))
    assert copies[: len(messages)] == messages
    identities = Counter(
        (e["hostname"], e["pid"], e["clock"], e["type"], e.get("uuid"), e["timestamp"])
        for message in copies
        for e in message.events
    )
    assert set(identities.values()) == {1}
    uuids = [
        {e["uuid"] for m in islice(copies, start, start + len(messages)) for e in m.events if "uuid" in e}
        for start in range(0, len(copies), len(messages))
    ]
    assert len(set.union(*uuids)) == 3 * len(uuids[0])
    assert copies == list(replicate(messages, 3))
    started = next(replicate(messages, 1, start=2_000_000_000.0))
    assert started.events[0]["timestamp"] == pytest.approx(2_000_000_000, abs=1)


def test_published_messages_are_as_recorded(broker_url: str) -> None:
    messages = read_stream("small")
    with capture(broker_url) as captured:
        assert publish(broker_url, messages) == len(messages)
        captured.wait_for_messages(len(messages))
        assert captured.messages == messages


def test_publishing_at_a_rate(broker_url: str) -> None:
    with Timed() as timed:
        publish(broker_url, read_stream("small")[:200], rate=400)
    assert timed.seconds > 0.45
    assert timed.undisturbed < 5, timed


def test_publishing_to_a_redis_broker(redis_broker_url: str) -> None:
    messages = read_stream("small")
    received: list[Recorded] = []
    with Connection(redis_broker_url) as connection:
        app = make_app(redis_broker_url)
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: None})

        def take(body: object, message: Any) -> None:
            headers = message.delivery_info["routing_key"], message.content_type, message.content_encoding
            text = message.body if isinstance(message.body, str) else message.body.decode()
            received.append(Recorded(*headers, text))

        # The receiver makes a connection of its own.
        with receiver.consumer_context() as (opened, _, consumers), redis.Redis.from_url(redis_broker_url) as client:
            consumers[0].callbacks[:] = [take]

            def drained(until: Callable[[], bool]) -> bool:
                with suppress(TimeoutError):
                    opened.drain_events(timeout=1)
                return until()

            # The subscription is made by the event loop, and what is published before it is lost.
            wait_until(lambda: drained(lambda: client.pubsub_numpat() > 0), what="the subscription")
            assert publish(redis_broker_url, messages) == len(messages)
            wait_until(lambda: drained(lambda: len(received) >= len(messages)), what="all messages")
    assert received == messages
