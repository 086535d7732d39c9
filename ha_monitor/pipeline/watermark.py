"""The watermark of this instance, the fleet's watermark as the leader knows it, and since when the instance listens."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Watermark:
    """The watermark of this instance: everything that the broker delivered to it before that time is merged.

    It advances when nothing is in flight, or when as many messages were merged since the last mark as may be
    unacknowledged.
    """

    def __init__(self, clock: Clock, prefetch: int | None, requeue_delay: float) -> None:
        """
        :param prefetch: maximum number of unacknowledged messages; None if there is no limit.
        :param requeue_delay: seconds after which the unacknowledged messages of a lost connection are certainly
            requeued.
        """
        self._clock = clock
        self._prefetch = prefetch
        self._requeue_delay = requeue_delay
        self._merged_until: float | None = None
        self._received_until = self._paused_at = self._mark = clock.monotonic()
        self._arrivals: int | None = None
        self._since_mark = 0
        self._lost_at: float | None = clock.monotonic()
        self.requeued = False
        """Whether messages were requeued, and the other instances do not know that yet."""

    def merged(self, messages: int) -> None:
        """Note that this many messages were merged."""
        if self._prefetch is None:
            return
        self._since_mark += messages
        if self._since_mark >= self._prefetch:
            self._merged_until = self._mark
            self._mark, self._since_mark = self._clock.monotonic(), 0

    def nothing_in_flight(self, since: float, arrivals: int | None = None) -> None:
        """Note that everything that arrived is merged.

        A silent link may be cut. So only an arrival proves that everything sent earlier has arrived, too: it moves the
        watermark to the previous time at which the broker had no message.

        :param since: when the broker had no message, by the monotonic clock.
        :param arrivals: `Source.arrivals`; None if all messages also arrive at the other instances.
        """
        if arrivals is None:
            self._received_until = since
        elif arrivals != self._arrivals:
            self._received_until, self._arrivals = max(self._received_until, self._paused_at), arrivals
        self._paused_at = since
        # A question may have been answered later than `since`, while a handler ran: what arrived before that answer may
        # not be read yet.
        merged_until = min(self._received_until, since)
        self._merged_until = max(merged_until, self._merged_until or merged_until)
        self._mark, self._since_mark = since, 0

    def answered(self, asked_at: float) -> None:
        """Note that the broker has answered a question: everything that it sent before the question has arrived.

        :param asked_at: time of the question by the monotonic clock.
        """
        self._received_until = max(self._received_until, asked_at)

    def connected(self) -> None:
        """Note that the instance consumes."""
        self._lost_at = None
        self._received_until = self._paused_at = self._mark = self._clock.monotonic()
        self._since_mark = 0

    def disconnected(self) -> None:
        """Note that the connection ended, so that unacknowledged messages are requeued."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self.requeued = True

    def requeue_stored(self) -> None:
        """Note that the other instances know that messages were requeued."""
        self.requeued = False

    def age(self) -> float | None:
        """Age of the watermark in seconds; None if there is none yet."""
        now = self._clock.monotonic()
        if self._lost_at is not None and now - self._lost_at > self._requeue_delay:
            return 0.0
        return None if self._merged_until is None else now - self._merged_until

    def has_passed(self, at: float) -> bool:
        """Whether everything delivered to this instance before a time, by the monotonic clock, is merged."""
        age = self.age()
        return age is not None and self._clock.monotonic() - age >= at


class FleetWatermark:
    """The watermark of the fleet: everything that was sent before that time is merged, by whichever instance.

    The queue was empty at that time, and since then, every instance has merged what had been delivered to it by then.
    So a worker's silence proves something only up to the watermark: what it sent later may still wait in a backlog.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._empty_at: float | None = None
        """The earliest time after the watermark at which the queue was empty. Instances that are always a little behind
        would never reach the latest such time."""
        self._latest_empty_at: float | None = None
        self._until: float | None = None
        self._known_at = 0.0

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is no shared queue.

        :param at: time by the monotonic clock.
        """
        self._latest_empty_at = at
        if self._empty_at is None:
            self._empty_at = at

    def merged_by_all(self, until: float | None) -> None:
        """Note that all instances have merged what was delivered to them before a time.

        :param until: that time by the monotonic clock; None if some of it may be redelivered.
        """
        if until is None or self._empty_at is None or self._latest_empty_at is None or until < self._empty_at:
            return
        self._until = self._latest_empty_at if until >= self._latest_empty_at else self._empty_at
        self._known_at = self._clock.monotonic()
        self._empty_at = self._latest_empty_at if self._latest_empty_at > self._until else None

    def ages(self) -> tuple[float, float] | None:
        """Age of the watermark, and how long it has been known, in seconds; None if there is none yet."""
        if self._until is None:
            return None
        now = self._clock.monotonic()
        return now - self._until, now - self._known_at


class Listening:
    """Since when this instance receives all events. While it does not, a worker's silence proves nothing."""

    def __init__(self, clock: Clock, interrupted_after: float) -> None:
        """:param interrupted_after: seconds without `listened` after which the listening time starts again."""
        self._clock = clock
        self._interrupted_after = interrupted_after
        self._heard_at = float("-inf")
        self._since = clock.monotonic()

    def listened(self) -> None:
        """Note that the instance has just received what the broker had for it, if anything."""
        now = self._clock.monotonic()
        if now - self._heard_at > self._interrupted_after:
            # Broker or store were unavailable, or a handler took long: what was sent meanwhile is still to come.
            self._since = now
        self._heard_at = now

    def interrupted(self) -> None:
        """Note that what was sent until now is still to come, although this instance receives."""
        self._since = self._clock.monotonic()

    def lasts(self) -> float | None:
        """Seconds for which it has listened without interruption; None if it does not listen."""
        now = self._clock.monotonic()
        return now - self._since if now - self._heard_at <= self._interrupted_after else None

    def has_lasted(self, seconds: float) -> bool:
        """Whether it has listened for this many seconds, and still does."""
        now = self._clock.monotonic()
        return now - self._heard_at <= self._interrupted_after and now - self._since >= seconds
