"""The watermark of this instance, that of the fleet as its leader knows it, and since when the instance listens."""

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
        self._received_until = self._paused_at = self._mark = clock.monotonic()
        self._arrivals: int | None = None
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

    def nothing_in_flight(self, since: float, arrivals: int | None = None) -> None:
        """Everything that arrived is merged.

        A link that is cut brings nothing either. So only what arrives proves that all came that was sent before: until
        then, that is, when nothing more had arrived before it.

        :param since: when the broker was asked, by the monotonic clock, and had no message.
        :param arrivals: `Source.arrivals`; None if what does not arrive here arrives at the other instances.
        """
        if arrivals is None:
            self._received_until = since
        elif arrivals != self._arrivals:
            self._received_until, self._arrivals = max(self._received_until, self._paused_at), arrivals
        self._paused_at = since
        # A question may have been answered since then, while a handler took its time: what arrived before that answer
        # lies unread.
        merged_until = min(self._received_until, since)
        self._merged_until = max(merged_until, self._merged_until or merged_until)
        self._mark, self._since_mark = since, 0

    def answered(self, asked_at: float) -> None:
        """The broker has answered a question: all has arrived that it sent before the question came.

        :param asked_at: by the monotonic clock.
        """
        self._received_until = max(self._received_until, asked_at)

    def connected(self) -> None:
        """The instance consumes."""
        self._lost_at = None
        self._received_until = self._paused_at = self._mark = self._clock.monotonic()
        self._since_mark = 0

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

    def has_passed(self, at: float) -> bool:
        """Whether all is merged that had been delivered to this instance by a time, by the monotonic clock."""
        age = self.age()
        return age is not None and self._clock.monotonic() - age >= at


class FleetWatermark:
    """The watermark of the fleet: everything that was sent up to that time is merged, by whichever instance.

    The queue was empty then, and every instance has merged since what it had been given by then. So the silence of a
    worker means something up to the watermark only: what it sent later may wait behind a backlog.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._empty_at: float | None = None
        """When the queue was empty: the earliest time that is later than the watermark. A later one would never be
        reached by instances that are always a little behind it."""
        self._latest_empty_at: float | None = None
        self._until: float | None = None
        self._known_at = 0.0

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is none.

        :param at: by the monotonic clock.
        """
        self._latest_empty_at = at
        if self._empty_at is None:
            self._empty_at = at

    def merged_by_all(self, until: float | None) -> None:
        """All instances have merged what they were given.

        :param until: up to that time, by the monotonic clock; None if more of it may be delivered again.
        """
        if until is None or self._empty_at is None or self._latest_empty_at is None or until < self._empty_at:
            return
        self._until = self._latest_empty_at if until >= self._latest_empty_at else self._empty_at
        self._known_at = self._clock.monotonic()
        self._empty_at = self._latest_empty_at if self._latest_empty_at > self._until else None

    def ages(self) -> tuple[float, float] | None:
        """Age of the watermark, and for how long it has been known, in seconds; None if there is none yet."""
        if self._until is None:
            return None
        now = self._clock.monotonic()
        return now - self._until, now - self._known_at


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

    def lasts(self) -> float | None:
        """For how many seconds it has listened without a break; None if it does not."""
        now = self._clock.monotonic()
        return now - self._since if now - self._heard_at <= self._deaf_after else None

    def has_lasted(self, seconds: float) -> bool:
        """Whether it listens, and has for so long."""
        now = self._clock.monotonic()
        return now - self._heard_at <= self._deaf_after and now - self._since >= seconds
