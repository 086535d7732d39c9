"""Hands batches to the store, announces what comes back in its order, and acknowledges their messages."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.source import Mark
from ha_monitor.pipeline.announcements import Announcements, Upkeep
from ha_monitor.pipeline.collector import Collected, Collector
from ha_monitor.pipeline.handed_over import NEAR, HandedOver
from ha_monitor.pipeline.redeliveries import Redeliveries
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.schedule import Schedule

GLANCE = 0.002
"""Seconds that a distant store is waited for before it is seen what the broker has sent meanwhile, which has the same
long way before it.
"""


class Acknowledging(Upkeep, Protocol):
    """What else the owner of the broker's connection does."""

    def acknowledge(self, mark: Mark | None) -> None:
        """Tell the broker that messages are merged and announced; raises nothing if it is gone."""


class Merging:
    """Used by the loop. All but `send_more` raise as `store/api.py` says."""

    def __init__(
        self,
        handed: HandedOver,
        collector: Collector,
        redeliveries: Redeliveries,
        announcements: Announcements,
        *,
        store_link: StoreLink,
        owner: Acknowledging,
        next_tick: Schedule,
        name_wait: float,
    ) -> None:
        """:param name_wait: seconds after which what waits for a name becomes due."""
        self._handed = handed
        self._collector = collector
        self._redeliveries = redeliveries
        self._announcements = announcements
        self._store_link = store_link
        self._owner = owner
        self._next_tick = next_tick
        self._name_wait = name_wait

    @property
    def store_is_far(self) -> bool:
        """Whether a call that waits for its reply should have batches under way meanwhile."""
        return self._handed.is_far

    def send_next(self) -> None:
        """Hand the oldest closed batch over, once it is known what the store has left of those before."""
        self.finish_answered(at_once=True)
        if not self._collector:
            self._handed.left = 0  # the broker was lost meanwhile
        elif self._collector.next_is_redelivered and self._handed:
            self.finish()
        elif (collected := self._collector.take()).redelivered:
            self._merge_redelivered(collected)
        else:
            self._handed.send(collected)

    def send_more(self) -> None:
        """Hand over what is collected or can be without waiting, as far as it may be under way: a call that follows
        then takes no longer than these do. Nothing is announced.
        """
        while not self._handed.left and not self._handed.is_full:
            self._handed.collect(0.0)
            if not self._collector or self._collector.next_is_redelivered:
                return
            self._handed.send(self._collector.take())

    def _merge_redelivered(self, collected: Collected) -> None:
        """Merge redelivered messages, which may have crashed another instance, one step after the other."""
        for batch in self._redeliveries.batches(collected.redelivered, self._collector.decoder):
            self._handed.send(Collected(batch, None, was_redelivered=True))
            self.finish()
            self._owner.keep_alive()
        self.announce()
        self._owner.acknowledge(collected.mark)

    def finish(self) -> None:
        """Wait for the batches under way until they are merged completely and announced, and acknowledge them."""
        while self._handed or self._handed.left:
            if not self._handed:
                self._owner.keep_alive()
                self.send_next()
            self._take_in_next()
            self.announce()

    def finish_answered(self, *, at_once: bool = False) -> None:
        """The same for those that are answered for soon, if not `at_once`, or that are too many. A distant store is
        waited for shortly, and not at all while there is something to send.
        """
        if at_once or (self._handed.is_slow and self._collector):
            within = 0.0
        else:
            within = GLANCE if self._handed.is_slow else NEAR
        while self._handed and (self._handed.is_full or self._handed.is_answered(within)):
            self._take_in_next()
            self.announce()

    def take_in(self) -> None:
        """Wait for all that is under way: it is announced before anything that is to be announced later."""
        while self._handed:
            self._take_in_next()

    def _take_in_next(self) -> None:
        """Wait for the oldest batch under way, if there is any; what it brings is to be announced then."""
        for merged in self._handed.receive():
            self._announcements.add(merged.applied.items, was_redelivered=merged.was_redelivered)
            if merged.applied.waiting:
                self._next_tick.hasten(self._name_wait)

    def announce(self) -> None:
        """Announce all that is merged, and acknowledge its messages."""
        self._announcements.announce()
        for merged in self._handed.take_merged():
            self._owner.acknowledge(merged.mark)
            self._handed.done(merged)
            self._owner.made_progress()
            if merged.applied.trouble:  # that there is none any more is seen at a tick
                self._store_link.answered(merged.applied.trouble)
