"""What an instance itself knows of its part in the shared record: its lease, how far its outbox is announced, its
confirmed calls, and what it did lately. Nothing here asks the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ha_monitor.clock import Clock
from ha_monitor.store.results import Rollback

WHY_LOST = {
    "TAKEN_OVER": "the lease of this instance ran out, and another one took its outbox over",
    "MOVED": "the lease was renewed by a call whose reply was lost; what that left is announced when it has run out",
    "FORGOTTEN": "Redis does not know this instance any more: its keys were deleted, or Redis went back to an earlier "
    "state",
}
"""Why an instance has no lease any more, by the word that `lua/lease.lua` has for it."""
LONGEST = 150.0
"""Seconds for which recent work is kept: longer than anything waits in a record (`lua/tick.lua`)."""
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of recent work: some seconds at the highest rate, and a fail-over is noticed in less."""
IDS_AT_ONCE = 1000
"""Ids that one call hands over."""

Work = TypeVar("Work")
"""What one call has merged."""


class Lease:
    """The one owner of what an instance knows of its lease."""

    def __init__(self, clock: Clock, duration: float) -> None:
        """:param duration: seconds for which the store grants a lease."""
        self._clock = clock
        self.duration = duration
        self.token = 0
        """The fencing token that goes with it; 0 before the first."""
        self.until = 0.0
        """When it may end, by the monotonic clock."""
        self._answered_at = 0.0
        self._in_contact_since: float | None = None
        self._last_contact: float | None = None

    def granted(self, token: int, asked_at: float) -> None:
        """The store has given a new token and, with it, a lease.

        :param asked_at: when it was asked, by the monotonic clock: the lease does not begin before that.
        """
        self.token = token
        self.renewed(asked_at)

    def renewed(self, asked_at: float) -> None:
        """The store has renewed it. :param asked_at: as for `granted`."""
        self.until = asked_at + self.duration
        self._answered_at = self._clock.monotonic()

    def since_answer(self, at: float) -> float:
        """Seconds from when the store's last answer to a registration or a tick came to a moment, which may be earlier.

        :param at: by the monotonic clock.
        """
        return at - self._answered_at

    def given_up(self) -> None:
        """This instance has left."""
        self.until = 0.0

    def holds(self) -> bool:
        """Whether it certainly still runs, by this machine's own clock."""
        return self._clock.monotonic() < self.until

    def replied(self) -> None:
        """The store has just replied, whatever it was asked."""
        now = self._clock.monotonic()
        if self._last_contact is None or now - self._last_contact > self.duration / 2:
            self._in_contact_since = now
        self._last_contact = now

    def may_take_over(self) -> bool:
        """Whether leases of others that ran out are of instances that died.

        After an outage of the store every lease has run out, and each instance is about to renew its own. Only an
        instance that has been in contact for a whole lease may take over what another one left.
        """
        if self._in_contact_since is None or self._last_contact is None:
            return False
        now = self._clock.monotonic()
        return now - self._last_contact <= self.duration / 2 and now - self._in_contact_since >= self.duration


class OutboxProgress:
    """How far the outbox of this instance is announced, and how far the store knows that.

    The one owner of these sequence numbers: all items below such a number are done.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """The instance has a new token, hence an empty outbox with sequence numbers from 0."""
        self.announced = 0
        self._told: deque[int] = deque()
        """What each call that is under way tells the store."""
        self._confirmed = 0

    def disconnected(self) -> None:
        """No call is under way any more."""
        self._told.clear()

    def announce(self, upto: int) -> None:
        """All items below a sequence number are out."""
        self.announced = max(self.announced, upto)

    def tell(self) -> None:
        """A call is made that tells the store how far it is."""
        self._told.append(self.announced)

    def confirm(self) -> None:
        """The oldest of those calls returned."""
        self._confirmed = max(self._confirmed, self._told.popleft())

    def refused(self) -> None:
        """The oldest of those calls changed nothing."""
        self._told.popleft()

    def confirm_upto(self, upto: int) -> None:
        """The store was told, by a call of its own, that all items below a sequence number are out."""
        self.announce(upto)
        self._confirmed = max(self._confirmed, upto)

    @property
    def is_confirmed(self) -> bool:
        """Whether the store knows of all that is announced."""
        return self.announced <= self._confirmed


class RollbackMemory:
    """The one owner of what shows a rollback. The scripts compare (`lua/lease.lua`, `lua/register.lua`)."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls under the present lease that were confirmed."""
        self.known = 0
        """When the last rollback was noticed that this instance knows of, ms since the epoch; 0 if none."""
        self._untold: Rollback | None = None

    def registered(self, reply: Sequence[int | list[int]]) -> None:
        """The instance has a new token, for which no call is counted yet.

        :param reply: {when the last rollback was noticed, what is to be told of it if this call has found it}.
        """
        self.calls = 0
        self._noticed(reply)

    def confirmed(self, reply: Sequence[int | list[int]]) -> None:
        """A call has returned.

        :param reply: {calls counted with this one, …as for `registered`}; empty if the call was not counted.
        """
        if reply:
            self.calls = _number(reply[0])
            self._noticed(reply[1:])

    def take(self) -> Rollback | None:
        """What is to be told, once: a rollback that this instance was the first to notice."""
        untold, self._untold = self._untold, None
        return untold

    def _noticed(self, reply: Sequence[int | list[int]]) -> None:
        self.known = max(self.known, _number(reply[0]))
        if len(reply) > 1 and isinstance(found := reply[1], list):
            since, calls = found
            self._untold = Rollback(self.known / 1000, since / 1000 if since else None, calls)


def _number(value: int | list[int]) -> int:
    return value if isinstance(value, int) else 0


class _Kept(NamedTuple, Generic[Work]):
    at: float
    """By the monotonic clock."""
    size: int
    """Bytes, roughly."""
    ids: str
    """Of events that were announced, with a space between them: many small texts would take three times as much."""
    work: Work | None


class RecentWork(Generic[Work]):
    """The one owner of what an instance has merged and announced lately, which a store that went back gets again.

    A store that goes back to an earlier state (`lua/rollback.lua`) loses what it had confirmed. The broker has that no
    more either: it was acknowledged when its lines were out, and an end that waited for its name in the record is in
    nobody's hands. So each instance keeps what it merged, as it was packed for that, and the ids of what it announced,
    and hands both over again. The ids come first: what was announced is then left out of every outbox.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[_Kept[Work]] = deque()
        self._size = 0
        self._known = 0
        self._ids: deque[Sequence[str]] = deque()
        self._lost: deque[Work] = deque()

    def merged(self, work: Work, size: int) -> None:
        """A call has returned that merged something. :param size: of it, in bytes."""
        self._keep(_Kept(self._clock.monotonic(), size, "", work))

    def announced(self, ids: Sequence[str]) -> None:
        """Events are announced. :param ids: theirs."""
        if joined := " ".join(ids):
            self._keep(_Kept(self._clock.monotonic(), len(joined), joined, None))

    def store_went_back(self, at: int) -> None:
        """The store is known to have gone back.

        :param at: when that was noticed last, ms since the epoch; 0 if never.
        """
        if at <= self._known:
            return
        self._known = at
        ids = [one for kept in self._kept for one in kept.ids.split()]
        self._ids = deque(ids[first : first + IDS_AT_ONCE] for first in range(0, len(ids), IDS_AT_ONCE))
        self._lost = deque(kept.work for kept in self._kept if kept.work is not None)

    @property
    def is_lost(self) -> bool:
        """Whether the store is yet to get something of it again."""
        return bool(self._ids or self._lost)

    def hand_over(self, note: Callable[[Sequence[str]], object], merge: Callable[[Work], Work | None]) -> None:
        """Hand over a part of what is lost; what raises is handed over again.

        :param note: is given ids of what was announced, before anything is merged.
        :param merge: is given what one call had merged, and returns what is left of it, or None.
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
        oldest = kept.at - LONGEST
        while self._size > MOST_BYTES or self._kept[0].at < oldest:
            self._size -= self._kept.popleft().size
