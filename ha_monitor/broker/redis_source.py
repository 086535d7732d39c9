"""Events from Redis pub/sub, where every instance receives every event.

The store decides which instance announces an event: the first one to merge it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Collection
from threading import Thread
from typing import Any

import hiredis
import kombu.exceptions

from ha_monitor.broker.address import connect_once, connection_to, urls_of
from ha_monitor.broker.envelope import read_envelope
from ha_monitor.broker.inbox import Inbox
from ha_monitor.broker.pubsub_limit import BUFFER
from ha_monitor.broker.redis_errors import refuse_cluster, subscription_lost, unavailable
from ha_monitor.broker.redis_layout import database_of, layout_of
from ha_monitor.broker.source import Mark
from ha_monitor.broker.subscription import CONNECTION_ERRORS, NO_REPLY, Subscription
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.config.urls import address_of
from ha_monitor.dialing import Dialed
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Message
from ha_monitor.threads import Threads, ThreadUnavailable

_CONNECTION_ERRORS = (kombu.exceptions.KombuError, *CONNECTION_ERRORS)
_BYTES_AT_ONCE = 4 * 1024 * 1024
"""Maximum bytes of messages taken at once; the last message may exceed this."""
_MESSAGE_KINDS = frozenset({b"pmessage", b"message"})
_GREETING = re.compile(rb"/ha-monitor\.([0-9a-f]{16})$")
"""The end of a greeting's channel. A greeting has no content: all other subscribers ignore such messages."""
_MAX_GREETINGS = 200
"""Maximum greetings kept: the latest ones."""
_CLOSE_TIMEOUT = 1.0
"""Maximum seconds to wait for the thread of a closed connection, which is about to end."""


class RedisSource:
    """Subscribes to Celery's event channel. See `Source` for the guarantees.

    A thread reads the subscription into the inbox, so that nothing is missed whatever the loop does. If no thread can
    be started, each call reads. An instance misses what is published while it is not connected; the other instances
    receive it.
    """

    redelivers = False
    redelivered = 0
    is_behind = False

    def __init__(self, config: Config, clock: Clock, threads: Threads) -> None:
        self._config = config
        self.prefetch_limit: int | None = None
        self._clock = clock
        self._threads = threads
        self._urls = urls_of(config.broker.url)
        self._next_url = 0
        self.url = self._urls[0]
        self.place = ""
        self._own_greeting = ""
        self._greetings: dict[str, None] = {}
        self.consumers: int | None = None
        self.gap = 0.0
        self.received_until = float("-inf")
        self._complete_until: float | None = None
        self._subscription: Subscription | None = None
        self._thread: Thread | None = None
        self._inbox = Inbox(BUFFER)
        self._replies = _replies()
        self._unreadable: hiredis.Reader | None = None
        """Of a stream that was no longer Redis's: it raises at each call, and what follows cannot be read."""

    def dial(self) -> Dialed[str]:
        url = self._urls[self._next_url % len(self._urls)]
        self._next_url += 1
        greeting = secrets.token_hex(8)
        try:
            subscription = self._subscribe(url, greeting)
        except _CONNECTION_ERRORS as error:
            raise unavailable(url, self._config.broker, error) from None

        def use() -> str:
            self.close()
            self.url = url
            self._own_greeting, self._greetings = greeting, {}
            # A Redis server has no name of its own that survives a fail-over.
            self.place = f"database {database_of(url)}" if len(self._urls) == 1 else ""
            before = self._complete_until
            self.gap = 0.0 if before is None else max(0.0, subscription.complete_until - before)
            self._subscription = subscription
            subscription.begin()
            self._read_in_thread(subscription)
            return address_of(url)

        return Dialed(use, lambda: _end(subscription))

    def connect(self) -> str:
        """Dial and use the connection in one blocking call, for callers without a loop."""
        self.close()
        return self.dial().use()

    def receive(self, limit: int, timeout: float) -> list[Message]:
        """See `Source`. What was received on an earlier connection comes first, even while there is no connection."""
        if self._subscription is not None:
            self._check(self._subscription)
        until = self._clock.monotonic() + timeout
        messages: list[Message] = []
        room = _BYTES_AT_ONCE
        while len(messages) < limit and room > 0:
            try:
                reply = self._replies.gets()
            except CONNECTION_ERRORS as error:
                if messages:
                    break  # it raises again at the next call
                self._unreadable, self._replies = self._replies, _replies()
                raise self._lost(error) from None
            if reply is NO_REPLY:
                if self._subscription is not None and not messages:
                    self._check(self._subscription)
                    self.received_until = self._subscription.complete_until
                if not self._take(0.0 if messages else max(0.0, until - self._clock.monotonic())):
                    break
            # Anything else is the reply to the subscription or to a PING, or a greeting, which has no content.
            elif (
                isinstance(reply, list)
                and reply[0] in _MESSAGE_KINDS
                and (reply[-1] or not self._is_greeting(reply[-2]))
            ):
                room -= len(reply[-1])
                messages.append(read_envelope(reply[-1]))
        if not messages and self._subscription is None:
            self._replies = _replies()
            raise BrokerUnavailable("not connected to the broker")
        return messages

    @property
    def greeting(self) -> str:
        return self._own_greeting if self._own_greeting in self._greetings else ""

    @property
    def greetings(self) -> Collection[str]:
        return list(self._greetings)

    @property
    def arrivals(self) -> int | None:
        return None

    def mark(self) -> Mark:
        return Mark(0, 0)

    def acknowledge(self, mark: Mark) -> None:
        """Pub/sub has no acknowledgements."""

    @property
    def is_receiving(self) -> bool:
        return bool(self._replies.has_data())

    @property
    def holds_messages(self) -> bool:
        return len(self._inbox) > 0 or self.is_receiving

    @property
    def silence(self) -> float:
        return 0.0 if self._subscription is None else self._subscription.silence

    def heartbeat(self) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        if self._thread is None:
            self._read_in_thread(subscription)
        if self._thread is None:
            # Read an answer that has already come, before judging that it is missing.
            while self._inbox.has_room() and subscription.receive_once(0.0):
                pass
        self._check(subscription)

    def prove_delivery(self) -> None:
        pass  # the answers to the PINGs of the subscription come the same way as events

    def depth(self) -> int | None:
        """Pub/sub has no queue."""
        return None

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        thread, self._thread = self._thread, None
        if subscription is None:
            return
        subscription.close()
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT)
        if thread is None or not thread.is_alive():
            subscription.release()
        self._complete_until = subscription.complete_until

    def _subscribe(self, url: str, greeting: str) -> Subscription:
        settings = self._config.broker
        with connection_to(url, settings, options={"socket_keepalive": True}) as client:
            connect_once(client, url, settings)
            refuse_cluster(client.default_channel, url)
            # kombu knows which Redis the URL and the transport options mean, and how to reach it. But it reads pub/sub
            # only now and then, and reconnects silently.
            pool = client.default_channel.pool
            connection = pool.connection_class(**pool.connection_kwargs)
            subscription = Subscription(connection, layout_of(url, settings).channels[0], self._inbox, self._clock)
            try:
                subscription.open(settings.connect_timeout)
            except BaseException:
                _end(subscription)
                raise
            _greet(client, layout_of(url, settings).events, greeting)
            return subscription

    def _is_greeting(self, channel: bytes) -> bool:
        """Whether an empty message in this channel is a greeting; if so, notes it."""
        found = _GREETING.search(channel)
        if found:
            self._greetings[found[1].decode()] = None
            if len(self._greetings) > _MAX_GREETINGS:
                self._greetings.pop(next(name for name in self._greetings if name != self._own_greeting))
        return found is not None

    def _read_in_thread(self, subscription: Subscription) -> None:
        """Have a thread read the subscription, if one can be started."""
        with contextlib.suppress(ThreadUnavailable):
            self._thread = self._threads.start("subscription", subscription.read)

    def _take(self, timeout: float) -> bool:
        """Take a piece out of the inbox. Returns whether there was one."""
        if self._thread is None and self._subscription is not None and not len(self._inbox):
            self._subscription.receive_once(timeout)
            timeout = 0.0
        piece = self._inbox.take(timeout)
        if piece is None:
            return False
        if piece.replies is not self._unreadable:
            self._replies = piece.replies
            self._replies.feed(piece.data)
        return True

    def _check(self, subscription: Subscription) -> None:
        """:raises BrokerUnavailable: if nothing more will come."""
        if subscription.failure is not None:
            raise self._lost(subscription.failure)
        if subscription.silence >= self._config.broker.heartbeat:
            raise self._lost(TimeoutError(f"no answer for {subscription.silence:.0f} s"))

    def _lost(self, error: BaseException) -> BrokerUnavailable:
        subscription = self._subscription
        if subscription is None:
            return unavailable(self.url, self._config.broker, error)
        missing = self._clock.monotonic() - subscription.complete_until
        return subscription_lost(
            self.url, self._config.broker, error, was_behind=subscription.is_behind, missing=missing
        )


def _greet(client: Any, channels: str, greeting: str) -> None:
    """Tell all subscribers of this Redis that this connection subscribes, too.

    :param channels: the channels of the events. If it is not a pattern, all subscribe to that one channel only, so
        there is no channel for a greeting.
    """
    if channels.endswith("/*"):
        with contextlib.suppress(*_CONNECTION_ERRORS):  # such as a missing right: brokers are not compared then
            client.default_channel.client.publish(f"{channels[:-1]}ha-monitor.{greeting}", b"")


def _end(subscription: Subscription) -> None:
    """Close a subscription that no thread reads."""
    subscription.close()
    subscription.release()


def _replies() -> hiredis.Reader:
    """A reader that belongs to no stream yet."""
    return hiredis.Reader(notEnoughData=NO_REPLY)
