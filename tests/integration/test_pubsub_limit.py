"""A Redis broker that closes all subscriptions because too much waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from ha_monitor.broker.pubsub_limit import RECOMMENDED, SETTING
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config
from ha_monitor.errors import BrokerUnavailable
from tests.conftest import missing
from tests.support.process import ServiceMissing, wait_until
from tests.support.rights import as_monitor
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads

CHANNEL = "/0.celeryev/task.failed"


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    """A Redis of this test's own, with the limits that it comes with."""
    try:
        own = PrivateRedis()
    except ServiceMissing as error:
        missing(error)
    with own:
        yield own


@pytest.fixture
def admin(server: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url(0)) as client:
        yield client


def config(url: str) -> Config:
    return Config(broker=Broker(url=url))


def test_one_large_message_disconnects_all_and_the_reason_says_why(server: PrivateRedis, admin: redis.Redis) -> None:
    """Given one message above the limit, each instance loses its subscription, and is told of the likely reason; it can
    connect again."""
    admin.config_set(SETTING, "pubsub 1mb 0 0")
    sources = [RedisSource(config(server.url(0)), SystemClock(), plain_threads()) for _ in range(2)]
    try:
        for one in sources:
            one.connect()
        assert admin.publish(CHANNEL, b"x" * 2_000_000) == 2
        for one in sources:
            with pytest.raises(
                BrokerUnavailable, match=r"\(perhaps because of client-output-buffer-limit pubsub\); everything was"
            ):
                wait_until(lambda one=one: one.receive(1, 0.2) or one.heartbeat(), 30, "the end")  # type: ignore[misc]
            one.connect()
        assert admin.publish(CHANNEL, b"x") == 2
    finally:
        for one in sources:
            one.close()


def test_a_low_limit_is_told_before(server: PrivateRedis, admin: redis.Redis) -> None:
    """Given the limit that Redis comes with, `check --online` says what would happen and what to set; once that is set,
    and to a user who may not ask, it says nothing.
    """

    def warnings(url: str) -> list[str]:
        found = list(check_broker(config(url)))
        assert found[0].severity is Severity.OK, found
        return [finding.text for finding in found if finding.severity is Severity.WARNING]

    (text,) = warnings(server.url(0))
    assert f"{SETTING} is pubsub 32mb 8mb 60" in text
    assert text.endswith(f"set it to {RECOMMENDED}")
    assert warnings(as_monitor(server.url(0), broker=True)) == []

    admin.config_set(SETTING, str(RECOMMENDED))
    assert warnings(server.url(0)) == []
