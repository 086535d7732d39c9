"""Which items may have been announced before, though the store does not know it any more."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem


class Repeats:
    """Marks what may have been announced before the store went back."""

    def __init__(self, store: Store, watermark: Watermark | None, clock: Clock) -> None:
        """:param watermark: of a broker that gives each instance all messages; None if it gives each message to one."""
        self._store = store
        self._watermark = watermark
        self._clock = clock
        self._went_back_at = self._noticed_at = 0.0
        """When the store had gone back last, as it says, and when this instance knew, by the monotonic clock."""

    def marked(self, items: Iterable[OutboxItem], *, was_redelivered: bool) -> Iterable[OutboxItem]:
        """The items of a store that went back, those that may have been announced as `recovered`.

        An event's own time tells that only as far as its sender's clock and Redis's show the same. Whatever they show,
        it may be one that another instance was given before, too: a redelivered one, or where each is given all, one
        that this instance was given before it knew.
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
