"""Inspects the broker, the shared queue and the user's rights without consuming messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import amqp.exceptions
import redis.exceptions
from kombu.connection import Connection

from ha_monitor.broker.address import connect_once, connection_to, first_answer, is_amqp
from ha_monitor.broker.amqp_errors import names_of, translated_errors
from ha_monitor.broker.amqp_source import consume_briefly, declare_queue, majority_needed, place_of
from ha_monitor.broker.pubsub_limit import SETTING, PubSubLimit, limit_in
from ha_monitor.broker.redis_errors import refuse_cluster, unavailable
from ha_monitor.broker.redis_layout import layout_of
from ha_monitor.config.schema import Config
from ha_monitor.config.urls import address_of
from ha_monitor.errors import BrokerUnavailable, HaMonitorError
from ha_monitor.rights import rabbitmq as rights

KEYS_AT_ONCE = 10_000
"""Keys that Redis looks at in one call, which takes some milliseconds."""
MAX_SCANS = 100


class QueueState(NamedTuple):
    """The shared queue as the broker describes it."""

    name: str
    depth: int
    """Messages that are ready to be delivered."""
    consumers: int


class BrokerState(NamedTuple):
    """One broker of `broker.url`."""

    address: str
    product: str
    version: str
    queue: QueueState | None
    """None if the queue does not exist yet, or the broker has no event queues (Redis)."""
    place: str = ""
    """See `Source.place`."""


@contextlib.contextmanager
def _connected(url: str, config: Config) -> Iterator[Connection]:
    """Connect to one AMQP broker, with the connection timeout as the timeout of each answer.

    :raises BrokerUnavailable: if the broker cannot be used; also raised from within the block.
    """
    options = {"read_timeout": config.broker.connect_timeout}
    with (
        translated_errors(address_of(url), config.broker),
        connection_to(url, config.broker, options=options) as client,
    ):
        connect_once(client, url, config.broker)
        try:
            yield client
        except (BrokerUnavailable, TimeoutError):
            client.collect()  # an orderly close would wait for the unanswered question
            raise


def queue_state(config: Config) -> QueueState | None:
    """The queue's state at the first broker that answers; None for Redis, or if the queue does not exist.

    :raises BrokerUnavailable: if no broker answers.
    """
    if not is_amqp(config.broker.url):
        return None
    return first_answer(config, lambda url: broker_state(url, config).queue)


def broker_state(url: str, config: Config) -> BrokerState:
    """Connect to one AMQP broker and describe it. Declares nothing.

    :raises BrokerUnavailable: if the broker cannot be used.
    """
    with _connected(url, config) as client:
        connection = client.connection
        properties: dict[str, Any] = connection.server_properties
        product, version = str(properties.get("product", "?")), str(properties.get("version", "?"))
        channel = client.channel()
        try:
            ok = channel.queue_declare(config.queue_name, passive=True)
            queue = QueueState(config.queue_name, ok.message_count, ok.consumer_count)
        except amqp.exceptions.NotFound as error:
            # RabbitMQ answers this, too, for a queue that is on a node which is down.
            if "no queue" not in str(error.reply_text):
                raise
            queue = None
        return BrokerState(address_of(url), product, version, queue, place_of(connection))


def verify_arguments(url: str, config: Config) -> None:
    """Declare the existing queue with the configured arguments: nothing happens if they are the same.

    :raises ConfigurationError: naming the argument that differs, and the remedy.
    """
    with _connected(url, config) as client:
        declare_queue(client.channel(), config)


def verify_delivery(url: str, config: Config) -> None:
    """Check that the existing queue can deliver. Changes nothing if the queue is empty, or has consumers that have not
    reached their prefetch.

    :raises BrokerUnavailable: if the queue cannot deliver, for example because most of its members are down.
    """
    with _connected(url, config) as client:
        consume_briefly(client.connection, address_of(url), config, "ha-monitor check")


def verify_rights(url: str, config: Config) -> None:
    """Check the user's rights on queue and exchange. Changes nothing.

    RabbitMQ checks the rights first. After that, the requests fail in any case, because the queue is missing or an
    argument is invalid.

    :raises BrokerUnavailable: naming the first right that is missing.
    """
    name, exchange = config.queue_name, config.broker.exchange
    with _connected(url, config) as client:
        for attempt in (
            lambda channel: channel.queue_declare(name, durable=True, arguments={"x-message-ttl": -1}),
            lambda channel: channel.queue_bind(name, exchange, routing_key="#"),
            lambda channel: channel.basic_consume(name, arguments={"x-priority": "none"}),
        ):
            with (
                contextlib.suppress(
                    amqp.exceptions.NotFound, amqp.exceptions.PreconditionFailed, amqp.exceptions.ResourceLocked
                ),
                majority_needed(address_of(url), config),
            ):
                # A channel for each attempt: the broker closes the channel when something fails.
                attempt(client.channel())


def exchange_awaited(url: str, config: Config) -> str:
    """Why an instance would have to wait for Celery's exchange; empty if it exists, or the user may declare it.

    :raises BrokerUnavailable: if the broker cannot be used.
    """
    name = config.broker.exchange
    with _connected(url, config) as client:
        try:
            client.channel().exchange_declare(name, "topic", passive=True)
        except amqp.exceptions.NotFound:
            # The argument is invalid, so nothing is declared; but RabbitMQ checks the rights first.
            declaring = {"durable": True, "auto_delete": False, "arguments": {"alternate-exchange": 0}}
            try:
                client.channel().exchange_declare(name, "topic", **declaring)
            except amqp.exceptions.AccessRefused as error:
                names = names_of(config.broker)
                reason = rights.explain(error.reply_text or "", error.method_sig or (0, 0), names)
                return reason or str(error.reply_text)
            except amqp.exceptions.PreconditionFailed:
                pass
    return ""


def reach_redis(url: str, config: Config) -> PubSubLimit | None:
    """Connect to one Redis broker, and subscribe as an instance does.

    :returns: the broker's limit for subscribers; None if the user lacks the right to ask, which is not required.
    :raises BrokerUnavailable: if the broker cannot be used. :raises ConfigurationError: if it is a Redis Cluster.
    """
    settings = config.broker
    with translated_errors(address_of(url)):
        try:
            with connection_to(url, settings, options={}) as client:
                connect_once(client, url, settings)
                channel = client.default_channel
                refuse_cluster(channel, url)
                with channel.client.pubsub() as subscription:
                    subscription.psubscribe(layout_of(url, settings).events)
                    subscription.get_message(timeout=settings.connect_timeout)
                with contextlib.suppress(redis.exceptions.ResponseError):
                    return limit_in(channel.client.config_get(SETTING))
                return None
        except HaMonitorError:
            raise
        except Exception as error:
            raise unavailable(url, settings, error) from None


def prefixes_of_workers(url: str, config: Config) -> set[str]:
    """The `global_keyprefix` values of the workers on a Redis broker, as far as they are found among its first million
    keys; empty if none are found.

    :raises BrokerUnavailable: if the broker cannot be used.
    """
    settings, known = config.broker, f"_kombu.binding.{config.broker.control_exchange}.pidbox"
    found: set[str] = set()
    try:
        with connection_to(url, settings, options={}) as client:
            connect_once(client, url, settings)
            # Not kombu's client, which prepends the configured prefix to all keys.
            pool = client.default_channel.pool
            connection = pool.connection_class(**pool.connection_kwargs)
            connection.connect()
            try:
                cursor = b"0"
                for _ in range(MAX_SCANS):
                    connection.send_command("SCAN", cursor, "MATCH", f"*{known}", "COUNT", KEYS_AT_ONCE)
                    cursor, keys = connection.read_response()
                    found |= {key.decode("utf-8", "replace").removesuffix(known) for key in keys}
                    if int(cursor) == 0:
                        break
            finally:
                connection.disconnect()
    except HaMonitorError:
        raise
    except Exception as error:
        raise unavailable(url, settings, error) from None
    return found
