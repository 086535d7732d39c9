"""Marks items that may have been announced before, although the store no longer knows that."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem


class Repeats:
    """Marks what may have been announced before the store went back."""

    def __init__(self, store: Store, watermark: Watermark | None, clock: Clock) -> None:
        """:param watermark: this instance's, if the broker sends all messages to each instance; else None."""
        self._store = store
        self._watermark = watermark
        self._clock = clock
        self._went_back_at = self._noticed_at = 0.0
        """When the store last went back, by the store, and when this instance noticed, by the monotonic clock."""

    def marked(self, items: Iterable[OutboxItem], *, was_redelivered: bool) -> Iterable[OutboxItem]:
        """The items; those that may have been announced before the store went back are marked as `recovered`.

        An event's own time shows that only as far as the clocks of its sender and of Redis agree. Whatever the clocks
        show, an event may have been announced before if it was redelivered or, with a broker that sends all messages to
        each instance, if it was delivered before this instance noticed that the store went back.
        """
        went_back_at = self._store.went_back_at
        if went_back_at != self._went_back_at:
            self._went_back_at, self._noticed_at = went_back_at, self._clock.monotonic()
        is_behind = self._watermark is not None and not self._watermark.has_passed(self._noticed_at)
        if was_redelivered or is_behind:
            return (item._replace(recovered=True) for item in items)
        return (
            item._replace(recovered=True) if (item.entry.event.time or 0.0) <= went_back_at else item for item in items
        )
