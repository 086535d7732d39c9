"""Since when a task waits in its queue, where a clock is wrong, as who checks the index reads it from the record."""

from __future__ import annotations

import msgspec
import pytest

from ha_monitor.store.kept import wrong_clocks_of
from ha_monitor.store.record import WrongClocks

pack = msgspec.msgpack.encode
SENT, RETRIED = 7_000_000, 9_000_000
"""In µs, as their senders said."""


@pytest.mark.parametrize(
    ("clocks", "retried", "since"),
    [
        ({}, 0, SENT),
        ({}, RETRIED, RETRIED),
        ({"cm": 5000}, 0, SENT),
        ({"cm": 5000}, RETRIED, 5_000_000),
        ({"cm": 5000, "ck": [[SENT]]}, 0, 5_000_000),
        ({"cm": 5000, "ck": [[SENT, -3000]]}, 0, SENT - 3_000_000),
        ({"cm": 5000, "ck": [[SENT, -3000]]}, RETRIED, 5_000_000),
        ({"cm": 5000, "ck": [[SENT + 1, -3000]]}, 0, SENT),
        ({"cm": "x"}, 0, SENT),
    ],
)
def test_a_task_waits_by_the_clock_that_is_right(clocks: dict[str, object], retried: int, since: int) -> None:
    """Given a record, its task waits since it was sent or retried if their clocks are right or it is known by how much
    one is wrong, else since its latest step by Redis's clock. What no script wrote says nothing."""
    raw = pack({"n": "shop.pay", "st": SENT, **clocks}) + pack("")

    assert wrong_clocks_of(raw).queued_at(SENT, retried) == since


def test_a_record_that_cannot_be_read_says_nothing_of_clocks() -> None:
    """Given bytes that are no record, nothing is said of clocks."""
    assert wrong_clocks_of(b"\xc1") == WrongClocks()
