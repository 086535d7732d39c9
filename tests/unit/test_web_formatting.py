"""What the pages show of times, numbers and foreign texts."""

from __future__ import annotations

import pytest

from ha_monitor.web.formatting import UNKNOWN, breaks, clock, duration, harmless, instant, lines, rate, rough, share

NOW = 1_795_586_043.5


@pytest.mark.parametrize(
    ("seconds", "shown", "one_unit"),
    [
        (None, UNKNOWN, UNKNOWN),
        (0, "0 ms", "0 ms"),
        (0.0001, "<1 ms", "<1 ms"),
        (0.085, "85 ms", "85 ms"),
        (0.9996, "1.0 s", "1.0 s"),
        (2.14, "2.1 s", "2.1 s"),
        (59.9, "59 s", "59 s"),
        (251, "4 min 11 s", "4 min"),
        (1080, "18 min", "18 min"),
        (11100, "3 h 5 min", "3 h"),
        (86400 * 1500, "1,500 d", "1,500 d"),
        (-3, "-3.0 s", "-3.0 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, shown: str, one_unit: str) -> None:
    """Given any duration, it is told in two units at most, or in one."""
    assert (duration(seconds), rough(seconds)) == (shown, one_unit)


def test_times_are_in_utc_and_bounded() -> None:
    """Given a time, that of today has no date, and one that no calendar has is not known."""
    assert clock(NOW - 60, NOW) == "05:53:03"
    assert clock(NOW - 60, NOW, milliseconds=True) == "05:53:03.500"
    assert clock(NOW - 3 * 86400, NOW) == "2026-11-22 05:54"
    assert [clock(one, NOW) for one in (None, 0, -1, 1e15, float("nan"))] == [UNKNOWN] * 5
    assert instant(NOW) == "2026-11-25T05:54:03.500Z"
    assert [instant(one) for one in (None, 0, 1e15)] == [""] * 3


def test_shares_and_rates_do_not_hide_what_is_little() -> None:
    """Given one failure in many runs, it is not nothing; given all but one, it is not all."""
    assert [share(0, 0), share(0, 5), share(1, 10_000), share(1, 30), share(9999, 10_000), share(5, 5)] == [
        *(UNKNOWN, "0.0 %", "<0.1 %", "3.3 %", ">99.9 %", "100 %")
    ]
    assert [rate(one) for one in (None, 0, 0.001, 0.213, 41.3, 12_340.2)] == [
        UNKNOWN,
        "0",
        "<0.01",
        "0.21",
        "41.3",
        "12,340",
    ]


def test_nothing_commands_a_terminal() -> None:
    """Given control characters and marks for the direction of writing, they are written out, in tracebacks, too."""
    assert harmless("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"
    assert lines("Traceback\n  a\x1b\r\nb\x9b") == "Traceback\n  a\\x1b\nb\\x9b"
    assert harmless(lines("a\nb")) == "a\nb"
    assert str(breaks("shop.<b>_a\x1b")) == "shop.<wbr>&lt;b&gt;_<wbr>a\\x1b"
