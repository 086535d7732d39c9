"""The watermark of this instance, and since when it listens."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Watermark:
    """The watermark: everything that the broker had delivered to this instance up to that time is merged.

    It advances when nothing is in flight, or when as many messages have been merged since as may be unacknowledged.
    """

    def __init__(self, clock: Clock, prefetch: int | None, held: float) -> None:
        """
        :param prefetch: most unacknowledged messages; None if there is no limit.
        :param held: seconds after which the unacknowledged messages of a lost connection are certainly requeued.
        """
        self._clock = clock
        self._prefetch = prefetch
        self._held = held
        self._merged_until: float | None = None
        self._mark = clock.monotonic()
        self._since_mark = 0
        self._lost_at: float | None = clock.monotonic()
        self.requeued = False
        """Whether messages were requeued, and the other instances do not know it yet."""

    def merged(self, messages: int) -> None:
        """So many messages were merged."""
        if self._prefetch is None:
            return
        self._since_mark += messages
        if self._since_mark >= self._prefetch:
            self._merged_until = self._mark
            self._mark, self._since_mark = self._clock.monotonic(), 0

    def nothing_in_flight(self, since: float) -> None:
        """:param since: when the broker was asked, by the monotonic clock, and had no message."""
        self._merged_until = self._mark = since
        self._since_mark = 0

    def connected(self) -> None:
        """The instance consumes."""
        self._lost_at = None
        self._mark, self._since_mark = self._clock.monotonic(), 0

    def disconnected(self) -> None:
        """Unacknowledged messages are requeued."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self.requeued = True

    def requeue_stored(self) -> None:
        """The other instances know it."""
        self.requeued = False

    def age(self) -> float | None:
        """Age of the watermark in seconds; None if there is none yet."""
        now = self._clock.monotonic()
        if self._lost_at is not None and now - self._lost_at > self._held:
            return 0.0
        return None if self._merged_until is None else now - self._merged_until


class Listening:
    """Since when this instance receives all events. A worker's silence means nothing while it does not."""

    def __init__(self, clock: Clock, deaf_after: float) -> None:
        """:param deaf_after: seconds without `listened` after which the time counts from the next one."""
        self._clock = clock
        self._deaf_after = deaf_after
        self._heard_at = float("-inf")
        self._since = clock.monotonic()

    def listened(self) -> None:
        """The instance has just received what the broker had for it, if anything."""
        now = self._clock.monotonic()
        if now - self._heard_at > self._deaf_after:
            # No broker, no store, or a handler that took long: what was sent meanwhile is yet to come.
            self._since = now
        self._heard_at = now

    def interrupted(self) -> None:
        """What was sent until now is yet to come, though this instance receives."""
        self._since = self._clock.monotonic()

    def has_lasted(self, seconds: float) -> bool:
        """Whether it listens, and has for so long."""
        now = self._clock.monotonic()
        return now - self._heard_at <= self._deaf_after and now - self._since >= seconds
