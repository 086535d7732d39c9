"""The lease of an instance in the shared record, and its calls under it, as the instance itself knows them."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.clock import Clock
from ha_monitor.store.results import Rollback

WHY_LOST = {
    "TAKEN_OVER": "the lease of this instance ran out, and another one took its outbox over",
    "MOVED": "the lease was renewed by a call whose reply was lost; what that left is announced when it has run out",
    "FORGOTTEN": "Redis does not know this instance any more: its keys were deleted, or Redis went back to an earlier "
    "state",
}
"""Why an instance has no lease any more, by the word that `lua/lease.lua` has for it."""


class Lease:
    """The one owner of what an instance knows of its lease. Nothing here asks the store."""

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


class RollbackMemory:
    """The one owner of what an instance remembers for it. The scripts compare (`lua/lease.lua`, `lua/register.lua`)."""

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
