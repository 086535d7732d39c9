"""Sends batches to the store, announces what the store returns in that order, and acknowledges the messages."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.source import Mark
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.pipeline.announcements import Announcements, Upkeep
from ha_monitor.pipeline.collector import Collected, Collector
from ha_monitor.pipeline.in_flight import BatchesInFlight
from ha_monitor.pipeline.latency import NEARBY_LATENCY
from ha_monitor.pipeline.redeliveries import Redeliveries
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.schedule import Schedule

MAX_WAIT = 0.05
"""Maximum seconds to wait for the store before the loop starts a new turn."""
DISTANT_WAIT = 0.002
"""Seconds to wait for a distant store before looking at what the broker has sent meanwhile, which still has the same
long round trip ahead of it.
"""


class BrokerOwner(Upkeep, Protocol):
    """The owner of the broker connection, which can also acknowledge messages."""

    def acknowledge(self, mark: Mark | None) -> None:
        """Tell the broker that messages are merged and announced. Does not raise if the broker is gone."""

    def broker_lost(self, error: BrokerUnavailable) -> None:
        """The connection broke: close it, and drop what will be redelivered. Does not raise."""


class Merging:
    """The way of batches from the collector to the acknowledgement. Used by the loop. The methods raise the store's
    errors, as `store/api.py` says.
    """

    def __init__(
        self,
        in_flight: BatchesInFlight,
        collector: Collector,
        redeliveries: Redeliveries,
        announcements: Announcements,
        *,
        store_link: StoreLink,
        owner: BrokerOwner,
        next_tick: Schedule,
        name_wait: float,
    ) -> None:
        """:param name_wait: seconds after which an announcement that waits for the task's name becomes due."""
        self._in_flight = in_flight
        self._collector = collector
        self._redeliveries = redeliveries
        self._announcements = announcements
        self._store_link = store_link
        self._owner = owner
        self._next_tick = next_tick
        self._name_wait = name_wait
        self._is_stopping = False
        """Whether the instance stops."""

    def send_next(self) -> None:
        """Send the oldest closed batch, once it is known what the store has left unmerged of those before it. Does
        nothing while the maximum number of batches is in flight.
        """
        self.finish_answered(at_once=True)
        if self._in_flight.is_full:
            return
        if not self._collector:
            self._in_flight.unmerged = 0  # the broker was lost meanwhile
        elif self._collector.next_is_redelivered and self._in_flight:
            self.finish()
        elif (collected := self._collector.take()).redelivered:
            self._merge_redelivered(collected)
        else:
            self._in_flight.send(collected)

    def send_more(self) -> None:
        """Send the batches that are collected or can be collected without waiting, up to the maximum in flight: a call
        that follows then takes no longer than they do. Nothing is announced. At a stop, nothing more is received.
        """
        while not (self._is_stopping or self._in_flight.unmerged or self._in_flight.is_full):
            try:
                if not self._collector:  # a message may hold many batches
                    self._in_flight.collect(0.0)
            except BrokerUnavailable as error:
                # A handler may be at work meanwhile, and must not be called again because of it.
                self._owner.broker_lost(error)
                return
            if not self._collector or self._collector.next_is_redelivered:
                return
            self._in_flight.send(self._collector.take())

    def _merge_redelivered(self, collected: Collected) -> None:
        """Merge redelivered messages, which may have crashed another instance, one batch at a time."""
        for batch in self._redeliveries.batches(collected.redelivered, self._collector.decoder):
            self._in_flight.send(Collected(batch, None, was_redelivered=True))
            self.finish()
            self._owner.keep_alive()
        self.finish()
        self._owner.acknowledge(collected.mark)

    def finish(self, *, is_stopping: bool = False) -> None:
        """Wait until the batches in flight are merged completely, announce what they bring, and acknowledge them.

        :param is_stopping: True at the stop of the instance: nothing else continues while waiting for the store.
        """
        while self._in_flight or self._in_flight.unmerged:
            if not self._in_flight:
                self._owner.keep_alive()
                self.send_next()
            while not is_stopping and self._in_flight.blocks_calls and not self._in_flight.is_answered(MAX_WAIT):
                self._owner.keep_alive()
            self._receive_next()
            self.announce()
        self.announce()

    def finish_closed(self, *, is_stopping: bool = False) -> None:
        """As `finish`, and then the same for all closed batches; at a stop, for everything that was received."""
        self._is_stopping = is_stopping
        self.finish(is_stopping=is_stopping)
        while self._collector or (is_stopping and self._collector.close_all()):
            self.send_next()
            self.finish(is_stopping=is_stopping)
            if not is_stopping:
                self._owner.keep_alive()

    def finish_answered(self, *, at_once: bool = False) -> None:
        """Take in, announce and acknowledge the batches in flight that the store answers soon. Waits only briefly for a
        distant store, and not at all while there is something to send; longer if no more can be sent.

        :param at_once: do not wait unless no more can be sent.
        """
        while self._in_flight:
            if self._in_flight.is_full:
                within = MAX_WAIT
            elif at_once or (self._in_flight.is_slow and self._collector):
                within = 0.0
            else:
                within = DISTANT_WAIT if self._in_flight.is_slow else NEARBY_LATENCY
            if not self._in_flight.is_answered(within):
                return
            self._receive_next()
            self.announce()

    def allows_calls(self) -> bool:
        """Whether other calls of the store may be made now, rather than wait for the batches in flight. Finishes the
        answered batches first. If the result is False, the loop starts a new turn.
        """
        while self._in_flight.blocks_calls:
            if not self._in_flight.is_answered(MAX_WAIT):
                return False
            self._receive_next()
            self.announce()
        return True

    def receive_answered(self) -> None:
        """Take in the batches that are answered, without waiting. What they bring must be announced afterwards."""
        while self._in_flight.is_answered(0.0):
            self._receive_next()

    def receive_all(self) -> None:
        """Wait for all batches in flight, so that they are announced before anything that comes later."""
        while self._in_flight:
            self._receive_next()

    def _receive_next(self) -> None:
        """Wait for the oldest batch in flight, if there is any. What it brings must be announced afterwards."""
        for merged in self._in_flight.receive():
            self._announcements.add_from_store(merged.applied.items, was_redelivered=merged.was_redelivered)
            if merged.applied.waiting:
                self._next_tick.hasten(self._name_wait)

    def announce(self) -> None:
        """Announce what is merged, and acknowledge its messages. If the lease has expired, and cannot be renewed before
        the batches in flight are answered, this is left to a later call.
        """
        if not self._announcements.announce():
            return
        for merged in self._in_flight.take_merged():
            self._owner.acknowledge(merged.mark)
            self._in_flight.done(merged)
            self._owner.made_progress()
            if merged.applied.trouble:  # a tick notices when there is no trouble any longer
                self._store_link.answered(merged.applied.trouble)
