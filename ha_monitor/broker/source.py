"""The port to a broker: what the pipeline needs of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from ha_monitor.dialing import Dialed
from ha_monitor.events.decode import Message


def max_requeue_delay(heartbeat: float) -> float:
    """Most seconds until RabbitMQ requeues the unacknowledged messages of a client that disappeared.

    Once per heartbeat interval it checks whether something was received, and closes the connection at the second
    miss (rabbit_heartbeat.erl): two to three intervals after the last frame. The rest is short.

    :param heartbeat: the negotiated interval in seconds.
    """
    return 3 * heartbeat + 2


class Mark(NamedTuple):
    """A position in the stream of deliveries. It is valid only on its own connection."""

    generation: int
    delivery_tag: int


class Source(Protocol):
    """A stream of event messages from a broker. Used by one thread, `dial` apart."""

    redelivers: bool
    """Whether unacknowledged messages are redelivered, to this instance or another."""
    redelivered: int
    """Messages so far that the broker marked as redelivered."""

    prefetch_limit: int | None
    """Maximum number of unacknowledged messages; None if there is no limit."""

    url: str
    """The broker that it is, or was last, connected to. Holds the password."""

    place: str
    """What tells that broker from another one, whichever of its addresses is used, as far as it can be told; empty
    before it was connected, and if there are several for failover: instances may then be at different ones.
    """

    consumers: int | None
    """Consumers of the shared queue when `depth` was asked last, this one among them; None where none are counted."""
    gap: float
    """Seconds up to the latest connection in which something may have been sent that this instance missed; 0 if it was
    the first one, and for a broker that keeps what is sent.
    """

    def dial(self) -> Dialed[str]:
        """Connect, declare what is needed and start to consume, on a connection that is used once its `use` is called.
        Blocks: for some connection timeouts, and as long as a name server takes. Called in a thread of its own, one at
        a time, while the loop may use what there was before.

        What is connected to has an address, without user and password.

        :raises BrokerUnavailable: if no broker can be used at the moment.
        :raises ConfigurationError: if a retry cannot help.
        """

    def receive(self, limit: int, timeout: float) -> list[Message]:
        """The next messages, at most `limit`; waits up to `timeout` seconds for the first one.

        Either all of them are redelivered or none; `redelivered` tells which.

        :raises BrokerUnavailable: if the connection broke or the broker stopped the consumer. Unacknowledged
        messages are redelivered if `redelivers`; otherwise what was received is kept for the next calls.
        """

    @property
    def holds_messages(self) -> bool:
        """Whether `receive` has something to give without a connection: what a broker that does not redeliver sent
        before the connection ended."""

    @property
    def arrivals(self) -> int | None:
        """How often something arrived from the broker on this connection, if only a heartbeat: then all has arrived
        that it sent before. None if every other instance is given the same messages.
        """

    @property
    def greeting(self) -> str:
        """What this connection has sent to all that listen at the same broker, once it has received that itself. Empty
        until then, and where brokers are told apart by `place`.
        """

    @property
    def greetings(self) -> Collection[str]:
        """Those that it has received, its own among them. Of two instances at one broker, the one that connected first
        has the other's.
        """

    def mark(self) -> Mark:
        """The position after the last message received."""

    received_until: float
    """By the monotonic clock: if the latest `receive` brought nothing, all that the broker had sent until then has been
    received. Infinity if it was asked there and then.
    """

    @property
    def is_receiving(self) -> bool:
        """Whether a part of a message has arrived, and the rest has not."""

    def acknowledge(self, mark: Mark) -> None:
        """Acknowledge everything up to the mark. A mark of an earlier connection is ignored.

        :raises BrokerUnavailable: if the connection broke.
        """

    @property
    def silence(self) -> float:
        """Seconds for which the broker has owed an answer; 0 if it owes none, or is not asked."""

    def heartbeat(self) -> None:
        """Send a heartbeat if due, and check those of the broker; to be called about once a second.

        :raises BrokerUnavailable: if the other side has been silent for too long.
        """

    is_behind: bool
    """Whether more has arrived than is kept for the caller, as of the latest `heartbeat`. A question would be answered
    behind it: `depth` and `prove_delivery` would read all of it first.
    """

    def depth(self) -> int | None:
        """How many messages wait in the shared queue; None if there is no queue. Binds it again, if need be.

        :raises BrokerUnavailable: if the connection broke, or the queue or the exchange is gone.
        """

    def prove_delivery(self) -> None:
        """Have the broker show that it can deliver, which it may not be able to though it answers all else. Blocks for
        one connection timeout at most.

        :raises BrokerUnavailable: if it cannot, or the connection broke.
        """

    def close(self) -> None:
        """Close the connection if there is one; unacknowledged messages are requeued. What a broker that does not
        redeliver has sent is kept. Never raises.
        """
