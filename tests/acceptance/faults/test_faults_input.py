"""Messages that no worker sends, among those that workers do."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import amqp

from tests.acceptance.faults.conftest import FaultTable
from tests.support import corpus
from tests.support.instances import Fleet, queue_depth, vhost_of
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.recording import Confirms, Recorded, read_stream, replicate
from tests.support.services import PrivateRabbitMQ, PrivateRedis

LARGE = 10_000_000
SECRET = "hunter2-in-a-bad-event"


class Bad(NamedTuple):
    """A message of which some or all is refused."""

    body: bytes
    refused: int = 1
    """Rejections that it brings."""
    content_type: str = "application/json"
    content_encoding: str = "utf-8"


def storm(good: dict[str, Any]) -> list[Bad]:
    """One of each kind.

    :param good: an event that is in order, to be put among bad ones.
    """
    event = {"type": "task-started", "uuid": "a" * 36, "hostname": "w@h", "pid": 1, "clock": 1, "timestamp": 1.0}
    return [
        Bad(b""),
        Bad(b"not json"),
        Bad(b'{"type": "task-started", "uuid": '),
        Bad(b"\xff\xfe\x00"),
        Bad(b"null"),
        Bad(b"42"),
        Bad(b'"task-succeeded"'),
        Bad(b"{}"),
        Bad(b"[" * 100_000),
        Bad(json.dumps([None, good, 7, {"type": "task-succeeded"}]).encode(), refused=3),
        Bad(b"[]", refused=0),
        Bad(json.dumps(dict.fromkeys(event)).encode()),
        Bad(json.dumps({**event, "type": "task-failed", "uuid": None, "password": SECRET}).encode()),
        Bad(json.dumps({**event, "uuid": [17]}).encode()),
        Bad(json.dumps({**event, "uuid": "u" * 10_000}).encode()),
        Bad(json.dumps({**event, "type": "t" * 10_000}).encode()),
        Bad(json.dumps({**event, "type": ["task-started"]}).encode()),
        Bad(json.dumps({**event, "type": "worker-online", "uuid": None, "hostname": None}).encode()),
        Bad(pickle.dumps({"type": "task-started"}), content_type="application/x-python-serialize"),
        Bad(json.dumps(event).encode("utf-16"), content_encoding="utf-16"),
        Bad(b"x", content_type="text/plain"),
    ]


def test_storm_of_bad_input(
    tmp_path: Path,
    rabbitmq: PrivateRabbitMQ,
    broker_url: str,
    store_url: str,
    fault_table: FaultTable,
) -> None:
    """given good events with all kinds of bad messages among them, when instances consume them, then all good ones
    are announced, all bad ones are counted, none stays in the queue, and the log is not flooded
    """
    messages = list(replicate(read_stream("small"), 1, start=time.time()))
    published = Published(messages)
    succeeded = next(event for message in messages for event in message.events if event["type"] == "task-succeeded")
    extra = {**succeeded, "clock": 987_654_321}
    published.add_event(extra)
    kinds = storm(extra)
    zeros = Bad(corpus.LARGE["3 MB of zeros"]())
    heartbeats = Bad(corpus.LARGE["65,000 invented heartbeats"]())
    bad = [*kinds * 20, Bad(b'"' + b"x" * LARGE + b'"'), zeros, heartbeats, zeros]
    begun = time.monotonic()
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        publish_mixed(rabbitmq, broker_url, messages, bad)
        fleet.wait_until_announced(published)
        refused = sum(one.refused for one in bad)
        wait_until(lambda: sum(e.stats.get("rejected", 0) for e in fleet.entries()) >= refused, 30, "the counts", 0.1)
        counted = sum(entry.stats["rejected"] for entry in fleet.entries())
        account = fault_table.add(f"{len(bad)} bad messages among good ones", fleet.close_account(published))
        warnings = fleet.said("event-rejected")
        elapsed = time.monotonic() - begun
    assert_guarantee(account)
    assert counted == refused
    assert queue_depth(broker_url) == 0
    # Each instance warns once in ten seconds, and of what is left when it stops.
    assert 1 <= len(warnings) <= len(fleet.instances) * (2 + elapsed // 10)
    assert sum(line["count"] for line in warnings) == refused
    assert not any(SECRET in json.dumps(line) for line in fleet.lines())


def test_storm_of_bad_envelopes_on_redis(
    tmp_path: Path,
    redis_server: PrivateRedis,
    redis_broker_url: str,
    store_url: str,
    fault_table: FaultTable,
) -> None:
    """given good events on a Redis broker with all kinds of broken, lying and exploding envelopes among them, which
    every instance gets, when instances consume them, then none dies or connects anew, and all good events are announced
    """
    bad = [payload for name, payload in corpus.envelopes().items() if not name.startswith("good")]
    channel = f"/{redis_broker_url.rpartition('/')[2]}.celeryev/task.multi"
    with Fleet(tmp_path, redis_broker_url, store_url).start() as fleet, redis_server.client(decode=False) as publisher:
        load = Load(redis_broker_url, replicate(read_stream("small"), 1, start=time.time()), rate=500)
        for payload in bad * 3:
            assert publisher.publish(channel, payload) == len(fleet.instances)
        published = load.finish()
        account = fault_table.add(f"{3 * len(bad)} bad envelopes on Redis", fleet.close_account(published))
    assert_guarantee(account)
    assert len(fleet.said("broker-connected")) == len(fleet.instances)
    assert fleet.said("broker-unavailable") == []


def publish_mixed(rabbitmq: PrivateRabbitMQ, broker_url: str, good: list[Recorded], bad: list[Bad]) -> None:
    """Publish both, a bad message after every few good ones."""
    connection: amqp.Connection = rabbitmq.connection(vhost_of(broker_url))
    spread = len(good) // len(bad)
    assert spread > 0

    def mixed() -> Iterator[tuple[bytes | str, str, str, str]]:
        rest = iter(bad)
        for message, turn in zip(good, cycle(range(spread)), strict=False):
            yield message.body, message.type, message.encoding, message.key
            if turn == 0 and (one := next(rest, None)) is not None:
                yield one.body, one.content_type, one.content_encoding, "task.multi"
        for one in rest:
            yield one.body, one.content_type, one.content_encoding, "task.multi"

    with connection:
        channel = connection.channel()
        confirms = Confirms(channel)
        count = 0
        for body, content_type, content_encoding, key in mixed():
            message = amqp.Message(body, content_type=content_type, content_encoding=content_encoding)
            channel.basic_publish(message, "celeryev", key)
            count += 1
        confirms.wait(count, at_most_open=0)
