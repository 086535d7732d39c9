"""When a broker is asked, so that its answer, which comes behind all that it has sent, brings no more than fits."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.broker.buffered import MOST_AHEAD
from ha_monitor.broker.flow import Flow

PREFETCH = 100
LARGE = MOST_AHEAD // 10


class Seen(NamedTuple):
    """What a connection knows."""

    bytes_read: int = 0
    last_tag: int = 0
    kept: int = 0
    is_receiving: bool = False

    def bytes_kept(self) -> int:
        return self.kept


def test_small_messages_hold_no_question_up() -> None:
    """Given as many small messages as come at the highest rate, the broker is asked each time, also with as many kept
    as it delivers."""
    flow = Flow(PREFETCH)
    for second in range(1, 10):
        tag = 5_000 * second
        flow.acknowledged = tag - PREFETCH
        seen = Seen(tag * 10_000, tag, kept=PREFETCH * 10_000)
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
    assert flow.allows_question(Seen(100 * LARGE, tag, kept=MOST_AHEAD), True, tag)


def test_while_messages_are_kept_it_takes_longer_until_none_is_on_its_way() -> None:
    """Given large messages that are kept, and come seldom on a busy machine, nothing is asked before none has come for
    a while, and nothing at all once half of what may be kept is there and more may come.
    """
    flow = Flow(PREFETCH)
    few, many = Seen(2 * LARGE, 2, kept=2 * LARGE), Seen(6 * LARGE, 6, kept=6 * LARGE)
    assert not flow.allows_question(few, True, 0)
    asked = [flow.allows_question(few, True, 0) for _ in range(4)]
    assert asked == [False, False, True, True]
    assert not any(flow.allows_question(many, True, 0) for _ in range(10))
    assert not flow.allows_question(many._replace(is_receiving=True), True, 0)
