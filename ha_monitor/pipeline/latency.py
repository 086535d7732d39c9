"""How soon the store answers, and what follows from it: how many batches may be under way, and what waits for them."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.store.api import SLOW_CALL

MOST = 8
"""Batches under way at most. The broker's prefetch is usually reached before."""
FIRST = 2
"""Batches under way at most before the store has shown how soon it answers."""
NEAR = 0.02
"""Seconds within which a store answers that is not far away; then no more is sent before the answer."""
LONG_WAY = 2 * SLOW_CALL
"""Seconds for which a single call of such a store is waited for. A shorter time may as well be that of the way, on
which several calls take no longer than one."""


class Window:
    """How many batches may be under way.

    Each renewal of the lease waits for all of them. Where the way is long, that takes no longer for eight than for one;
    where each call takes long (a replica that lags, a slow disk), it takes eight times as long. So there are more, one
    by one, as long as the answers are timely, and half as many after one that is not.
    """

    def __init__(self, timely: float) -> None:
        """:param timely: seconds within which an answer has to come."""
        self._timely = timely
        self.most = FIRST

    def answered(self, after: float) -> None:
        """A batch is answered for. :param after: seconds for which the answer certainly was not there."""
        self.most = min(MOST, self.most + 1) if after <= self._timely else max(1, self.most // 2)

    def start_anew(self) -> None:
        """The connection is another one."""
        self.most = FIRST


class Latency:
    """Tells a store that is far away, for which batches do not wait for each other, from one each of whose calls takes
    long, which is given one after the other.

    The loop does not see when an answer comes: it knows when it looked for one that was not there yet.
    """

    def __init__(self, timely: float, *, timeout: float, clock: Clock) -> None:
        """
        :param timely: as for `Window`.
        :param timeout: seconds after which the store itself gives an answer up.
        """
        self._window = Window(timely)
        self._timeout = timeout
        self._clock = clock
        self._missed_at = float("-inf")
        """When an answer was looked for last that was not there, by the monotonic clock."""
        self._waited = 0.0
        """Seconds for which the latest answer certainly was not there."""
        self._answered_at = float("-inf")
        """When the latest answer came, by the monotonic clock."""
        self._answered = 0
        """Batches under way that were answered for before another call was: how soon is not known."""
        self._is_slow_at_each = self._is_unclear = False
        self.is_far = False
        """Whether the latest batch, or call, was not answered for as soon as by a store that is near."""

    @property
    def most(self) -> int:
        """Batches that may be under way."""
        return self._window.most

    @property
    def goes_on_meanwhile(self) -> bool:
        """Whether a call that waits for its reply should have batches under way meanwhile."""
        return self.is_far and not self._is_slow_at_each

    def is_first(self, sent_at: float) -> bool:
        """Whether no other call should be made before the store has answered for all batches: it would wait for them,
        too, and each takes long, or they take longer than usual. A store that is far away, and no slower than that,
        takes no longer for several.

        :param sent_at: when the oldest batch was sent, by the monotonic clock.
        """
        owes_for = self._clock.monotonic() - max(sent_at, self._answered_at)
        if owes_for >= self._timeout:
            return False
        is_slow = self._is_slow_at_each or self._is_unclear
        return not self.is_far or is_slow or owes_for >= NEAR + 2 * self._waited

    def missed(self) -> None:
        """The next answer was looked for, and is not there."""
        self._missed_at = self._clock.monotonic()

    def answered(self, sent_at: float, asked_at: float) -> None:
        """The store has answered for the oldest batch.

        :param sent_at: when that was sent, and
        :param asked_at: since when its answer was waited for, by the monotonic clock.
        """
        now = self._clock.monotonic()
        if now - asked_at >= NEAR:
            self._missed_at = now
        if self._answered:
            self._answered -= 1
            return
        self._waited = max(0.0, self._missed_at - sent_at)
        self.is_far = self._waited >= NEAR
        follows = sent_at < self._answered_at
        self._judge(self._missed_at - (self._answered_at if follows else sent_at), follows=follows)
        self._answered_at = now
        self._window.answered(self._waited)

    def ticked(self, seconds: float, under_way: int) -> None:
        """A tick was answered, and all batches before it.

        :param seconds: that it took.
        :param under_way: how many batches those were.
        """
        self.called(seconds, under_way)
        self._judge(seconds / (1 + self._answered), follows=self._answered > 0)
        if self._answered:
            self._window.answered(seconds)

    def called(self, seconds: float, under_way: int) -> None:
        """The same for what may have made other calls, or none."""
        self._answered = 0
        if seconds >= NEAR:
            self._answered, self.is_far = under_way, True

    def start_anew(self) -> None:
        """Nothing is under way any more, and the connection may be another one."""
        self._window.start_anew()
        self._answered = 0

    def _judge(self, seconds: float, *, follows: bool) -> None:
        """Judge whether each call takes long.

        :param seconds: that one took.
        :param follows: whether it followed another one, so that the way is not in it.
        """
        self._is_unclear = not follows and SLOW_CALL <= seconds < LONG_WAY
        if not self._is_unclear:
            self._is_slow_at_each = seconds >= SLOW_CALL
