"""The port to a broker: what the pipeline needs from it."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from ha_monitor.dialing import Dialed
from ha_monitor.events.decode import Message


def max_requeue_delay(heartbeat: float) -> float:
    """Maximum seconds until RabbitMQ requeues the unacknowledged messages of a client that disappeared.

    Once per heartbeat interval, RabbitMQ checks whether something was received, and closes the connection after the
    second miss (rabbit_heartbeat.erl): two to three intervals after the last frame. Requeueing takes little more time.

    :param heartbeat: the negotiated interval in seconds.
    """
    return 3 * heartbeat + 2


class Mark(NamedTuple):
    """A position in the stream of deliveries, valid only on the connection that it was taken from."""

    generation: int
    delivery_tag: int


class Source(Protocol):
    """A stream of event messages from a broker. All methods except `dial` are used by one thread."""

    redelivers: bool
    """Whether unacknowledged messages are redelivered, to this instance or another."""
    redelivered: int
    """Number of messages so far that the broker marked as redelivered."""

    prefetch_limit: int | None
    """Maximum number of unacknowledged messages; None if there is no limit."""

    url: str
    """The URL of the broker that is connected, or was last. Contains the password."""

    place: str
    """Identifies that broker, as far as possible, whichever of its addresses is used. Empty before the first
    connection, and if `broker.url` names several brokers for fail-over: instances may then use different ones.
    """

    consumers: int | None
    """Consumers of the shared queue at the latest `depth`, including this one; None if they are not counted."""
    gap: float
    """Seconds before the latest connection in which this instance may have missed messages; 0 if that was the first
    connection, and for a broker that keeps what is sent.
    """

    def dial(self) -> Dialed[str]:
        """Connect, declare what is needed and start to consume. The new connection takes effect when `use` is called.

        Blocks for some connection timeouts, and as long as a name server takes. Called in a thread of its own, one
        call at a time, while the loop may use the previous connection.

        :returns: its `use` returns the broker's address, without user and password.
        :raises BrokerUnavailable: if no broker can be used at the moment.
        :raises ConfigurationError: if a retry cannot help.
        """

    def receive(self, limit: int, timeout: float) -> list[Message]:
        """The next messages, at most `limit`; waits up to `timeout` seconds for the first one.

        Either all of them are redelivered or none; if they are, `redelivered` has grown.

        :raises BrokerUnavailable: if the connection broke or the broker cancelled the consumer. Unacknowledged
        messages are redelivered if `redelivers`; otherwise received messages are kept for the next calls.
        """

    @property
    def holds_messages(self) -> bool:
        """Whether `receive` can return messages without a connection: those that a broker without redelivery sent
        before the connection ended."""

    @property
    def arrivals(self) -> int | None:
        """How often something, even a heartbeat, arrived from the broker on this connection: everything that the broker
        sent earlier has then arrived, too. None if every instance receives all messages.
        """

    @property
    def greeting(self) -> str:
        """The greeting that this connection sent to all subscribers of the same broker, once it has received that
        greeting itself. Empty until then, and if `place` identifies the broker instead.
        """

    @property
    def greetings(self) -> Collection[str]:
        """The greetings received, including its own. Of two instances at the same broker, the one that connected first
        receives the other's.
        """

    def mark(self) -> Mark:
        """The position after the last message received."""

    received_until: float
    """Time by the monotonic clock: if the latest `receive` returned nothing, everything that the broker had sent before
    this time has been received. Infinity if `receive` itself reads the socket.
    """

    @property
    def is_receiving(self) -> bool:
        """Whether a message has arrived only in part."""

    def acknowledge(self, mark: Mark) -> None:
        """Acknowledge everything up to the mark. A mark of an earlier connection is ignored.

        :raises BrokerUnavailable: if the connection broke.
        """

    @property
    def silence(self) -> float:
        """Seconds for which an answer of the broker has been outstanding; 0 if none is, or the broker is not asked."""

    def heartbeat(self) -> None:
        """Send a heartbeat if due, and check the broker's heartbeats. Call it about once a second.

        :raises BrokerUnavailable: if the broker has been silent for too long.
        """

    is_behind: bool
    """Whether, as of the latest `heartbeat` or question, more has arrived or may arrive than is kept for the caller.
    The broker would answer a question only after that: `depth` and `prove_delivery` would have to read all of it first.
    """

    def depth(self) -> int | None:
        """How many messages wait in the shared queue; None if there is no queue, or if too many messages come before
        the answer, so that this source `is_behind`. Restores a missing binding.

        :raises BrokerUnavailable: if the connection broke, or the queue or the exchange is gone.
        """

    def prove_delivery(self) -> None:
        """Check that the broker can deliver messages: it may be unable to, although it answers everything else. Not
        needed, and ended, if many come at that moment. Blocks for at most one connection timeout.

        :raises BrokerUnavailable: if the broker cannot deliver, or the connection broke.
        """

    def close(self) -> None:
        """Close the connection if there is one; unacknowledged messages are requeued. Messages received from a broker
        without redelivery are kept. Never raises.
        """
