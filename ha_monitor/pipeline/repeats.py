"""Marks items that may have been announced before, although the store no longer knows that."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import Entry, OutboxItem

SUSPECTED_FOR = 150.0
"""Seconds after a connection to the store was made for which another instance may have announced what was sent or
merged before: an event waits in its task's record for two minutes at most (`lua/tick.lua`), and by then, all instances
that are alive have returned.
"""


class Repeats:
    """Marks what may have been announced before the store went back.

    An instance notices only the loss of its own calls. So after a start or a fail-over of the store, one that returns
    or is started may lack what another one misses, and does not know that yet: for a while, it suspects a loss.
    """

    def __init__(self, store: Store, watermark: Watermark | None, clock: Clock) -> None:
        """:param watermark: this instance's, if the broker sends all messages to each instance; else None."""
        self._store = store
        self._watermark = watermark
        self._clock = clock
        self._went_back_at = self._noticed_at = 0.0
        """When the store last went back, by the store, and when this instance noticed, by the monotonic clock."""
        self._is_connected = False
        self._served_since: int | None = None
        """`Store.served_since` of the latest connection; None before the first."""
        self._back_at = 0.0
        """When it was connected to a store that may have lost something, by the monotonic clock."""
        self.suspects_loss = False
        """Whether `marked_if_lost` must be called."""

    def connected(self) -> None:
        """The instance uses the store, for the first time or again."""
        known, self._served_since = self._served_since, self._store.served_since
        if known is None:
            may_lack = self._store.token - self._served_since < SUSPECTED_FOR * 1000
        else:
            may_lack = known != self._served_since and not self._is_connected
        if may_lack:
            self._back_at, self.suspects_loss = self._clock.monotonic(), True
        self._is_connected = True

    def disconnected(self) -> None:
        """The connection to the store is lost, or an attempt to make one has failed."""
        self._is_connected = False

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
        may have brought that before, or merged it when it was delivered for the first time. Other messages may have
        been given to another instance if they were redelivered or, with a broker that sends all messages to each, if
        they were delivered before this instance was connected.
        """
        if self._clock.monotonic() - self._back_at > SUSPECTED_FOR:
            self.suspects_loss = False
            return items
        was_shared = was_redelivered or self._is_behind(self._back_at)
        # Both are times by the store's clock. Nobody announced anything between a fail-over and `served_since`.
        token, served_since = self._store.token, self._store.served_since / 1000

        def is_suspect(entry: Entry) -> bool:
            if 0 < entry.waited_since <= token:
                return True
            was_sent_before = (entry.event.time or 0.0) <= served_since
            return was_sent_before and entry.kind == 0 and (was_shared or entry.waited_since > 0)

        return [item._replace(recovered=True) if is_suspect(item.entry) else item for item in items]

    def _is_behind(self, at: float) -> bool:
        """Whether all instances were given what was delivered before a time, by the monotonic clock, and this one has
        not merged all of that yet.
        """
        return self._watermark is not None and not self._watermark.has_passed(at)
