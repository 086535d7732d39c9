"""The leader's duty to notify the channels of incidents.

A message is claimed in the store, then delivered in the channel's thread, then reported to the store as taken. So
whatever fails in between, the next leader finds the claim, and makes the message again under the same id. A channel has
at most one message in flight; everything that becomes due meanwhile is in the next message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ha_monitor.clock import Clock
from ha_monitor.config.notify import Heartbeat, Notify
from ha_monitor.notify.channel import DELIVERY_TIMEOUT, Channel, Refused, TryAgain
from ha_monitor.notify.message import Message, Notice
from ha_monitor.notify.plan import Pace, believed_to_fire, plan
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.channel_sender import REFUSED_BACKOFF, ChannelSender, Outcome
from ha_monitor.pipeline.refusals import Refusals, Subject
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.deliveries import Changes, Claim, Deliveries, DeliveryState, Part, Taken, delivery_id
from ha_monitor.store.incidents import Incident, Phase
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.threads import Threads

LOOK_EVERY = 1.0
"""Seconds between two looks at what is due."""
CLAIM_TIMEOUT = 1.5 * DELIVERY_TIMEOUT
"""Seconds after which a message claimed by another instance is made again: by then, that instance's attempt has ended.
"""
STOP_TIMEOUT = DELIVERY_TIMEOUT + 2.0
"""Maximum seconds for which a stop waits for deliveries in progress, and for the store to hear of their outcomes."""


class StoredIncidents(Protocol):
    """The incidents, as the leader has stored them."""

    def incidents(self) -> Sequence[Incident] | None:
        """All open and recently resolved incidents; None if this leader does not know them yet. Makes no call."""

    def unjudged(self) -> frozenset[str]:
        """Ids of the incidents that an earlier leader stored, and that this leader cannot judge yet."""


class Recipient(NamedTuple):
    """A channel, and how often it is notified."""

    channel: Channel
    pace: Pace | None
    """None for a channel that gets heartbeats instead of incidents."""
    beat_every: float = 0.0
    """Seconds between two heartbeats."""

    @property
    def every(self) -> float:
        """Seconds after which it gets the same again. A service that gets nothing for longer reports what is not so."""
        return self.beat_every if self.pace is None else self.pace.repeat_interval


def recipients_of(settings: Notify) -> dict[str, Recipient]:
    """The configured channels, by name."""
    # Imported here: an instance without channels need not spend memory on mail and HTTP.
    from ha_monitor.notify.channels import make_channel, pace_of  # noqa: PLC0415

    return {
        name: Recipient(
            make_channel(one, settings.secrets_of(name)), pace_of(one), one.every if isinstance(one, Heartbeat) else 0.0
        )
        for name, one in settings.channels.items()
    }


class NotificationsDuty:
    """Plans, sends and records the messages of all channels. See `duty.Duty`."""

    def __init__(
        self,
        incidents: StoredIncidents,
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
        self._senders = {
            name: ChannelSender(one.channel, store, clock, threads, one.every) for name, one in recipients.items()
        }
        self._paces = {name: one.pace for name, one in recipients.items() if one.pace is not None}
        self._heartbeats = {
            name: Schedule(clock, one.beat_every) for name, one in recipients.items() if one.pace is None
        }
        self._taken: list[Taken] = []
        """Messages that their channels took, and that the store does not know as taken yet."""
        self._released: list[str] = []
        self._forget_failures()
        self._store_is_ahead = 0.0
        """Seconds by which the store's clock is ahead of the monotonic clock."""
        self._planned: Changes | None = None
        """Changes to send to the store at the next look."""
        self._state: DeliveryState | None = None
        """The state of all deliveries as it was last read."""
        self._finish_until: float | None = None
        """At a stop: until when it waits for deliveries in progress, by the monotonic clock."""

    @property
    def failing(self) -> list[str]:
        """Names of the channels with which something is wrong, as far as this instance knows: also of one that still
        refuses a message, although it takes others.
        """
        return [name for name, one in self._senders.items() if one.is_failing or self._refusals.get(name)]

    @property
    def believed(self) -> frozenset[str] | None:
        """Ids of the incidents that a channel believes to fire; None before the first look of this leader."""
        return None if self._state is None else believed_to_fire(self._paces, self._state)

    def start_anew(self) -> None:
        self._due.hasten()
        self._planned = self._state = None
        for sender in self._senders.values():
            sender.start_anew()
        self._forget_failures()

    def _forget_failures(self) -> None:
        paces = self._paces.items()
        self._refusals = {
            name: Refusals(self._clock, min(REFUSED_BACKOFF, pace.repeat_interval)) for name, pace in paces
        }
        self._failed: dict[str, set[Subject]] = {name: set() for name in self._paces}
        """On what each channel answered with a failure since it last took a message."""

    def finish(self) -> bool:
        """The instance stops: begin no further message, and wait for those in progress, which the next leader would
        otherwise make again.

        :returns: whether the store has yet to hear of an outcome; False once a delivery hangs for too long.
        """
        now = self._clock.monotonic()
        if self._finish_until is None:
            self._finish_until = now + STOP_TIMEOUT
        is_in_flight = self.has_outcome or any(sender.is_delivering for sender in self._senders.values())
        return is_in_flight and now < self._finish_until

    @property
    def has_outcome(self) -> bool:
        """Whether a delivery has ended, and the store does not know its outcome."""
        return bool(self._taken or self._released) or any(
            sender.is_delivering and sender.has_outcome for sender in self._senders.values()
        )

    def run(self) -> list[OutboxItem]:
        self._take_outcomes()
        if self._finish_until is not None:
            if self._taken or self._released:
                self._report(Changes())
        elif self._due.is_due():
            self._due.restart()
            self._send_heartbeats()
            self._look()
        return []

    def _look(self) -> None:
        planned, self._planned = self._planned or Changes(), None
        state = self._report(planned)
        if state is None:
            return
        incidents = self._incidents.incidents()
        if incidents is None:
            return
        held = self._incidents.unjudged()
        refused = {(name, *what): how for name, one in self._refusals.items() for what, how in one.retries().items()}
        known = {(one.id, one.phase) for one in incidents}
        for failed in self._failed.values():
            failed.intersection_update(known)
        made = plan(
            *(incidents, self._routes, self._paces, state, self._store.token),
            held=held,
            refused=refused,
            failed={(name, *what) for name, failed in self._failed.items() for what in failed},
        )
        for name, refusals in self._refusals.items():
            refusals.keep({(incident, phase) for channel, incident, phase in made.refused if channel == name})
        claimed = [claim for claim in made.messages if self._is_free(claim.channel)]
        obsolete = [claim.id for claim in state.claims if claim.channel not in self._paces]
        if claimed or obsolete or made.noted or made.forgotten:
            changes = Changes(claimed=claimed, released=obsolete, noted=made.noted, forgotten=made.forgotten)
            if self._store.is_slow:
                self._planned = changes
                self._due.hasten()
            elif (state := self._exchange(changes)) is None:
                return
        by_id = {one.id: one for one in incidents}
        for claim in state.claims:
            if claim.channel in self._paces and self._may_send(claim, state.now):
                self._send(claim, by_id, state.now)

    def _report(self, planned: Changes) -> DeliveryState | None:
        """Tell the store what became of the messages, and what was planned."""
        released = [*planned.released, *self._released]
        state = self._exchange(planned._replace(taken=self._taken, released=released))
        if state is not None:
            self._taken, self._released = [], []
        return state

    def _exchange(self, changes: Changes) -> DeliveryState | None:
        state = self._deliveries.exchange(changes)
        if state is not None:
            self._state = state
            self._store_is_ahead = state.now - self._clock.monotonic()
        return state

    def _is_free(self, name: str) -> bool:
        return self._senders[name].is_free and self._refusals[name].remaining() <= 0

    def _may_send(self, claim: Claim, now: float) -> bool:
        if self._senders[claim.channel].is_busy_with(claim) or not self._is_free(claim.channel):
            return False
        # A claim time in the future is from before the clock was put back.
        return claim.token == self._store.token or not 0 <= now - claim.at < CLAIM_TIMEOUT

    def _send(self, claim: Claim, incidents: Mapping[str, Incident], at: float) -> None:
        notices = tuple(
            Notice(delivery_id(part, claim.channel), part.phase, incidents[part.incident], part.at)
            for part in claim.parts
            if part.incident in incidents
        )
        if not notices:  # nothing is left to report
            self._released.append(claim.id)
            return
        message = Message(claim.id, self._node_id, notices, at, self._base_url, claim.is_digest)
        self._senders[claim.channel].send(message, claim)

    def _send_heartbeats(self) -> None:
        """Send the heartbeats that are due: all is well, since only an instance that consumes leads."""
        for name, schedule in self._heartbeats.items():
            if schedule.is_due() and self._senders[name].is_free:
                schedule.restart()
                self._senders[name].send(Message("heartbeat", self._node_id, (), self._clock.time()), None)

    def _take_outcomes(self) -> None:
        for name, sender in self._senders.items():
            outcome = sender.take()
            if outcome is not None:
                self._note(name, outcome)
            if trouble := sender.new_trouble(outcome):
                self._logger.warning("notification-failed", channel=name, reason=trouble)

    def _note(self, name: str, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._stats.notification_failures += 1
            is_unknown = isinstance(outcome.error, TryAgain) and outcome.error.maybe_taken
            if outcome.claim is not None and not is_unknown:
                self._released.append(outcome.claim.id)
            if outcome.claim is not None and isinstance(outcome.error, Refused):
                self._refusals[name].refused(outcome.claim.parts)
            elif outcome.claim is not None and isinstance(outcome.error, TryAgain) and outcome.error.is_answer:
                self._failed[name].update((part.incident, part.phase) for part in outcome.claim.parts)
            return
        self._stats.notifications += 1
        if outcome.claim is None:
            return
        self._refusals[name].taken(outcome.claim.parts)
        self._failed[name].clear()
        self._taken.append(Taken(outcome.claim, self._clock.monotonic() + self._store_is_ahead))
        if news := _new_incidents(outcome.claim.parts):
            self._logger.info("notification-sent", channel=name, id=outcome.claim.id, incidents=news)


def _new_incidents(parts: Sequence[Part]) -> int:
    """The number of incidents about which a message says something that the channel did not know."""
    return sum(1 for part in parts if part.number == 1 or part.phase is Phase.RESOLVED)
