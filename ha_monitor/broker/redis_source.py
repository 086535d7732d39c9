"""Events from Redis: pub/sub, where every instance receives every event.

The store decides which one announces an event: the first to merge it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import kombu.exceptions
import redis.exceptions
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer

from ha_monitor.broker.address import address_of, connect_once, connection_to, urls_of
from ha_monitor.broker.envelope import read_envelope
from ha_monitor.broker.redis_errors import subscription_lost, unavailable
from ha_monitor.broker.redis_layout import database_of
from ha_monitor.broker.source import Mark
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Message

_FOREIGN = (kombu.exceptions.KombuError, redis.exceptions.RedisError, OSError)
_BYTES_AT_ONCE = 4 * 1024 * 1024
"""Bytes of messages read from the socket at once, and of those held; the last one may exceed it."""
_MESSAGE_KINDS = frozenset({b"pmessage", b"message"})
_SILENCE = 2
"""Health checks without an answer after which the subscription counts as dead."""


class RedisSource:
    """Subscribes to Celery's event channel. See `Source` for the guarantees.

    An instance misses what is published while it is not connected; the other instances receive it.
    """

    redelivers = False
    redelivered = 0
    is_receiving = False
    """A message is read as a whole."""

    def __init__(self, config: Config, consumer_name: str, clock: Clock) -> None:
        self._config = config
        self._name = consumer_name
        self.prefetch_limit: int | None = None
        self._clock = clock
        self._urls = urls_of(config.broker.url)
        self._next_url = 0
        self._address = ""
        self.url = self._urls[0]
        self.place = ""
        self._client: Connection | None = None
        self._channel: Any = None
        self._received: deque[Message] = deque()
        self._held_bytes = 0
        self._read_bytes = 0
        self._limit = 1
        self._last_reply_at = 0.0

    def connect(self) -> str:
        self.close()
        url = self.url = self._urls[self._next_url % len(self._urls)]
        self._next_url += 1
        self._address = address_of(url)
        try:
            self._open(url)
        except _FOREIGN as error:
            self.close()
            raise self._unavailable(error) from None
        except BaseException:
            self.close()
            raise
        return self._address

    def receive(self, limit: int, timeout: float) -> list[Message]:
        client = self._client
        if client is None:
            raise BrokerUnavailable("not connected to the broker")
        received = self._received
        if received:
            timeout = 1e-6
        self._limit = limit
        self._read_bytes = 0
        try:
            while self._has_room():
                self._read(client, timeout)
                # It waits only for the first one; for kombu 0 means no timeout.
                timeout = 1e-6
        except TimeoutError:
            pass
        except _FOREIGN as error:
            raise self._lost(error) from None
        messages = [received.popleft() for _ in range(min(limit, len(received)))]
        self._held_bytes -= sum(len(message.body) for message in messages)
        return messages

    @property
    def arrivals(self) -> int | None:
        return None

    def mark(self) -> Mark:
        return Mark(0, 0)

    def acknowledge(self, mark: Mark) -> None:
        """Pub/sub has no acknowledgements."""

    def heartbeat(self) -> None:
        if self._client is None:
            return
        try:
            # kombu sends the health check; here its answer is checked. A half-open connection gives none.
            self._expect_answer(self._client)
            self._client.transport.cycle.maybe_check_subclient_health()
        except _FOREIGN as error:
            raise self._lost(error) from None

    def _expect_answer(self, client: Connection) -> None:
        subscription, now = self._channel.subclient, self._clock.monotonic()
        self._read_bytes = 0
        if now - self._last_reply_at > _SILENCE * self._config.broker.heartbeat:
            # A slow handler may have kept the loop from reading for that long.
            with contextlib.suppress(TimeoutError):
                while subscription.health_check_response_counter and self._has_room():
                    self._read(client, 1e-6)
            if subscription.health_check_response_counter and now > self._last_reply_at:
                raise BrokerUnavailable(f"{self._address}: the subscription does not answer")
        if not subscription.health_check_response_counter:
            self._last_reply_at = now

    def depth(self) -> int | None:
        """Pub/sub has no queue."""
        return None

    def close(self) -> None:
        client, self._client = self._client, None
        self._channel = None
        if client is not None:
            with contextlib.suppress(Exception):
                client.collect(socket_timeout=1)

    def _open(self, url: str) -> None:
        settings = self._config.broker
        options = {"health_check_interval": settings.heartbeat, "socket_keepalive": True}
        self._client = connection_to(url, settings, options=options)
        connect_once(self._client)
        # A Redis has no name of its own that outlives a failover.
        self.place = f"database {database_of(url)}" if len(self._urls) == 1 else ""
        self._channel = self._client.default_channel
        exchange = Exchange(settings.exchange, "fanout", durable=True)
        queue = Queue(
            f"{self._config.queue_name}.{self._name}", exchange, routing_key="#", durable=False, auto_delete=True
        )
        Consumer(self._channel, [queue], no_ack=True, auto_declare=True).consume()
        # kombu decodes and expands messages itself, without limits, raises, and reads for as long as more is
        # available.
        self._channel.handlers["LISTEN"] = self._listen
        self._await_subscription(self._client, settings.connect_timeout)

    def _await_subscription(self, client: Connection, timeout: float) -> None:
        """Return when the server has confirmed the subscription: what is published from now on arrives.

        Until then another instance must be subscribed; rolling restarts rely on that.
        """
        began = self._last_reply_at = self._clock.monotonic()
        self._poll(client)  # kombu subscribes when it first polls
        subscription = self._channel.subclient
        # A server answers in order, so the answer to a health check, which is due now, comes after the subscription.
        subscription.connection.next_health_check = 0
        client.transport.cycle.maybe_check_subclient_health()
        while subscription.health_check_response_counter:
            if self._clock.monotonic() - began > timeout:
                raise BrokerUnavailable(f"{self._address}: no answer to the subscription for {timeout:g} s")
            self._poll(client)

    def _poll(self, client: Connection) -> None:
        with contextlib.suppress(TimeoutError):
            self._read(client, 0.01)

    def _has_room(self) -> bool:
        return len(self._received) < self._limit and max(self._held_bytes, self._read_bytes) < _BYTES_AT_ONCE

    def _read(self, client: Connection, timeout: float) -> None:
        """Take what is available, or arrives within the timeout. :raises TimeoutError: if nothing came."""
        subscription = self._channel.subclient.connection
        # What redis-py has already buffered makes no socket readable, so kombu would not see it.
        if subscription is not None and subscription.can_read(0):
            self._listen()
        else:
            client.drain_events(timeout=timeout)

    def _listen(self) -> bool:
        """Read replies while there is room, at least one; whether there was a message."""
        subscription = self._channel.subclient
        taken = False
        while True:
            response = subscription.parse_response()
            self._last_reply_at = self._clock.monotonic()
            # Anything else is the reply to the subscription or to a health check.
            if isinstance(response, list | tuple) and response[0] in _MESSAGE_KINDS:
                self._read_bytes += len(response[-1])
                message = read_envelope(response[-1])
                self._received.append(message)
                self._held_bytes += len(message.body)
                taken = True
            if not self._has_room() or not subscription.connection.can_read(0):
                return taken

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        return unavailable(self.url, self._config.broker, error)

    def _lost(self, error: Exception) -> BrokerUnavailable:
        return subscription_lost(self.url, self._config.broker, error)
