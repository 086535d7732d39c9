"""Until when this instance has merged whatever it was given."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Progress:
    """Tells a moment of which it is certain that all that the broker had given to this instance until then is merged.

    Either it was found to have nothing in hand, or it has merged as many messages since as it may have in hand.
    """

    def __init__(self, clock: Clock, prefetch: int | None, held: float) -> None:
        """
        :param prefetch: most messages in hand; None if there is no such limit.
        :param held: seconds after which messages in hand of a lost connection are surely given to others.
        """
        self._clock = clock
        self._prefetch = prefetch
        self._held = held
        self._merged_until: float | None = None
        self._mark = clock.monotonic()
        self._since_mark = 0
        self._lost_at: float | None = clock.monotonic()
        self.handed_back = False
        """Whether messages went back to the queue, and the other instances do not know it yet."""

    def merged(self, messages: int) -> None:
        """So many messages were merged."""
        if self._prefetch is None:
            return
        self._since_mark += messages
        if self._since_mark >= self._prefetch:
            self._merged_until = self._mark
            self._mark, self._since_mark = self._clock.monotonic(), 0

    def nothing_in_hand(self, since: float) -> None:
        """:param since: when the broker was asked, by the monotonic clock, and had nothing."""
        self._merged_until = self._mark = since
        self._since_mark = 0

    def connected(self) -> None:
        """The instance consumes."""
        self._lost_at = None
        self._mark, self._since_mark = self._clock.monotonic(), 0

    def disconnected(self) -> None:
        """What was in hand goes back to the queue."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self.handed_back = True

    def handed_back_told(self) -> None:
        """The other instances know it."""
        self.handed_back = False

    def ago(self) -> float | None:
        """Seconds since that moment; None if there was none yet."""
        now = self._clock.monotonic()
        if self._lost_at is not None and now - self._lost_at > self._held:
            return 0.0
        return None if self._merged_until is None else now - self._merged_until
