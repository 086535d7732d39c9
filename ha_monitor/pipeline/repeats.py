"""Marks items that may have been announced before, although the store no longer knows that."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.events.decode import Batch
from ha_monitor.events.model import Event
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import Entry, OutboxItem

SUSPECTED_FOR = 150.0
"""Seconds after a connection to the store was made for which another instance may have announced what waits there: it
waits for two minutes at most (`lua/tick.lua`), and by then, all instances that are alive have returned.
"""


class Repeats:
    """Marks what may have been announced before the store went back, and what another instance may have announced
    while this one had no connection to the store, or just before.

    An instance notices only the loss of its own calls. So after an outage, the first one to return may lack what
    another one will miss, and does not know that yet.
    """

    def __init__(self, store: Store, watermark: Watermark | None, clock: Clock) -> None:
        """:param watermark: this instance's, if the broker sends all messages to each instance; else None."""
        self._store = store
        self._watermark = watermark
        self._clock = clock
        self._went_back_at = self._noticed_at = 0.0
        """When the store last went back, by the store, and when this instance noticed, by the monotonic clock."""
        self._is_connected = False
        self._suspects_until = float("-inf")
        self._lost_at: tuple[float, float] | None = None
        """When this instance last lost its connection to the store, in seconds since the epoch and by the monotonic
        clock; once it has another one, and does not share its messages, when that was made.
        """

    def connected(self) -> None:
        """The instance uses the store again."""
        # Others may have used it meanwhile. But if each instance is given all messages, nearly all that it was given
        # without a store were announced by none.
        if not self._is_connected and self._lost_at and self._watermark is None:
            self._lost_at = self._clock.time(), self._clock.monotonic()
        self._suspects_until = self._clock.monotonic() + SUSPECTED_FOR
        self._is_connected = True

    def disconnected(self) -> None:
        """The connection to the store is lost, or an attempt to make one has failed."""
        if self._is_connected:
            self._is_connected = False
            self._lost_at = self._clock.time(), self._clock.monotonic()

    def marked(self, items: Iterable[OutboxItem], *, was_redelivered: bool) -> Iterable[OutboxItem]:
        """The items; those that may have been announced before the store went back are marked as `recovered`.

        An event's own time shows that only as far as the clocks of its sender and of Redis agree. Whatever the clocks
        show, an event may have been announced before if it was redelivered or, with a broker that sends all messages to
        each instance, if it was delivered before this instance noticed that the store went back.
        """
        went_back_at = self._store.went_back_at
        if not went_back_at:
            return items
        if went_back_at != self._went_back_at:
            self._went_back_at, self._noticed_at = went_back_at, self._clock.monotonic()
        if was_redelivered or self._is_behind(self._noticed_at):
            return (item._replace(recovered=True) for item in items)
        return (
            item._replace(recovered=True) if (item.entry.event.time or 0.0) <= went_back_at else item for item in items
        )

    def marked_if_shared(self, items: list[OutboxItem], brought_by: Batch | None) -> list[OutboxItem]:
        """The items of a call; those that another instance may have announced before this one was back from an outage
        of the store are marked as `recovered`.

        An event that waited in its task's record is released by whatever brings what it waited for. The other instance
        may have brought that, too. The events of a batch itself were delivered only to this instance, unless the broker
        sends all messages to each.

        :param brought_by: the batch that the call merged; None if another instance may have had its messages, too, or
            if the items were due.
        """
        if self._lost_at is None or self._clock.monotonic() > self._suspects_until:
            return items
        lost_at, by_monotonic = self._lost_at
        if brought_by is not None and self._is_behind(by_monotonic):
            brought_by = None

        def is_shared(entry: Entry) -> bool:
            is_earlier = entry.kind == 0 and (entry.event.time or 0.0) <= lost_at
            return is_earlier and (brought_by is None or not _has(brought_by, entry.event))

        return [item._replace(recovered=True) if is_shared(item.entry) else item for item in items]

    def _is_behind(self, at: float) -> bool:
        """Whether all instances were given what was delivered before a time, by the monotonic clock, and this one has
        not merged all of that yet.
        """
        return self._watermark is not None and not self._watermark.has_passed(at)


def _has(batch: Batch, event: Event) -> bool:
    """Whether a batch that brought an event of the same task, or one that belongs to no task, has this one itself."""
    facts = batch.tasks.get(event.task_id or "")
    at = int((event.time or 0.0) * 1_000_000)
    return facts is None or any(fact[2] == at for fact in facts)
