"""What an instance itself knows about its part in the shared record: its lease, how far its outbox is announced, its
confirmed calls, and its recent work. Nothing here does I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ha_monitor.clock import Clock
from ha_monitor.store.results import Rollback

WHY_LOST = {
    "TAKEN_OVER": "this instance's lease expired, and another instance took over its outbox",
    "MOVED": "the lease was renewed by a call whose reply was lost; its announcements follow when that lease expires",
    "FORGOTTEN": "Redis no longer knows this instance: its keys were deleted, or Redis went back to an earlier state",
}
"""Why an instance no longer has a lease, by the word that `lua/lease.lua` returns."""
KEPT_FOR = 150.0
"""Seconds for which recent work is kept: longer than anything waits in a record (`lua/tick.lua`)."""
MAX_BYTES = 32 * 1024 * 1024
"""Bytes of recent work: some seconds at the highest rate; a fail-over is noticed sooner."""
IDS_AT_ONCE = 1000
"""Ids that one call passes to the store."""

Work = TypeVar("Work")
"""What one call merged."""


class Lease:
    """The only owner of what an instance knows about its lease."""

    def __init__(self, clock: Clock, duration: float) -> None:
        """:param duration: seconds for which the store grants a lease."""
        self._clock = clock
        self.duration = duration
        self.token = 0
        """Its fencing token; 0 before the first."""
        self.until = 0.0
        """When the lease may expire, by the monotonic clock."""
        self._answered_at = 0.0
        self._in_contact_since: float | None = None
        self._last_contact: float | None = None

    def granted(self, token: int, asked_at: float) -> None:
        """The store has given a new token and a lease with it.

        :param asked_at: when the store was asked, by the monotonic clock: the lease does not begin before that.
        """
        self.token = token
        self.renewed(asked_at)

    def renewed(self, asked_at: float) -> None:
        """The store has renewed the lease. :param asked_at: see `granted`."""
        self.until = asked_at + self.duration
        self._answered_at = self._clock.monotonic()

    def since_answer(self, at: float) -> float:
        """Seconds between the store's last answer to a registration or a tick and a moment, which may be earlier.

        :param at: by the monotonic clock.
        """
        return at - self._answered_at

    def given_up(self) -> None:
        """This instance has left."""
        self.until = 0.0

    def holds(self) -> bool:
        """Whether the lease certainly still holds, by this machine's own clock."""
        return self._clock.monotonic() < self.until

    def replied(self) -> None:
        """The store has just replied to some call."""
        now = self._clock.monotonic()
        if self._last_contact is None or now - self._last_contact > self.duration / 2:
            self._in_contact_since = now
        self._last_contact = now

    def may_take_over(self) -> bool:
        """Whether the expired leases of others are of instances that died.

        After an outage of the store every lease has expired, and each instance is about to renew its own. Only an
        instance that has been in contact for a whole lease may take over the outbox of another one.
        """
        if self._in_contact_since is None or self._last_contact is None:
            return False
        now = self._clock.monotonic()
        return now - self._last_contact <= self.duration / 2 and now - self._in_contact_since >= self.duration


class OutboxProgress:
    """How far the outbox of this instance is announced, and how far the store knows that.

    The only owner of these sequence numbers: all items below such a number are done.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """The instance has a new token, and so an empty outbox with sequence numbers from 0."""
        self.announced = 0
        self._in_flight: deque[int] = deque()
        """What each call in flight tells the store."""
        self._confirmed = 0

    def disconnected(self) -> None:
        """No call is in flight any more."""
        self._in_flight.clear()

    def announce(self, upto: int) -> None:
        """All items below a sequence number are announced."""
        self.announced = max(self.announced, upto)

    def sent(self) -> None:
        """A call is sent that tells the store how far the outbox is announced."""
        self._in_flight.append(self.announced)

    def confirm(self) -> None:
        """The oldest of those calls returned."""
        self._confirmed = max(self._confirmed, self._in_flight.popleft())

    def refused(self) -> None:
        """The oldest of those calls changed nothing."""
        self._in_flight.popleft()

    def confirm_upto(self, upto: int) -> None:
        """A separate call has told the store that all items below a sequence number are announced."""
        self.announce(upto)
        self._confirmed = max(self._confirmed, upto)

    @property
    def is_confirmed(self) -> bool:
        """Whether the store knows of everything that is announced."""
        return self.announced <= self._confirmed


class RollbackMemory:
    """The only owner of what reveals a rollback. The scripts compare it (`lua/lease.lua`, `lua/register.lua`)."""

    def __init__(self) -> None:
        self.calls = 0
        """Confirmed calls under the current lease."""
        self.known = 0
        """When the last rollback that this instance knows of was noticed, ms since the epoch; 0 if none."""
        self._unreported: Rollback | None = None

    def registered(self, reply: Sequence[int | list[int]]) -> None:
        """The instance has a new token, for which no call is counted yet.

        :param reply: {when the last rollback was noticed, what to report if this call found it}.
        """
        self.calls = 0
        self._noticed(reply)

    def confirmed(self, reply: Sequence[int | list[int]]) -> None:
        """A call has returned.

        :param reply: {calls counted including this one, …as for `registered`}; empty if the call was not counted.
        """
        if reply:
            self.calls = _number(reply[0])
            self._noticed(reply[1:])

    def take(self) -> Rollback | None:
        """A rollback that this instance was the first to notice, to be reported; each is returned once."""
        unreported, self._unreported = self._unreported, None
        return unreported

    def _noticed(self, reply: Sequence[int | list[int]]) -> None:
        self.known = max(self.known, _number(reply[0]))
        if len(reply) > 1 and isinstance(found := reply[1], list):
            since, calls = found
            self._unreported = Rollback(self.known / 1000, since / 1000 if since else None, calls)


def _number(value: int | list[int]) -> int:
    return value if isinstance(value, int) else 0


class _Kept(NamedTuple, Generic[Work]):
    at: float
    """By the monotonic clock."""
    size: int
    """Bytes, roughly."""
    ids: str
    """Ids of announced events, separated by spaces: many small texts would take three times as much memory."""
    work: Work | None


class RecentWork(Generic[Work]):
    """The only owner of what an instance has merged and announced lately, to repeat it in a store that went back.

    A store that goes back to an earlier state (`lua/rollback.lua`) loses what it had confirmed. The broker no longer
    has it either: the messages were acknowledged when their lines were out, and an end that waited in the record for
    its task's name is stored nowhere else. So each instance keeps what it merged, packed as it was sent, and the ids of
    what it announced, and sends both again. The ids come first: what was announced is then left out of every outbox.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[_Kept[Work]] = deque()
        self._size = 0
        self._known = 0
        self._ids: deque[Sequence[str]] = deque()
        self._lost: deque[Work] = deque()

    def merged(self, work: Work, size: int) -> None:
        """A call that merged something has returned. :param size: of the work, in bytes."""
        self._keep(_Kept(self._clock.monotonic(), size, "", work))

    def announced(self, ids: Sequence[str]) -> None:
        """Events were announced. :param ids: their ids."""
        if joined := " ".join(ids):
            self._keep(_Kept(self._clock.monotonic(), len(joined), joined, None))

    def store_went_back(self, at: int) -> None:
        """The store is known to have gone back.

        :param at: when that was last noticed, ms since the epoch; 0 if never.
        """
        if at <= self._known:
            return
        self._known = at
        ids = [one for kept in self._kept for one in kept.ids.split()]
        self._ids = deque(ids[first : first + IDS_AT_ONCE] for first in range(0, len(ids), IDS_AT_ONCE))
        self._lost = deque(kept.work for kept in self._kept if kept.work is not None)

    @property
    def must_repeat(self) -> bool:
        """Whether some of the work still has to be repeated in the store."""
        return bool(self._ids or self._lost)

    def repeat_some(self, note: Callable[[Sequence[str]], object], merge: Callable[[Work], Work | None]) -> None:
        """Repeat a part of the lost work; a part whose call raises is repeated again later.

        :param note: gets ids of announced events, before anything is merged.
        :param merge: gets what one call had merged, and returns the rest that is still to be merged, or None.
        """
        if self._ids:
            note(self._ids[0])
            self._ids.popleft()
        elif self._lost:
            left = merge(self._lost[0])
            if left is None:
                self._lost.popleft()
            else:
                self._lost[0] = left

    def _keep(self, kept: _Kept[Work]) -> None:
        self._kept.append(kept)
        self._size += kept.size
        oldest = kept.at - KEPT_FOR
        while self._size > MAX_BYTES or self._kept[0].at < oldest:
            self._size -= self._kept.popleft().size
