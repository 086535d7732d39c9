"""When this instance may export the fleet-wide metrics."""

from __future__ import annotations

from ha_monitor.clock import Clock

MAX_INTERVAL = 120.0
"""Seconds: the longest scrape interval to expect."""
MAX_CLIENTS = 100


class LeaderLease:
    """The leader's lease by this machine's clock, and the pause of a new leader.

    Prometheus keeps the values of a dead leader until it has tried to scrape that again. So a new leader that follows
    another one exports nothing for one observed scrape interval, so that no value is counted twice.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._silent_since: float | None = None
        self._scrapes: dict[str, tuple[float, float | None]] = {}
        """Client -> time of its last scrape, and the interval before it."""

    def hold(self, until: float, *, followed: bool) -> None:
        """:param followed: this instance has just become the leader after another one."""
        if followed:
            self._silent_since = self._clock.monotonic()
        self._until = until

    def give_up(self) -> None:
        self._until = float("-inf")
        self._silent_since = None

    def holds(self) -> bool:
        """Whether this instance leads: false once its lease has expired, even if it was frozen meanwhile."""
        return self._clock.monotonic() < self._until

    def scraped(self, client: str) -> None:
        """A client scrapes."""
        now = self._clock.monotonic()
        before = self._scrapes.pop(client, None)
        if len(self._scrapes) >= MAX_CLIENTS:
            self._scrapes.pop(next(iter(self._scrapes)), None)
        self._scrapes[client] = now, None if before is None else now - before[0]

    def exports(self) -> bool:
        """Whether to export the fleet-wide metrics."""
        if not self.holds():
            return False
        since = self._silent_since
        if since is None:
            return True
        now = self._clock.monotonic()
        if now - since > self.interval():
            self._silent_since = None
            return True
        return False

    def interval(self) -> float:
        """The longest interval between two scrapes of one client, as far as is known."""
        now = self._clock.monotonic()
        intervals = [gap for at, gap in list(self._scrapes.values()) if gap is not None and now - at < MAX_INTERVAL]
        return min(MAX_INTERVAL, max(intervals, default=MAX_INTERVAL))
