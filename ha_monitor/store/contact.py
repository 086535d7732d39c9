"""Since when an instance has been in contact with the shared record."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Contact:
    """Tells an instance that died from one that could not renew its lease.

    After an outage of the store every lease has run out, and each instance is about to renew its own. Only an instance
    that has been in contact for a whole lease may take over what another one left.
    """

    def __init__(self, clock: Clock, lease: float) -> None:
        """:param lease: seconds."""
        self._clock = clock
        self._lease = lease
        self._since: float | None = None
        self._last: float | None = None

    def replied(self) -> None:
        """The store has just replied."""
        now = self._clock.monotonic()
        if self._last is None or now - self._last > self._lease / 2:
            self._since = now
        self._last = now

    def may_take_over(self) -> bool:
        """Whether leases that ran out are of instances that died."""
        if self._since is None or self._last is None:
            return False
        now = self._clock.monotonic()
        return now - self._last <= self._lease / 2 and now - self._since >= self._lease
