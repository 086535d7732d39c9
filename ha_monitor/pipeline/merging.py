"""Hands batches to the store, announces what comes back in its order, and acknowledges their messages."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.source import Mark
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.pipeline.announcements import Announcements, Upkeep
from ha_monitor.pipeline.collector import Collected, Collector
from ha_monitor.pipeline.handed_over import HandedOver
from ha_monitor.pipeline.latency import NEAR
from ha_monitor.pipeline.redeliveries import Redeliveries
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.schedule import Schedule

LONGEST_WAIT = 0.05
"""Seconds for which the store is waited for at most before the loop goes round."""
GLANCE = 0.002
"""Seconds that a distant store is waited for before it is seen what the broker has sent meanwhile, which has the same
long way before it.
"""


class BrokerOwner(Upkeep, Protocol):
    """What else the owner of the broker's connection does."""

    def acknowledge(self, mark: Mark | None) -> None:
        """Tell the broker that messages are merged and announced; raises nothing if it is gone."""

    def broker_lost(self, error: BrokerUnavailable) -> None:
        """The connection broke: close it, and drop what is redelivered. Raises nothing."""


class Merging:
    """Used by the loop. All raise as `store/api.py` says."""

    def __init__(
        self,
        handed: HandedOver,
        collector: Collector,
        redeliveries: Redeliveries,
        announcements: Announcements,
        *,
        store_link: StoreLink,
        owner: BrokerOwner,
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
        self._is_end = False
        """Whether the instance stops."""

    def send_next(self) -> None:
        """Hand the oldest closed batch over, once it is known what the store has left of those before; not while as
        many are under way as may be.
        """
        self.finish_answered(at_once=True)
        if self._handed.is_full:
            return
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
        then takes no longer than these do. Nothing is announced; at a stop nothing more is received.
        """
        while not (self._is_end or self._handed.left or self._handed.is_full):
            try:
                self._handed.collect(0.0)
            except BrokerUnavailable as error:
                # A handler may be at work meanwhile, and must not be called again because of it.
                self._owner.broker_lost(error)
                return
            if not self._collector or self._collector.next_is_redelivered:
                return
            self._handed.send(self._collector.take())

    def _merge_redelivered(self, collected: Collected) -> None:
        """Merge redelivered messages, which may have crashed another instance, one step after the other."""
        for batch in self._redeliveries.batches(collected.redelivered, self._collector.decoder):
            self._handed.send(Collected(batch, None, was_redelivered=True))
            self.finish()
            self._owner.keep_alive()
        self.finish()
        self._owner.acknowledge(collected.mark)

    def finish(self, *, and_stop: bool = False) -> None:
        """Wait for the batches under way until they are merged completely and announced, and acknowledge them.

        :param and_stop: it is the end: nothing else goes on while the store is waited for.
        """
        while self._handed or self._handed.left:
            if not self._handed:
                self._owner.keep_alive()
                self.send_next()
            while not and_stop and self._handed.is_first and not self._handed.is_answered(LONGEST_WAIT):
                self._owner.keep_alive()
            self._take_in_next()
            self.announce()
        self.announce()

    def finish_closed(self, *, and_stop: bool = False) -> None:
        """The same, and then for all batches that are closed; at a stop for all that was received."""
        self._is_end = and_stop
        self.finish(and_stop=and_stop)
        while self._collector or (and_stop and self._collector.close_all()):
            self.send_next()
            self.finish(and_stop=and_stop)
            if not and_stop:
                self._owner.keep_alive()

    def finish_answered(self, *, at_once: bool = False) -> None:
        """The same for those that are answered for soon, or at once if `at_once`. A distant store is waited for
        shortly, and not at all while there is something to send; longer if no more can be sent.
        """
        while self._handed:
            if self._handed.is_full:
                within = LONGEST_WAIT
            elif at_once or (self._handed.is_slow and self._collector):
                within = 0.0
            else:
                within = GLANCE if self._handed.is_slow else NEAR
            if not self._handed.is_answered(within):
                return
            self._take_in_next()
            self.announce()

    def allows_calls(self) -> bool:
        """Whether no batch under way comes before other calls of the store; those that are answered for are finished.
        The loop goes round while one does.
        """
        while self._handed.is_first:
            if not self._handed.is_answered(LONGEST_WAIT):
                return False
            self._take_in_next()
            self.announce()
        return True

    def take_in_answered(self) -> None:
        """Take in what is answered for, without waiting; what it brings is to be announced then."""
        while self._handed.is_answered(0.0):
            self._take_in_next()

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
        """Announce all that is merged, and acknowledge its messages. Where the lease is over that waits for the batches
        under way, and for the next call.
        """
        if not self._announcements.announce():
            return
        for merged in self._handed.take_merged():
            self._owner.acknowledge(merged.mark)
            self._handed.done(merged)
            self._owner.made_progress()
            if merged.applied.trouble:  # that there is none any more is seen at a tick
                self._store_link.answered(merged.applied.trouble)
