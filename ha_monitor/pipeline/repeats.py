"""Marks items that may have been announced before, although the store no longer knows that."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import Entry, OutboxItem

SUSPECTED_FOR = 150.0
"""Seconds after a connection to the store was made again for which another instance may have announced what was sent or
merged before: an event waits in its task's record for two minutes at most (`lua/tick.lua`), and by then, all instances
that are alive have returned.
"""


class Repeats:
    """Marks what may have been announced before the store went back.

    An instance notices only the loss of its own calls. So after a start or a fail-over of the store, the first one to
    return may lack what another one will miss, and does not know that yet: for a while, it suspects a loss.
    """

    def __init__(self, store: Store, watermark: Watermark | None, clock: Clock) -> None:
        """:param watermark: this instance's, if the broker sends all messages to each instance; else None."""
        self._store = store
        self._watermark = watermark
        self._clock = clock
        self._went_back_at = self._noticed_at = 0.0
        """When the store last went back, by the store, and when this instance noticed, by the monotonic clock."""
        self._is_connected = False
        self._lost_at = self._lost_at_monotonic = 0.0
        """When this instance last lost its connection to the store, in seconds since the epoch and by the monotonic
        clock.
        """
        self._server_id = b""
        """Which store the latest connection was to."""
        self._back_at = 0.0
        """When it was connected to another one, by the monotonic clock."""
        self.suspects_loss = False
        """Whether `marked_if_lost` must be called."""

    def connected(self) -> None:
        """The instance uses the store, for the first time or again."""
        is_the_same = self._store.server_id == self._server_id != b""
        if self._lost_at and not (self._is_connected or is_the_same):
            self._back_at, self.suspects_loss = self._clock.monotonic(), True
        self._server_id = self._store.server_id
        self._is_connected = True

    def disconnected(self) -> None:
        """The connection to the store is lost, or an attempt to make one has failed."""
        if self._is_connected:
            self._is_connected = False
            self._lost_at, self._lost_at_monotonic = self._clock.time(), self._clock.monotonic()

    def marked(self, items: Iterable[OutboxItem], *, was_redelivered: bool) -> Iterable[OutboxItem]:
        """The items; those that may have been announced before the store went back are marked as `recovered`.

        An event's own time shows that only as far as the clocks of its sender and of Redis agree. Whatever the clocks
        show, an event may have been announced before if it was redelivered or, with a broker that sends all messages to
        each instance, if it was delivered before this instance noticed that the store went back.
        """
        went_back_at = self._store.went_back_at
        if went_back_at != self._went_back_at:
            self._went_back_at, self._noticed_at = went_back_at, self._clock.monotonic()
        if was_redelivered or self._is_behind(self._noticed_at):
            return (item._replace(recovered=True) for item in items)
        return (
            item._replace(recovered=True) if (item.entry.event.time or 0.0) <= went_back_at else item for item in items
        )

    def marked_if_lost(self, items: list[OutboxItem], *, was_redelivered: bool) -> list[OutboxItem]:
        """The items of a call; those that another instance may have announced before the store was started or failed
        over, if the store has lost that, are marked as `recovered`.

        An event that has waited in its task's record is released by whatever brings what it waits for: another instance
        may have brought that before. Its messages may have been given to another instance if they were redelivered or,
        with a broker that sends all messages to each, if they were delivered before the outage. All others were
        delivered to this instance alone, or when there was no store.
        """
        if self._clock.monotonic() - self._back_at > SUSPECTED_FOR:
            self.suspects_loss = False
            return items
        was_shared = was_redelivered or self._is_behind(self._lost_at_monotonic)

        def is_suspect(entry: Entry) -> bool:
            # The token of the connection is the time by the store's clock when it was made.
            if 0 < entry.waited_since <= self._store.token:
                return True
            return was_shared and entry.kind == 0 and (entry.event.time or 0.0) <= self._lost_at

        return [item._replace(recovered=True) if is_suspect(item.entry) else item for item in items]

    def _is_behind(self, at: float) -> bool:
        """Whether all instances were given what was delivered before a time, by the monotonic clock, and this one has
        not merged all of that yet.
        """
        return self._watermark is not None and not self._watermark.has_passed(at)
