"""Checks the broker, the store and the result backend. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker.address import is_amqp, urls_of
from ha_monitor.broker.inspection import (
    BrokerState,
    broker_state,
    exchange_awaited,
    reach_redis,
    verify_arguments,
    verify_delivery,
    verify_rights,
)
from ha_monitor.broker.pubsub_limit import BUFFER, MIB, RECOMMENDED, SETTING
from ha_monitor.check.findings import Finding, failed, ok, warning
from ha_monitor.config.schema import Config, QueueType
from ha_monitor.config.urls import address_of
from ha_monitor.errors import BrokerUnavailable, ConfigurationError, ResultBackendUnavailable, StoreUnavailable
from ha_monitor.incidents.listeners import Listener, different_brokers_text
from ha_monitor.incidents.shared_queue import shared_text
from ha_monitor.pipeline.stats import CONSUMING
from ha_monitor.pipeline.store_risks import DROPPED_KEYS
from ha_monitor.store.reader import StoreReader

MIN_QUORUM_VERSION = (3, 10)
"""The oldest RabbitMQ with a message TTL for quorum queues."""
LOSES_LAST_EVENTS_BEFORE = (3, 13)
"""The oldest RabbitMQ whose quorum queues keep the last events of a publisher that closes its connection at once
without waiting for confirmations, as a stopping worker does; docs/monitoring.md, Lost goodbyes, has the cause."""
LOST_GOODBYES = (
    "; before 3.13 it may lose the goodbye of a worker that is stopped, which is then called lost: "
    'broker_transport_options = {"confirm_publish": True} in its application prevents that'
)
MIN_REDIS_VERSION = (6, 0)


def check_broker(config: Config) -> Iterator[Finding]:
    """Check each broker of `broker.url`, its version, and the queue's arguments."""
    for url in urls_of(config.broker.url):
        try:
            if is_amqp(url):
                yield from _check_amqp(url, config)
            else:
                limit = reach_redis(url, config)
                yield ok("broker", f"{address_of(url)}: Redis answers; every instance receives every event")
                if limit is not None and limit.is_low:
                    yield warning(
                        "broker",
                        f"{address_of(url)}: {SETTING} is {limit}, which is low beside the {BUFFER // MIB}mb that an "
                        "instance keeps by itself: a large message, or many at once, disconnects all instances "
                        f"together, and what follows is lost until they are back; set it to {RECOMMENDED}",
                    )
        except BrokerUnavailable as error:
            yield failed("broker", str(error), lasting=error.lasting)
        except ConfigurationError as error:
            yield failed("queue" if is_amqp(url) else "broker", str(error), lasting=True)


def check_store(config: Config) -> Iterator[Finding]:
    """Whether Redis answers, is new enough, and persists its data."""
    reader = StoreReader(config.store, config.node_id)
    try:
        for problem in reader.sentinel_problems():
            yield warning("store", problem)
        reader.connect()
        info, silence = reader.server()
        version = info.get("redis_version", "")
        if silence:
            yield ok("store", "Redis answers")
            yield warning("store", f"its version, memory, disk and replicas cannot be checked: {silence}")
        elif version_of(version) < MIN_REDIS_VERSION:
            needed = ".".join(map(str, MIN_REDIS_VERSION))
            yield failed("store", f"Redis {version} is too old; {needed} is needed", lasting=True)
        else:
            yield ok("store", f"Redis {version} answers")
        found = reader.info(info)
        for risk in found.risks:
            yield warning("store", risk)
        if found.dropped:
            said = f"Redis has dropped {found.dropped} keys to make room since it started"
            yield warning("store", f"{said}: {DROPPED_KEYS}")
        if info.get("role") == "slave":
            yield failed("store", "this Redis is a replica; name the primary, or use a sentinel:// URL")
        else:
            reader.try_rights()
        living = [entry.stats for entry in reader.instances() if entry.lease_left > 0]
        yield ok("store", f"{len(living)} instances of node_id {config.node_id} are running")
        yield from _check_greetings(config, living)
    except StoreUnavailable as error:
        yield failed("store", str(error), lasting=error.lasting)
    except ConfigurationError as error:
        yield failed("store", str(error), lasting=True)
    finally:
        reader.close()


def _check_greetings(config: Config, living: list[dict[str, Any]]) -> Iterator[Finding]:
    """Check that the live instances listen at the same Redis, unless there are several brokers."""
    consuming = [stats for stats in living if stats.get("state") == CONSUMING]
    if len(urls_of(config.broker.url)) > 1:
        return
    for one, other in combinations(consuming, 2):
        if Listener.of(one).is_at_other_broker(Listener.of(other)):
            yield failed(
                "broker", different_brokers_text(str(one.get("broker")), str(other.get("broker")), config.node_id)
            )
            return


def check_result_backend(config: Config) -> Iterator[Finding]:
    """Whether the result backend can be read, if there is one."""
    if not config.result_backend.url:
        return
    try:
        ResultBackend(config.result_backend).results(["ha-monitor-check"])
        yield ok("results", "the result backend answers")
    except ResultBackendUnavailable as error:
        yield warning("results", f"the result backend cannot be read: {error}")


def version_of(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _check_amqp(url: str, config: Config) -> Iterator[Finding]:
    state = broker_state(url, config)
    yield from _check_peers(config, state)
    known = f"{state.address}: {state.product} {state.version}"
    quorum = state.product == "RabbitMQ" and config.queue.type is QueueType.QUORUM
    if quorum and version_of(state.version) < MIN_QUORUM_VERSION:
        cure = "update it, or set queue.type = classic"
        yield failed("broker", f"{known}: quorum queues with a TTL need 3.10; {cure}", lasting=True)
    else:
        may_lose = quorum and version_of(state.version) < LOSES_LAST_EVENTS_BEFORE
        yield ok("broker", f"{known} answers{LOST_GOODBYES if may_lose else ''}")
    if state.product == "RabbitMQ":
        verify_rights(url, config)
        if reason := exchange_awaited(url, config):
            yield warning("exchange", f"{state.address}: {reason}. Until then an instance waits: start a worker")
    if state.queue is None:
        yield ok("queue", f"{config.queue_name} does not exist yet; the first instance declares it")
        return
    verify_arguments(url, config)
    if state.queue.consumers or not state.queue.depth:
        # Messages that nobody consumes would be delivered to the check, and later be redelivered.
        verify_delivery(url, config)
    yield ok(
        "queue",
        f"{state.queue.name} is as configured; {state.queue.depth} messages, {state.queue.consumers} consumers",
    )


def _check_peers(config: Config, state: BrokerState) -> Iterator[Finding]:
    """Check that the live instances consume from the same broker, unless there are several, and that nothing else
    consumes the queue.
    """
    reader = StoreReader(config.store, config.node_id)
    try:
        reader.connect()
        living = [entry.stats for entry in reader.instances() if entry.lease_left > 0]
    except (StoreUnavailable, ConfigurationError):
        return  # `check_store` reports it
    finally:
        reader.close()
    if state.queue is not None and state.queue.consumers > len(living):
        text = shared_text(config.queue_name, state.queue.consumers, len(living))
        yield warning("queue", f"{text}. A connection that was lost just now also counts for half a minute")
    if len(urls_of(config.broker.url)) > 1:
        return
    places = {str(stats["place"]) for stats in living if stats.get("place") and stats.get("state") == CONSUMING}
    for place in sorted(places - {state.place}):
        yield failed(
            "broker",
            f"{state.address}: instances of node_id {config.node_id} consume from {place}, and this is {state.place}: "
            "an instance would wait here; give the instances of each broker a node_id of their own",
        )
