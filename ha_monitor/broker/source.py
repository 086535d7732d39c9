"""What the pipeline asks of a broker."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ha_monitor.events.decode import Message


def max_requeue_delay(heartbeat: float) -> float:
    """Seconds for which RabbitMQ keeps what it gave to a client that vanished without a word, at most.

    It looks once a heartbeat whether something came, and closes the connection at the second look in vain
    (rabbit_heartbeat.erl): between two and three heartbeats after the last sign. What else it takes is short.

    :param heartbeat: seconds, as agreed upon.
    """
    return 3 * heartbeat + 2


class Mark(NamedTuple):
    """A place in the stream of deliveries. It is worth nothing on another connection than its own."""

    generation: int
    delivery_tag: int


class Source(Protocol):
    """A stream of event messages from a broker. Used by one thread."""

    redelivers: bool
    """Whether what was not acknowledged is delivered again, to this instance or another."""
    redelivered: int
    """Messages so far that the broker marked as delivered before."""

    prefetch_limit: int | None
    """Messages that the broker gives without an acknowledgement at most; None if there is no limit."""

    url: str
    """The broker that it is, or was last, connected to. Holds the password."""

    def connect(self) -> str:
        """Connect, declare what is needed and start to consume; blocks for a few connection time-outs at most.

        :returns: the address of the broker it is connected to, without user and password.
        :raises BrokerUnavailable: if no broker can be used at the moment.
        :raises ConfigurationError: if trying again would change nothing.
        """

    def receive(self, limit: int, timeout: float) -> list[Message]:
        """The next messages, at most `limit`; waits up to `timeout` seconds for the first one.

        All of them had been delivered before, or none; `redelivered` says so.

        :raises BrokerUnavailable: if the connection broke or the broker stopped the consumer. Messages received
            and not acknowledged come again where `redelivers`.
        """

    def mark(self) -> Mark:
        """The place behind the last message received."""

    def acknowledge(self, mark: Mark) -> None:
        """Let the broker forget everything up to the mark. A mark of an earlier connection is ignored.

        :raises BrokerUnavailable: if the connection broke.
        """

    def heartbeat(self) -> None:
        """Keep the connection alive and check that the other side is; to be called about once a second.

        :raises BrokerUnavailable: if the other side has been silent for too long.
        """

    def depth(self) -> int | None:
        """How many messages wait in the shared queue; None where there is none.

        :raises BrokerUnavailable: if the connection broke, or the queue is gone.
        """

    def close(self) -> None:
        """Close the connection if there is one; what was not acknowledged goes back to the queue. Never raises."""
