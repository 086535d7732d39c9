"""Simulated brokers: a quorum queue that redelivers, and pub/sub that does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from ha_monitor.broker.source import Mark
from ha_monitor.dialing import Dialed
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Message
from tests.simulation.clock import HostClock, Timeline

HEARTBEAT = 2.0
"""Seconds; the setting `broker.heartbeat`."""
ANSWER_TIMEOUT = 3.0
"""Seconds until a client gives up an answer."""


class Client(Protocol):
    """The process that a source belongs to, and its link to the broker."""

    clock: HostClock

    @property
    def is_linked(self) -> bool:
        """Whether packets get through between this host and the broker."""

    def moment(self, name: str) -> None:
        """A step is about to be made, or has been."""

    def pause(self, seconds: float) -> None:
        """Wait without doing anything."""


class Broker:
    """What both kinds have in common."""

    redelivers: bool

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.is_up = True
        self.delivers = True
        """False: the queue has lost its majority."""
        self.alarm = False
        """It takes nothing from those who publish."""
        self.accepted: Callable[[bytes], None] = lambda _body: None
        """Is told of each message that it has taken."""

    def take(self, body: bytes) -> bool:
        """Take a message from somebody who publishes; whether it did."""
        if not self.is_up or self.alarm or not self.delivers:
            return False
        self.accepted(body)
        self._put(body)
        return True

    def stop(self) -> None:
        self.is_up = False
        self.drop_all()

    def drop_all(self) -> None:
        """Close all connections."""
        raise NotImplementedError

    def deliver(self) -> None:
        """Send what can be sent."""
        raise NotImplementedError

    def _put(self, body: bytes) -> None:
        raise NotImplementedError


class Channel:
    """The broker's side of a consumer."""

    def __init__(self, client: Client, prefetch: int) -> None:
        self.client = client
        self.prefetch = prefetch
        self.unacknowledged: deque[tuple[int, Message]] = deque()
        self.wire: deque[tuple[int, Message]] = deque()
        """What was sent and not read: it arrives once packets get through."""
        self.acknowledgements: list[int] = []
        """What the client has sent and the broker not received."""
        self.last_tag = 0
        self.is_open = True
        self.has_heard = True
        self.misses = 0


class QueueBroker(Broker):
    """RabbitMQ with one quorum queue."""

    redelivers = True

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.ready: deque[Message] = deque()
        self.channels: list[Channel] = []
        timeline.after(HEARTBEAT, self._check_heartbeats)

    def held(self) -> list[bytes]:
        """The bodies that it has, whoever else has them."""
        given = [message.body for channel in self.channels for _, message in channel.unacknowledged]
        return given + [message.body for message in self.ready]

    def _put(self, body: bytes) -> None:
        self.ready.append(Message(body))
        self.deliver()

    def deliver(self) -> None:
        """Deal what is ready to the consumers in turn."""
        while self.ready and self.delivers and self.is_up:
            free = [one for one in self.channels if len(one.unacknowledged) < one.prefetch]
            if not free:
                return
            channel = free[0]
            self.channels.remove(channel)
            self.channels.append(channel)
            channel.last_tag += 1
            delivery = channel.last_tag, self.ready.popleft()
            channel.unacknowledged.append(delivery)
            channel.wire.append(delivery)

    def open(self, client: Client, prefetch: int) -> Channel:
        channel = Channel(client, prefetch)
        self.channels.append(channel)
        self.deliver()
        return channel

    def close(self, channel: Channel) -> None:
        """Requeue what was not acknowledged: to where it was, at the head."""
        if not channel.is_open:
            return
        channel.is_open = False
        self.channels.remove(channel)
        self.ready.extendleft(message._replace(redelivered=True) for _, message in reversed(channel.unacknowledged))
        channel.unacknowledged.clear()
        channel.wire.clear()
        self.deliver()

    def drop_all(self) -> None:
        for channel in list(self.channels):
            self.close(channel)

    def receive_acknowledgements(self, channel: Channel) -> None:
        """What the client has sent arrives."""
        sent, channel.acknowledgements = channel.acknowledgements, []
        for tag in sent:
            if not channel.unacknowledged or tag < channel.unacknowledged[0][0] or tag > channel.last_tag:
                self.close(channel)  # PRECONDITION_FAILED: unknown delivery tag
                return
            while channel.unacknowledged and channel.unacknowledged[0][0] <= tag:
                channel.unacknowledged.popleft()
        if sent:
            self.deliver()

    def client_gone(self, channel: Channel, *, in_order: bool) -> None:
        """The client has ended. :param in_order: whether the broker is told; else it notices by the heartbeats."""
        if in_order and channel.client.is_linked:
            self.close(channel)

    def _check_heartbeats(self) -> None:
        """At the second interval without a word, it closes the connection (rabbit_heartbeat.erl)."""
        for channel in list(self.channels):
            channel.misses = 0 if channel.has_heard else channel.misses + 1
            channel.has_heard = False
            if channel.misses >= 2:
                self.close(channel)
        self.timeline.after(HEARTBEAT, self._check_heartbeats)


def _reach(broker: QueueBroker | PubSubBroker, client: Client) -> None:
    """:raises BrokerUnavailable: if a client cannot connect."""
    client.moment("before connect")
    if not client.is_linked:
        client.pause(ANSWER_TIMEOUT)
        raise BrokerUnavailable("no answer")
    if not broker.is_up:
        raise BrokerUnavailable("connection refused")


class _SimulatedSource:
    """What the sources of both brokers have in common."""

    place = "simulated"
    greeting = ""
    greetings: Collection[str] = ()
    is_receiving = is_behind = False


class QueueSource(_SimulatedSource):
    """See `Source`: the instance's side of a consumer of the queue."""

    url = "amqp://simulated"
    redelivers = True
    holds_messages = False
    gap = silence = 0.0
    received_until = float("inf")

    def __init__(self, broker: QueueBroker, client: Client, prefetch: int) -> None:
        self._broker = broker
        self._client = client
        self.prefetch_limit: int | None = prefetch
        self.redelivered = 0
        self.consumers: int | None = None
        self.channel: Channel | None = None
        self._mark = Mark(0, 0)
        self._arrivals = 0
        self._heard_at = 0.0

    @property
    def arrivals(self) -> int | None:
        return self._arrivals

    def dial(self) -> Dialed[str]:
        _reach(self._broker, self._client)
        if not self._broker.delivers:
            self._client.pause(ANSWER_TIMEOUT)
            raise BrokerUnavailable("the queue delivers nothing")
        channel = self._broker.open(self._client, self.prefetch_limit or 0)

        def use() -> str:
            self.close()
            self.channel = channel
            self._heard()
            return self.place

        return Dialed(use, lambda: self._broker.client_gone(channel, in_order=True))

    def receive(self, limit: int, timeout: float) -> list[Message]:
        channel = self._begin("receive")
        messages: list[Message] = []
        if self._client.is_linked:
            wire = channel.wire
            again = bool(wire) and wire[0][1].redelivered
            while wire and len(messages) < limit and wire[0][1].redelivered is again:
                tag, message = wire.popleft()
                self._mark = Mark(self._mark.generation, tag)
                messages.append(message)
            if again:
                self.redelivered += len(messages)
            if messages or self._client.clock.monotonic() - self._heard_at >= HEARTBEAT / 2:
                self._heard()
        if not messages and timeout > 0:
            self._client.clock.sleep(timeout)
        return messages

    def mark(self) -> Mark:
        return self._mark

    def acknowledge(self, mark: Mark) -> None:
        if self.channel is None or mark.generation != self._mark.generation:
            return
        channel = self._begin("acknowledge")
        channel.acknowledgements.append(mark.delivery_tag)
        self._speak(channel)
        self._end("acknowledge")

    def heartbeat(self) -> None:
        channel = self._begin("heartbeat")
        if self._client.is_linked:
            self._heard()
            self._speak(channel)
        elif self._client.clock.monotonic() - self._heard_at > 2 * HEARTBEAT:
            raise self._lost("too many heartbeats missed")
        self._end("heartbeat")

    def depth(self) -> int | None:
        channel = self._begin("depth")
        self._answered()
        self._speak(channel)
        self.consumers = len(self._broker.channels)
        self._end("depth")
        return len(self._broker.ready)

    def prove_delivery(self) -> None:
        self._begin("proof")
        self._answered(self._broker.delivers)
        self._end("proof")

    def close(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            if self._client.is_linked:
                self._broker.receive_acknowledgements(channel)
            self._broker.client_gone(channel, in_order=True)
        self._mark = Mark(self._mark.generation + 1, 0)

    def killed(self, *, power: bool) -> None:
        """Its process was killed, or the power of its host is off: then nobody tells the broker."""
        if self.channel is not None:
            self._broker.client_gone(self.channel, in_order=not power)

    def _begin(self, call: str) -> Channel:
        if self.channel is None:
            raise BrokerUnavailable("not connected to the broker")
        self._moment(f"before {call}")
        channel = self.channel
        if channel is None or (not channel.is_open and self._client.is_linked):
            raise self._lost("connection reset")
        return channel

    def _end(self, call: str) -> None:
        self._moment(f"after {call}")

    def _moment(self, name: str) -> None:
        try:
            self._client.moment(name)
        except BrokerUnavailable:
            self.close()
            raise

    def _answered(self, can: bool = True) -> None:
        """The broker answers a question if it can."""
        if not self._client.is_linked or not can:
            self._client.pause(ANSWER_TIMEOUT)
            raise self._lost("no answer")
        self._heard()

    def _lost(self, why: str) -> BrokerUnavailable:
        self.close()
        return BrokerUnavailable(why)

    def _heard(self) -> None:
        self._arrivals += 1
        self._heard_at = self._client.clock.monotonic()

    def _speak(self, channel: Channel) -> None:
        if self._client.is_linked and channel.is_open:
            channel.has_heard = True
            self._broker.receive_acknowledgements(channel)


class PubSubBroker(Broker):
    """Redis, which sends what is published to whoever subscribes, and keeps nothing."""

    redelivers = False

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.subscribers: list[SubscribedSource] = []
        self.received: Callable[[bytes, Client], None] = lambda _body, _client: None
        """Is told what has arrived where."""

    def held(self) -> list[bytes]:
        return []

    def _put(self, body: bytes) -> None:
        for one in self.subscribers:
            one.sent.append(body)
        self.deliver()

    def deliver(self) -> None:
        for one in self.subscribers:
            one.arrive()

    def drop_all(self) -> None:
        self.subscribers.clear()


class SubscribedSource(_SimulatedSource):
    """See `Source`: a subscription, which is read whatever the loop does."""

    url = "redis://simulated"
    redelivers = False
    redelivered = 0
    prefetch_limit: int | None = None
    arrivals: int | None = None
    consumers: int | None = None

    def __init__(self, broker: PubSubBroker, client: Client) -> None:
        self._broker = broker
        self._client = client
        self._is_connected = False
        self.sent: list[bytes] = []
        """By the broker, on this connection, and not arrived."""
        self._inbox: deque[bytes] = deque()
        self._complete_until: float | None = None
        self.received_until = 0.0
        self.gap = 0.0

    def arrive(self) -> None:
        """What was sent arrives, if packets get through."""
        if self._client.is_linked:
            for body in self.sent:
                self._inbox.append(body)
                self._broker.received(body, self._client)
            self.sent = []
            self._complete_until = self._client.clock.monotonic()

    def dial(self) -> Dialed[str]:
        _reach(self._broker, self._client)

        def use() -> str:
            self.close()
            now = self._client.clock.monotonic()
            self.gap = 0.0 if self._complete_until is None else now - self._complete_until
            self._complete_until = now
            self._is_connected = True
            self._broker.subscribers.append(self)
            return self.place

        return Dialed(use, lambda: None)

    @property
    def holds_messages(self) -> bool:
        return bool(self._inbox)

    @property
    def silence(self) -> float:
        if not self._is_connected:
            return 0.0
        self._look()
        silent = self._client.clock.monotonic() - (self._complete_until or 0.0)
        return silent if silent > 0.5 else 0.0

    def receive(self, limit: int, timeout: float) -> list[Message]:
        if self._is_connected:
            self._client.moment("before receive")
            self._check()
        self.received_until = self._complete_until or 0.0
        messages = [Message(self._inbox.popleft()) for _ in range(min(limit, len(self._inbox)))]
        if not messages and not self._is_connected:
            raise BrokerUnavailable("not connected to the broker")
        if not messages and timeout > 0:
            self._client.clock.sleep(timeout)
        return messages

    def mark(self) -> Mark:
        return Mark(0, 0)

    def acknowledge(self, mark: Mark) -> None:
        pass

    def heartbeat(self) -> None:
        if self._is_connected:
            self._client.moment("before heartbeat")
            self._check()

    def depth(self) -> int | None:
        return None

    def prove_delivery(self) -> None:
        pass

    def close(self) -> None:
        self._is_connected = False
        self.sent = []
        if self in self._broker.subscribers:
            self._broker.subscribers.remove(self)

    def _look(self) -> None:
        if self._is_connected and self in self._broker.subscribers:
            self.arrive()

    def _check(self) -> None:
        if self._client.is_linked and self not in self._broker.subscribers:
            self.close()
            raise BrokerUnavailable("connection closed by server")
        self._look()
        if self.silence >= HEARTBEAT * 2:
            self.close()
            raise BrokerUnavailable("no answer")
