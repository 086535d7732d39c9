"""Times and durations as people write and read them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_monitor.text.times import duration, local, parse_duration, parse_time, relative, short_duration

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


NOW = at("2026-11-25 01:30:00")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("3d", 259200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("7", 7),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    """Given a duration as people write it, it is so many seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 m", "-5m", "5x", "1h-3m", "m5", "٣s", "9" * 40, "999999999999d", "nan"])
def test_what_is_no_duration(text: str) -> None:
    """Given something else, the error says what was expected."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", "2026-11-25 01:30:00"),
        ("-1h", "2026-11-25 00:30:00"),
        ("-1h30m", "2026-11-25 00:00:00"),
        ("01:00", "2026-11-25 01:00:00"),
        # Who asks at half past one for two o'clock means the one that was.
        ("02:00", "2026-11-24 02:00:00"),
        ("23:59:30", "2026-11-24 23:59:30"),
        ("2026-11-25", "2026-11-25 00:00:00"),
        ("2026-11-25 02:00", "2026-11-25 02:00:00"),
        ("2026-11-25T02:00:05.5", "2026-11-25 02:00:05.5"),
        ("2026-11-25T01:00:00Z", "2026-11-25 02:00:00"),
        ("2026-11-25T01:00:00+00:00", "2026-11-25 02:00:00"),
    ],
)
def test_a_time(text: str, time: str) -> None:
    """Given a time as people write it, it is the one that they mean, by the clock on the wall."""
    assert parse_time(text, NOW, BERLIN) == at(time)


@pytest.mark.parametrize(
    "text", ["", "-", "1h", "25:00", "02:60", "yesterdayish", "2026-13-01", "9999-99-99", "0001-01-01", "-x"]
)
def test_what_is_no_time(text: str) -> None:
    """Given something else, the error says what was expected."""
    with pytest.raises(ValueError, match="expected a time"):
        parse_time(text, NOW)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "1900-01-01", "9999-12-31T23:59:59Z", "2127-01-01"])
def test_a_time_that_is_far_away(text: str) -> None:
    """Given a time at the end of the calendar, of which no day before or after could be shown, the error says so."""
    with pytest.raises(ValueError, match=r"^expected a time within 100 years$"):
        parse_time(text, NOW)


def test_a_time_of_a_night_with_two_of_them() -> None:
    """Given the night in which clocks are put back, a time of day is found, and is not in the future."""
    now = at("2026-10-25 02:45:00")

    assert parse_time("02:30", now, BERLIN) <= now


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_sentence(text: str) -> None:
    """Given any text at all, it is a time, or an error that says what was expected."""
    for parse in (parse_duration, lambda text: parse_time(text, NOW)):
        try:
            assert isinstance(parse(text), float)
        except ValueError as error:
            assert str(error).startswith("expected a ")


def test_how_times_are_shown() -> None:
    """Given a time, it is shown as how long ago it was, or by the clock on the wall."""
    assert relative(NOW - 192, NOW) == "3m12s ago"
    assert relative(NOW + 3700, NOW) == "in 1h1m"
    assert local(NOW, BERLIN) == "2026-11-25 01:30:00.000"
    assert [duration(7), duration(59), duration(3 * 86400)] == ["7.0s", "59s", "3d0h"]
    assert [short_duration(0.0123), short_duration(0.25), short_duration(0), short_duration(2)] == [
        "12.3ms",
        "250ms",
        "0.0s",
        "2.0s",
    ]
