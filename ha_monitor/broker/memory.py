"""A broker in memory with one shared queue, to drive the loop without RabbitMQ in tests and experiments.

Nothing that runs in production imports it. It is in the package for the same reason as `store/memory/`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from ha_monitor.broker.source import Mark
from ha_monitor.clock import Clock
from ha_monitor.dialing import Dialed
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.events.decode import Message

ANSWER_TIMEOUT = 3.0
"""Seconds until a source gives up on a broker that does not answer."""


class MemoryBroker:
    """The queue that all sources share."""

    def __init__(self, clock: Clock, *, redelivers: bool = True) -> None:
        """:param redelivers: whether unacknowledged messages are kept and redelivered; False is as with pub/sub."""
        self.clock = clock
        self.redelivers = redelivers
        self.ready: deque[Message] = deque()
        self.in_flight = 0
        """Messages that a source has received and not acknowledged."""
        self.consumers = 0
        """Sources that are connected."""
        self.place = "memory"
        self.trouble: Callable[[str], None] = lambda _moment: None
        """Called before and after each call, with a text such as `before acknowledge`. The caller gets what it raises;
        a `BrokerUnavailable` also ends the connection.
        """

    def publish(self, bodies: Iterable[bytes]) -> None:
        """Append messages to the queue."""
        self.ready += [Message(body) for body in bodies]


class MemorySource:
    """See `Source`. To wait, it calls the clock's `sleep`."""

    url = "memory://"
    is_receiving = is_behind = False
    gap = silence = 0.0
    greeting = ""
    greetings: Collection[str] = ()
    received_until = float("inf")

    def __init__(self, broker: MemoryBroker, prefetch: int | None = 1000) -> None:
        self._broker = broker
        self.redelivers = broker.redelivers
        self.redelivered = 0
        self.prefetch_limit = prefetch
        self.place = broker.place
        self.consumers: int | None = None
        self.is_half_open = False
        """Whether nothing that the broker sends arrives any longer, and neither side knows it."""
        self._arrivals = 0
        self._connected = False
        self._in_flight: deque[tuple[int, Message]] = deque()
        self._held: deque[Message] = deque()
        self._mark = Mark(0, 0)

    def dial(self) -> Dialed[str]:
        def use() -> str:
            self.close()
            self._connected, self.is_half_open = True, False
            self._broker.consumers += 1
            return "memory"

        self._broker.trouble("before connect")
        return Dialed(use, lambda: None)

    def connect(self) -> str:
        return self.dial().use()

    @property
    def holds_messages(self) -> bool:
        return bool(self._held)

    def receive(self, limit: int, timeout: float) -> list[Message]:
        if not (self._connected or self._held):
            raise BrokerUnavailable("not connected to the broker")
        self._call("receive", lambda: None)
        ready = self._held or self._broker.ready
        if self.prefetch_limit is not None:
            limit = min(limit, self.prefetch_limit - len(self._in_flight))
        messages: list[Message] = []
        self._arrivals += not self.is_half_open
        redelivered = bool(ready) and ready[0].redelivered
        while ready and len(messages) < limit and ready[0].redelivered is redelivered:
            message = ready.popleft()
            messages.append(message)
            self._mark = Mark(self._mark.generation, self._mark.delivery_tag + 1)
            if self.redelivers:
                self._in_flight.append((self._mark.delivery_tag, message))
                self._broker.in_flight += 1
        if self.is_half_open:
            messages = []
        if redelivered:
            self.redelivered += len(messages)
        if not messages and timeout > 0:
            self._broker.clock.sleep(timeout)
        return messages

    @property
    def arrivals(self) -> int | None:
        return self._arrivals if self.redelivers else None

    def mark(self) -> Mark:
        return self._mark

    def acknowledge(self, mark: Mark) -> None:
        def forget() -> None:
            while self._in_flight and self._in_flight[0][0] <= mark.delivery_tag:
                self._in_flight.popleft()
                self._broker.in_flight -= 1

        if mark.generation == self._mark.generation:
            self._call("acknowledge", forget)

    def heartbeat(self) -> None:
        self._call("heartbeat", lambda: None)

    def depth(self) -> int | None:
        def answered() -> None:
            if self.is_half_open:
                self._broker.clock.sleep(ANSWER_TIMEOUT)
                raise BrokerUnavailable("no answer")

        self._call("depth", answered)
        if not self.redelivers:
            return None
        self.consumers = self._broker.consumers
        # A broker sends at once what the prefetch allows: such messages wait in the connection, not in the queue.
        room = None if self.prefetch_limit is None else self.prefetch_limit - len(self._in_flight)
        return 0 if room is None else max(0, len(self._broker.ready) - room)

    def prove_delivery(self) -> None:
        self._call("proof", lambda: None)

    def close(self) -> None:
        again = [message._replace(redelivered=True) for _, message in self._in_flight]
        self._broker.ready.extendleft(reversed(again))
        self._broker.in_flight -= len(again)
        self._in_flight.clear()
        self._broker.consumers -= self._connected
        if self._connected and not self.redelivers:
            # These messages have been sent, and are not sent again.
            self._held += self._broker.ready
            self._broker.ready.clear()
        self._connected = False
        self._mark = Mark(self._mark.generation + 1, 0)

    def _call(self, name: str, work: Callable[[], None]) -> None:
        if not self._connected:
            return
        try:
            self._broker.trouble(f"before {name}")
            work()
            self._broker.trouble(f"after {name}")
        except BrokerUnavailable:
            self.close()
            raise
