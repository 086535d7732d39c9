"""When a broker is asked, so that its answer, which comes behind all that it has sent, brings no more than fits."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.broker.buffered import MAX_READ_AHEAD
from ha_monitor.broker.flow import Flow

PREFETCH = 100
LARGE = MAX_READ_AHEAD // 10


class Seen(NamedTuple):
    """What a connection knows."""

    bytes_read: int = 0
    last_tag: int = 0
    kept: int = 0
    is_receiving: bool = False
    messages: int = 1
    """That are kept."""

    def bytes_kept(self) -> int:
        return self.kept

    def messages_kept(self) -> int:
        return self.messages


def test_small_messages_hold_no_question_up() -> None:
    """Given as many small messages as come at the highest rate, the broker is asked each time, also with as many kept
    as it delivers."""
    flow = Flow(PREFETCH)
    for second in range(1, 10):
        tag = 5_000 * second
        flow.acknowledged = tag - PREFETCH
        seen = Seen(tag * 10_000, tag, kept=PREFETCH * 10_000, messages=PREFETCH)
        assert flow.allows_question(seen, True, tag - PREFETCH)


def test_nothing_is_asked_while_large_messages_flow() -> None:
    """Given messages of which a few fill what may be kept, nothing is asked while they come, or while what has arrived
    is left in the socket; once they are all received and not acknowledged, nothing more can come, and after a second
    without any nothing is on its way.
    """
    flow = Flow(PREFETCH)
    assert flow.allows_question(Seen(), True, 0)
    assert not flow.allows_question(Seen(5 * LARGE, 5, kept=5 * LARGE), True, 0)
    assert not flow.allows_question(Seen(5 * LARGE, 5, kept=5 * LARGE), False, 0)
    flow.acknowledged = 5
    assert not flow.allows_question(Seen(6 * LARGE, 6), True, 6)
    assert not flow.allows_question(Seen(6 * LARGE + 100, 0, is_receiving=True), True, 6)
    assert flow.allows_question(Seen(6 * LARGE + 100), True, 6)
    tag = flow.acknowledged + PREFETCH
    assert flow.allows_question(Seen(100 * LARGE, tag, kept=MAX_READ_AHEAD), True, tag)


def test_as_long_as_large_messages_are_kept_others_may_come() -> None:
    """Given large messages that are kept, and a broker that pauses, as on a busy machine, nothing is asked, however
    long; small ones that are kept let a question pass, once all of a few large ones that came before are taken.
    """
    flow = Flow(PREFETCH)
    kept = Seen(2 * LARGE, 2, kept=2 * LARGE, messages=2)
    assert not any(flow.allows_question(kept, True, 0) for _ in range(10))
    assert not flow.allows_question(kept._replace(is_receiving=True), True, 0)
    flow.acknowledged = 2
    small = Seen(2 * LARGE + 5_000, 7, kept=5_000, messages=5)
    assert flow.allows_question(small, True, 2)
    assert flow.allows_question(small, True, 2)


def test_small_messages_that_flow_do_not_hide_large_ones_that_are_kept() -> None:
    """Given some large messages, and then many small ones, nothing is asked while the large ones are kept."""
    flow = Flow(PREFETCH)
    flow.allows_question(Seen(3 * LARGE, 3, kept=3 * LARGE, messages=3), True, 0)
    assert not flow.allows_question(Seen(3 * LARGE + 2_000, 5, kept=3 * LARGE + 2_000, messages=5), True, 0)
