"""The latency of the store, and what follows from it: how many batches may be in flight, and what waits for them."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.store.api import SLOW_CALL

MAX_IN_FLIGHT = 8
"""Maximum batches in flight. The broker's prefetch usually limits them earlier."""
INITIAL_IN_FLIGHT = 2
"""Maximum batches in flight before the store's latency is known."""
NEARBY_LATENCY = 0.02
"""Seconds within which a store nearby answers; nothing more is sent before its answer."""
MAX_ROUND_TRIP = 2 * SLOW_CALL
"""Seconds after which a single answer shows that each call takes long. A shorter time may be the network's round trip,
which several calls in flight share."""


class Window:
    """How many batches may be in flight.

    Each renewal of the lease waits for all of them. If the round trip is long, this takes no longer for eight than for
    one; if each call takes long (a lagging replica, a slow disk), it takes eight times as long. So the window grows by
    one after each timely answer, and is halved after an answer that is late.
    """

    def __init__(self, timely: float) -> None:
        """:param timely: seconds within which an answer must come."""
        self._timely = timely
        self.max_in_flight = INITIAL_IN_FLIGHT

    def answered(self, after: float) -> None:
        """A batch was answered. :param after: seconds for which the answer certainly was not there."""
        self.max_in_flight = (
            min(MAX_IN_FLIGHT, self.max_in_flight + 1) if after <= self._timely else max(1, self.max_in_flight // 2)
        )

    def start_anew(self) -> None:
        """Start again, since the connection is a new one."""
        self.max_in_flight = INITIAL_IN_FLIGHT


class Latency:
    """Distinguishes a distant store, which is sent several batches at once, from a store whose calls take long each,
    which is sent one batch after the other.

    The loop does not see when an answer arrives: it only knows when it last looked and the answer was not there.
    """

    def __init__(self, timely: float, *, timeout: float, clock: Clock) -> None:
        """
        :param timely: as for `Window`.
        :param timeout: seconds after which the store itself gives up waiting for an answer.
        """
        self._window = Window(timely)
        self._timeout = timeout
        self._clock = clock
        self._missed_at = float("-inf")
        """When the loop last looked for an answer that was not there, by the monotonic clock."""
        self._waited = 0.0
        """Seconds for which the latest answer certainly was not there."""
        self._answered_at = float("-inf")
        """When the latest answer came, by the monotonic clock."""
        self._answered = 0
        """Batches in flight that the store answered before it answered another call: their latency is not known."""
        self._is_slow_at_each = self._is_unclear = False
        self.is_far = False
        """Whether the latest batch, or call, took longer than with a store nearby."""

    @property
    def max_in_flight(self) -> int:
        """Maximum batches that may be in flight."""
        return self._window.max_in_flight

    @property
    def overlaps_calls(self) -> bool:
        """Whether batches should be in flight while a call waits for its reply."""
        return self.is_far and not self._is_slow_at_each

    def blocks_calls(self, sent_at: float) -> bool:
        """Whether no other call should be made before the store has answered all batches. The call would wait for them,
        too, while each takes long, or longer than usual. If only the distance is long, several calls take no longer
        than one.

        :param sent_at: when the oldest batch was sent, by the monotonic clock.
        """
        owes_for = self._clock.monotonic() - max(sent_at, self._answered_at)
        if owes_for >= self._timeout:
            return False
        is_slow = self._is_slow_at_each or self._is_unclear
        return not self.is_far or is_slow or owes_for >= NEARBY_LATENCY + 2 * self._waited

    def missed(self) -> None:
        """The loop looked for the next answer, and it is not there."""
        self._missed_at = self._clock.monotonic()

    def answered(self, sent_at: float, asked_at: float) -> None:
        """The store has answered the oldest batch.

        :param sent_at: when that batch was sent, by the monotonic clock.
        :param asked_at: when the loop began to wait for its answer, by the monotonic clock.
        """
        now = self._clock.monotonic()
        if now - asked_at >= NEARBY_LATENCY:
            self._missed_at = now
        if self._answered:
            self._answered -= 1
            return
        self._waited = max(0.0, self._missed_at - sent_at)
        self.is_far = self._waited >= NEARBY_LATENCY
        follows = sent_at < self._answered_at
        self._judge(self._missed_at - (self._answered_at if follows else sent_at), follows=follows)
        self._answered_at = now
        self._window.answered(self._waited)

    def ticked(self, seconds: float, in_flight: int) -> None:
        """The store answered a tick, and all batches before it.

        :param seconds: how long the tick took.
        :param in_flight: how many batches there were.
        """
        self.called(seconds, in_flight)
        self._judge(seconds / (1 + self._answered), follows=self._answered > 0)
        if self._answered:
            self._window.answered(seconds)

    def called(self, seconds: float, in_flight: int) -> None:
        """As `ticked`, for code that may have made other calls, or none."""
        self._answered = 0
        if seconds >= NEARBY_LATENCY:
            self._answered, self.is_far = in_flight, True

    def start_anew(self) -> None:
        """Start again: nothing is in flight any longer, and the connection may be a new one."""
        self._window.start_anew()
        self._answered = 0

    def _judge(self, seconds: float, *, follows: bool) -> None:
        """Judge whether each call takes long.

        :param seconds: how long one call took.
        :param follows: whether the call directly followed another one, so that its time excludes the round trip.
        """
        self._is_unclear = not follows and SLOW_CALL <= seconds < MAX_ROUND_TRIP
        if not self._is_unclear:
            self._is_slow_at_each = seconds >= SLOW_CALL
