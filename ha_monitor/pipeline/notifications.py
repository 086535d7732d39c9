"""The leader's duty to tell the channels of incidents.

A message is claimed in the store, then delivered in the channel's thread, then reported as taken. So whatever stops in
between, the next leader finds the claim, and makes the message again under the same id. A channel has one message under
way at most; all that becomes due meanwhile is in the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ha_monitor.clock import Clock
from ha_monitor.config.notify import Heartbeat, Notify
from ha_monitor.notify.channel import LONGEST, Channel, TryAgain
from ha_monitor.notify.message import Message, Notice
from ha_monitor.notify.plan import Pace, plan
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.courier import Courier, Outcome
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.deliveries import Book, Changes, Claim, Deliveries, Part, Taken, delivery_id
from ha_monitor.store.incidents import Incident, Phase
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.threads import Threads

LOOK_EVERY = 1.0
"""Seconds between two looks at what is due."""
MADE_AGAIN_AFTER = 1.5 * LONGEST
"""Seconds after which a message that another instance claimed is made again: by then its own attempt has ended."""
FINISHED_WITHIN = LONGEST + 2.0
"""Seconds for which a stop waits at most for what is being delivered, and for the store to hear of it."""


class Known(Protocol):
    """What is wrong, as the leader has written it."""

    def incidents(self) -> Sequence[Incident] | None:
        """All of it, and what was over a short while ago; None if this leader does not know yet. Asks nobody."""

    def unjudged(self) -> frozenset[str]:
        """Ids of those that a leader before it wrote, and of which it cannot say yet whether they are over."""


class Recipient(NamedTuple):
    """A channel, and how often it is told of something."""

    channel: Channel
    pace: Pace | None
    """None for one that is not told of incidents, but that all is well."""
    every: float = 0.0
    """Seconds between two words that all is well."""


def recipients_of(settings: Notify) -> dict[str, Recipient]:
    """The channels as they are configured, by name."""
    # Mail and HTTP take memory, which an instance without channels need not have.
    from ha_monitor.notify.channels import make_channel, pace_of  # noqa: PLC0415

    return {
        name: Recipient(
            make_channel(one, settings.secrets_of(name)), pace_of(one), one.every if isinstance(one, Heartbeat) else 0.0
        )
        for name, one in settings.channels.items()
    }


class NotificationsDuty:
    """See `duty.Duty`."""

    def __init__(
        self,
        incidents: Known,
        deliveries: Deliveries,
        recipients: Mapping[str, Recipient],
        settings: Notify,
        *,
        node_id: str,
        store: Store,
        stats: Stats,
        logger: Logger,
        clock: Clock,
        threads: Threads,
    ) -> None:
        self._incidents = incidents
        self._deliveries = deliveries
        self._routes = settings.routes
        self._base_url = settings.base_url.rstrip("/")
        self._node_id = node_id
        self._store = store
        self._stats = stats
        self._logger = logger
        self._clock = clock
        self._due = Schedule(clock, LOOK_EVERY)
        self._couriers = {name: Courier(one.channel, store, clock, threads) for name, one in recipients.items()}
        self._paces = {name: one.pace for name, one in recipients.items() if one.pace is not None}
        self._beats = {name: Schedule(clock, one.every) for name, one in recipients.items() if one.pace is None}
        self._taken: list[Taken] = []
        """Messages that their channels took, and that the store does not know of yet."""
        self._released: list[str] = []
        self._store_is_ahead = 0.0
        """Seconds by which the store's clock is ahead of the monotonic one."""
        self._planned: Changes | None = None
        """What is to be claimed and noted at the next look."""
        self._finish_until: float | None = None
        """At a stop: by the monotonic clock, until when it waits for what is under way."""

    @property
    def failing(self) -> list[str]:
        """The channels with which something is wrong, by name: what is known of them in this instance."""
        return [name for name, courier in self._couriers.items() if courier.is_failing]

    def start_anew(self) -> None:
        self._due.hasten()
        self._planned = None

    def finish(self) -> bool:
        """The instance stops: begin no message any more. Else the next leader would make again what is being delivered.

        :returns: whether the store is yet to hear what became of one; False if one hangs for too long.
        """
        now = self._clock.monotonic()
        if self._finish_until is None:
            self._finish_until = now + FINISHED_WITHIN
        is_under_way = self.has_outcome or any(courier.is_delivering for courier in self._couriers.values())
        return is_under_way and now < self._finish_until

    @property
    def has_outcome(self) -> bool:
        """Whether a message has ended, and the store does not know."""
        return bool(self._taken or self._released) or any(
            courier.is_delivering and courier.has_outcome for courier in self._couriers.values()
        )

    def run(self) -> list[OutboxItem]:
        self._take_outcomes()
        if self._finish_until is not None:
            if self._taken or self._released:
                self._tell(Changes())
        elif self._due.is_due():
            self._due.restart()
            self._beat()
            self._look()
        return []

    def _look(self) -> None:
        planned, self._planned = self._planned or Changes(), None
        book = self._tell(planned)
        if book is None:
            return
        incidents = self._incidents.incidents()
        if incidents is None:
            return
        held = self._incidents.unjudged()
        made = plan(incidents, self._routes, self._paces, book, self._store.token, held=held)
        claimed = [claim for claim in made.messages if self._couriers[claim.channel].is_free]
        nobodys = [claim.id for claim in book.claims if claim.channel not in self._paces]
        if claimed or nobodys or made.noted or made.forgotten:
            changes = Changes(claimed=claimed, released=nobodys, noted=made.noted, forgotten=made.forgotten)
            if self._store.is_slow:
                self._planned = changes
                self._due.hasten()
            elif (book := self._exchange(changes)) is None:
                return
        by_id = {one.id: one for one in incidents}
        for claim in book.claims:
            if claim.channel in self._paces and self._may_make(claim, book.now):
                self._make(claim, by_id, book.now)

    def _tell(self, planned: Changes) -> Book | None:
        """Tell the store what became of the messages, and what was planned."""
        released = [*planned.released, *self._released]
        book = self._exchange(planned._replace(taken=self._taken, released=released))
        if book is not None:
            self._taken, self._released = [], []
        return book

    def _exchange(self, changes: Changes) -> Book | None:
        book = self._deliveries.exchange(changes)
        if book is not None:
            self._store_is_ahead = book.now - self._clock.monotonic()
        return book

    def _may_make(self, claim: Claim, now: float) -> bool:
        courier = self._couriers[claim.channel]
        if courier.is_busy_with(claim) or not courier.is_free:
            return False
        # A time ahead of now is from before the clock was put back.
        return claim.token == self._store.token or not 0 <= now - claim.at < MADE_AGAIN_AFTER

    def _make(self, claim: Claim, incidents: Mapping[str, Incident], at: float) -> None:
        notices = tuple(
            Notice(delivery_id(part, claim.channel), part.phase, incidents[part.incident], part.at)
            for part in claim.parts
            if part.incident in incidents
        )
        if not notices:  # there is nothing left to tell
            self._released.append(claim.id)
            return
        message = Message(claim.id, self._node_id, notices, at, self._base_url, claim.is_digest)
        self._couriers[claim.channel].send(message, claim)

    def _beat(self) -> None:
        """Say that all is well. Only an instance that consumes leads."""
        for name, schedule in self._beats.items():
            if schedule.is_due() and self._couriers[name].is_free:
                schedule.restart()
                self._couriers[name].send(Message("heartbeat", self._node_id, (), self._clock.time()), None)

    def _take_outcomes(self) -> None:
        for name, courier in self._couriers.items():
            outcome = courier.take()
            if outcome is not None:
                self._note(name, outcome)
            if trouble := courier.news(outcome):
                self._logger.warning("notification-failed", channel=name, reason=trouble)

    def _note(self, name: str, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._stats.notification_failures += 1
            is_unknown = isinstance(outcome.error, TryAgain) and outcome.error.maybe_taken
            if outcome.claim is not None and not is_unknown:
                self._released.append(outcome.claim.id)
            return
        self._stats.notifications += 1
        if outcome.claim is None:
            return
        self._taken.append(Taken(outcome.claim, self._clock.monotonic() + self._store_is_ahead))
        if news := _news(outcome.claim.parts):
            self._logger.info("notification-sent", channel=name, id=outcome.claim.id, incidents=news)


def _news(parts: Sequence[Part]) -> int:
    """Of how many incidents a message says something that the channel did not know."""
    return sum(1 for part in parts if part.number == 1 or part.phase is Phase.RESOLVED)
