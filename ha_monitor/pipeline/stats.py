"""What an instance counts about itself. `ha-monitor status` shows the counters of all instances."""

from __future__ import annotations

from msgspec import Struct

from ha_monitor.events.decode import Batch

CONSUMING = "consuming"
"""The state of an instance that does."""
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
    """Events that some instance had merged before."""
    redelivered: int = 0
    """Messages that the broker redelivered."""
    rejected: int = 0
    set_aside: int = 0
    """Messages that no instance could merge, and that were acknowledged all the same."""
    dropped: int = 0
    """Events dropped from the full buffer while the store was unavailable; the broker does not redeliver them."""
    batches: int = 0
    lines: int = 0
    waiting: int = 0
    """Tasks, over all instances, with announcements that wait for a missing event; as of the last batch."""
    handler_failures: int = 0
    dead_letters: int = 0
    notifications: int = 0
    """Messages about incidents, and words that all is well, that channels took."""
    notification_failures: int = 0
    takeovers: int = 0
    broker_connects: int = 0
    gaps: float = 0.0
    """Seconds without a subscription between two of them: the broker keeps nothing meanwhile."""
    store_connects: int = 0
    leases_lost: int = 0
    rollbacks: int = 0
    """How often this instance was the first to notice that the store had gone back."""
    store_dropped_keys: int = 0
    """Keys that the store dropped to make room while this instance led."""
    last_event: float = 0.0
    """When the last events were merged, seconds since the epoch."""
    lag: float = 0.0
    """Seconds between the newest event of the last batch and its merge; 0 once there were no messages for a while."""
    broker: str = ""
    place: str = ""
    """What tells the broker from another one: `Source.place`."""
    greeting: str = ""
    """`Source.greeting`."""
    greetings: list[str] = []
    """`Source.greetings`."""
    behind: float | None = None
    """Age of the watermark in seconds: it has merged what it was given until then. None if that is not known."""
    depth: int | None = None
    """Messages in the shared queue, as of the last query."""
    judged: float = 0.0
    """When it last judged, as the leader, what is wrong, seconds since the epoch by the store's clock; 0 if never."""
    empty_at: float = 0.0
    """When a query found none last, or there was no queue, and all is merged since that this instance had been given by
    then; seconds since the epoch."""

    def add_batch(self, batch: Batch, *, new: int, repeated: int, waiting: int, now: float) -> None:
        """A batch was merged.

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
            # What came since the queue was empty was sent since then, whatever its sender's clock says.
            self.lag = max(0.0, now - max(batch.newest, self.empty_at))

    def totals(self) -> dict[str, int]:
        """The totals for the line at the stop of an instance."""
        return {"lines": self.lines, "events": self.events, "messages": self.messages}

    def nothing_received(self, now: float) -> None:
        """The broker had no message for this instance.

        :param now: seconds since the epoch.
        """
        if now - self.last_event > CAUGHT_UP_AFTER:
            self.lag = 0.0
