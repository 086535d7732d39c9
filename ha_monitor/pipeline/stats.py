"""What an instance counts about itself. `ha-monitor status` shows the counters of all instances."""

from __future__ import annotations

from msgspec import Struct

from ha_monitor.events.decode import Batch

CONSUMING = "consuming"
"""The state of an instance that consumes."""
CAUGHT_UP_AFTER = 10.0
"""Seconds without messages after which the lag is 0."""


class Stats(Struct):
    """Counters since the start of the instance, and its state."""

    state: str = "starting"
    messages: int = 0
    events: int = 0
    new: int = 0
    """Events that this instance merged first."""
    repeated: int = 0
    """Events that this or another instance had merged before."""
    redelivered: int = 0
    """Messages that the broker redelivered."""
    rejected: int = 0
    set_aside: int = 0
    """Messages that no instance could merge, and that were acknowledged nevertheless."""
    dropped: int = 0
    """Events dropped from the full buffer while the store was unavailable; the broker does not redeliver them."""
    batches: int = 0
    lines: int = 0
    waiting: int = 0
    """Tasks, over all instances, whose announcements wait for a missing event; as of the last batch."""
    handler_failures: int = 0
    dead_letters: int = 0
    notifications: int = 0
    """Messages that channels took: about incidents, and heartbeats."""
    notification_failures: int = 0
    takeovers: int = 0
    broker_connects: int = 0
    gaps: float = 0.0
    """Sum of the seconds between one subscription and the next: the broker keeps nothing meanwhile."""
    store_connects: int = 0
    leases_lost: int = 0
    rollbacks: int = 0
    """How often this instance was the first to notice that the store had gone back."""
    store_dropped_keys: int = 0
    """Keys that the store evicted while this instance led."""
    last_event: float = 0.0
    """When the latest events were merged, seconds since the epoch."""
    lag: float = 0.0
    """Seconds between the newest event of the last batch and its merge; 0 after a while without messages."""
    broker: str = ""
    place: str = ""
    """Identifies the broker: `Source.place`."""
    greeting: str = ""
    """`Source.greeting`."""
    greetings: list[str] = []
    """`Source.greetings`."""
    behind: float | None = None
    """Age of this instance's watermark in seconds; None if it is not known."""
    depth: int | None = None
    """Messages in the shared queue at the latest query."""
    judged: float = 0.0
    """When this instance, as the leader, last judged incidents, in seconds since the epoch by the store's clock; 0 if
    never."""
    empty_at: float = 0.0
    """When a query last found the shared queue empty, or no queue, and everything that had been delivered to this
    instance by then was merged; seconds since the epoch.
    """

    def add_batch(self, batch: Batch, *, new: int, repeated: int, waiting: int, now: float) -> None:
        """Count a batch that was merged.

        :param now: seconds since the epoch.
        """
        self.batches += 1
        self.messages += batch.message_count
        self.events += batch.event_count
        self.new += new
        self.repeated += repeated
        self.rejected += batch.rejected_count
        self.waiting = waiting
        self.last_event = now
        if batch.newest:
            # Events that came after the queue was empty were sent after that, whatever their senders' clocks say.
            self.lag = max(0.0, now - max(batch.newest, self.empty_at))

    def totals(self) -> dict[str, int]:
        """The totals for the line that an instance writes when it stops."""
        return {"lines": self.lines, "events": self.events, "messages": self.messages}

    def nothing_received(self, now: float) -> None:
        """The broker had no message for this instance.

        :param now: seconds since the epoch.
        """
        if now - self.last_event > CAUGHT_UP_AFTER:
            self.lag = 0.0
