"""Events from RabbitMQ: one durable queue that all instances share."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import amqp.exceptions
from kombu.connection import Connection

from ha_monitor.broker.address import connect_once, connection_to, urls_of
from ha_monitor.broker.amqp_channels import brief_channel
from ha_monitor.broker.amqp_errors import translated_errors
from ha_monitor.broker.buffered import AnswerDelayed, BufferedConnection, BufferedTlsTransport, BufferedTransport
from ha_monitor.broker.flow import Flow
from ha_monitor.broker.source import Mark
from ha_monitor.config.schema import Config, Queue, QueueType
from ha_monitor.config.urls import address_of, scheme_of
from ha_monitor.dialing import Dialed
from ha_monitor.errors import BrokerUnavailable, reason_of
from ha_monitor.events.decode import Message

BYTES_AT_ONCE = 1024 * 1024
"""Maximum bytes of the messages that `receive` returns, unless a single one has more. The others are still counted as
read ahead, of which there is a limit (`BufferedConnection.read_ahead`)."""


class AmqpSource:
    """Consumes the shared queue with acknowledgements. See `Source` for the guarantees."""

    redelivers = True
    holds_messages = False
    received_until = float("inf")
    gap = 0.0
    silence = 0.0
    """Always 0: py-amqp judges the broker's silence by the heartbeats."""

    def __init__(self, config: Config, consumer_name: str) -> None:
        """:param consumer_name: the consumer tag in `rabbitmqctl list_consumers`, such as `ha-monitor@1.host`."""
        self._config = config
        self._name = consumer_name
        self.prefetch_limit: int | None = config.broker.prefetch
        self._urls = urls_of(config.broker.url)
        self._next_url = 0
        self._address = ""
        self.url = self._urls[0]
        self.place = self.greeting = ""
        self.greetings: Collection[str] = ()
        self.consumers: int | None = None
        self._client: Connection | None = None
        self._connection: BufferedConnection | None = None
        self._channel: Any = None
        self._mark = Mark(0, 0)
        self.redelivered = 0
        self.is_behind = False
        self._flow = Flow(config.broker.prefetch)

    def dial(self) -> Dialed[str]:
        url = self._urls[self._next_url % len(self._urls)]
        # Every attempt uses the next broker, whatever the reason for connecting again.
        self._next_url += 1
        address = address_of(url)
        client = self._client_for(url)
        with translated_errors(address, self._config.broker):
            try:
                connection: BufferedConnection = connect_once(client, url, self._config.broker)
                channel = client.channel()
                self._consume(connection, channel, address)
            except BaseException:
                _collect(client)
                raise

        def use() -> str:
            self.close()
            self.url, self._address = url, address
            self.place = place_of(connection) if len(self._urls) == 1 else ""
            self._client, self._connection, self._channel = client, connection, channel
            return address

        return Dialed(use, lambda: _collect(client))

    def connect(self) -> str:
        """Dial and use the connection in one blocking call, for callers without a loop."""
        return self.dial().use()

    def receive(self, limit: int, timeout: float) -> list[Message]:
        connection = self._connection
        if connection is None:
            raise BrokerUnavailable("not connected to the broker")
        deliveries = connection.deliveries
        if not deliveries:
            with translated_errors(self._address, self._config.broker), contextlib.suppress(TimeoutError):
                connection.drain_events(timeout)
        messages: list[Message] = []
        if not deliveries:
            return messages
        tag, redelivered, size = 0, deliveries[0][1].redelivered, 0
        while deliveries and len(messages) < limit and size < BYTES_AT_ONCE:
            delivery = deliveries.popleft()
            if delivery[1].redelivered is not redelivered:
                deliveries.appendleft(delivery)
                break
            tag, message = delivery
            messages.append(message)
            size += len(message.body)
        if redelivered:
            self.redelivered += len(messages)
        self._mark = Mark(self._mark.generation, tag)
        return messages

    @property
    def arrivals(self) -> int | None:
        return 0 if self._connection is None else self._connection.bytes_recv

    def mark(self) -> Mark:
        return self._mark

    @property
    def is_receiving(self) -> bool:
        return self._connection is not None and self._connection.is_receiving

    def acknowledge(self, mark: Mark) -> None:
        if mark.generation != self._mark.generation or mark.delivery_tag == 0 or self._channel is None:
            return
        with translated_errors(self._address, self._config.broker):
            self._channel.basic_ack(mark.delivery_tag, multiple=True)
        self._flow.acknowledged = mark.delivery_tag

    def heartbeat(self) -> None:
        if self._connection is None:
            return
        with translated_errors(self._address, self._config.broker):
            # The caller may not have received anything for long, while heartbeats of the broker were waiting.
            has_all = self._connection.read_ahead()
            self._connection.heartbeat_tick()
        if has_all and self._channel.unanswered:
            with self._asking():
                self._channel.late_answer()  # nothing is before it any longer; it must not be awaited forever
        is_allowed = self._flow.allows_question(self._connection, has_all, self._mark.delivery_tag)
        self.is_behind = self._channel.unanswered > 0 or not is_allowed

    def depth(self) -> int | None:
        if self._channel is None:
            return None
        found = None
        with self._asking():
            self._bind_again()
            found = self._channel.queue_length(self._config.queue_name)
        if found is None:
            return None
        self.consumers = found.consumer_count
        return int(found.message_count)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """For questions to the broker. Ends without an answer if too many messages come first: see `is_behind`."""
        assert self._connection is not None
        with translated_errors(self._address, self._config.broker):
            try:
                with self._connection.limited_reading():
                    yield
            except AnswerDelayed:
                self.is_behind = True

    def _bind_again(self) -> None:
        """Restore a binding that was removed: a worker that declares a deleted exchange again does not restore it.

        :raises amqp.exceptions.NotFound: if there is no exchange to bind to.
        """
        # A right that was revoked meanwhile does no harm: the queue may still be bound.
        with (
            contextlib.suppress(amqp.exceptions.AccessRefused),
            majority_needed(self._address, self._config),
            brief_channel(self._connection) as channel,
        ):
            channel.queue_bind(self._config.queue_name, self._config.broker.exchange, routing_key="#")

    def prove_delivery(self) -> None:
        if self._connection is not None:
            with self._asking():
                consume_briefly(self._connection, self._address, self._config, f"{self._name} (check)")

    def close(self) -> None:
        client, self._client = self._client, None
        self._connection = self._channel = None
        self.is_behind = False
        self._flow = Flow(self._config.broker.prefetch)
        self._mark = Mark(self._mark.generation + 1, 0)
        if client is not None:
            _collect(client)

    def _client_for(self, url: str) -> Connection:
        options = {
            # A broker that reads nothing must not delay an acknowledgement for longer than a lease.
            "write_timeout": self._config.broker.connect_timeout,
            "client_properties": {"connection_name": self._name},
        }
        transport = BufferedTlsTransport if scheme_of(url) == "amqps" or self._config.broker.tls else BufferedTransport
        return connection_to(url, self._config.broker, transport=transport, options=options)

    def _consume(self, connection: BufferedConnection, channel: Any, address: str) -> None:
        declare(channel, self._config, address)
        channel.basic_qos(0, self._config.broker.prefetch, False)
        connection.fast_channel = channel.channel_id
        with majority_needed(address, self._config):
            channel.basic_consume(self._config.queue_name, consumer_tag=self._name, no_ack=False)


def _collect(client: Connection) -> None:
    # An orderly close would hang on a half-open connection.
    with contextlib.suppress(Exception):
        client.collect(socket_timeout=1)


def place_of(connection: Any) -> str:
    """The virtual host and the name of the cluster, which is the same on all its nodes."""
    cluster = connection.server_properties.get("cluster_name", "")
    return f"vhost {connection.virtual_host} of {str(cluster) or 'an unnamed broker'}"


@contextlib.contextmanager
def majority_needed(address: str, config: Config) -> Iterator[None]:
    """Explains why a request that needs the queue's leader, or a majority of the cluster's nodes, is not answered. A
    queue whose members are mostly down can still be declared, and reports its length.

    :raises BrokerUnavailable: naming the queue, instead of a timeout, or of the internal error with which RabbitMQ
        closes the connection some seconds later.
    """
    try:
        yield
    except (amqp.exceptions.ConnectionForced, amqp.exceptions.ConsumerCancelled):
        raise
    except (OSError, amqp.exceptions.InternalError, amqp.exceptions.RecoverableConnectionError) as error:
        raise BrokerUnavailable(
            f"{address}: the queue {config.queue_name} exists but cannot deliver ({reason_of(error)}): most of its "
            "members are down, or this node cannot reach them; `rabbitmq-diagnostics cluster_status` and "
            f"`rabbitmq-queues quorum_status {config.queue_name}` show which"
        ) from None


def consume_briefly(connection: Any, address: str, config: Config, tag: str) -> None:
    """Start a second consumer of the queue, and stop it at once. If that works, the queue can deliver.

    :param connection: a connection of py-amqp, with a timeout.
    :raises BrokerUnavailable: if the queue cannot deliver.
    """
    with brief_channel(connection) as channel:
        # Despite its low priority, this consumer may get a message if the others have reached their prefetch. Closing
        # the channel requeues it.
        channel.basic_qos(0, 1, False)
        with majority_needed(address, config):
            channel.basic_consume(
                config.queue_name, consumer_tag=tag, callback=lambda _message: None, arguments={"x-priority": -1}
            )


def declare(channel: Any, config: Config, address: str) -> None:
    """Declare the shared queue and bind it to Celery's event exchange."""
    exchange = config.broker.exchange
    try:
        # Passively first: the exchange may be durable or not, and a user without the configure right can still consume.
        channel.exchange_declare(exchange, "topic", passive=True)
    except amqp.exceptions.NotFound:
        channel.open()
        channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
    declare_queue(channel, config)
    with majority_needed(address, config):
        channel.queue_bind(config.queue_name, exchange, routing_key="#")


def declare_queue(channel: Any, config: Config) -> None:
    """Declare the shared queue; nothing happens if it exists with the same arguments."""
    channel.queue_declare(
        config.queue_name, durable=True, exclusive=False, auto_delete=False, arguments=queue_arguments(config.queue)
    )


def queue_arguments(queue: Queue) -> dict[str, Any]:
    """The queue's arguments, in RabbitMQ's names and units."""
    arguments: dict[str, Any] = {
        "x-queue-type": queue.type.value,
        "x-message-ttl": int(queue.message_ttl * 1000),
        "x-max-length": queue.max_length,
        "x-overflow": "drop-head",
        "x-expires": int(queue.expires * 1000),
    }
    if queue.type is QueueType.QUORUM:
        # By default, RabbitMQ 4 drops a message after 20 deliveries; a series of crashes reaches that.
        arguments["x-delivery-limit"] = queue.delivery_limit
    return arguments
