"""What is due when: held to what Celery itself answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ha_monitor.schedules.timetable import exact_duration, timetable_of

ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"),
    *("Africa/Casablanca", "Pacific/Apia", "America/St_Johns"),
)
"""With clock changes of an hour, of half an hour, at midnight, before and after 2011, and none."""


def celerys_next(text: str, zone: str, at: float) -> float:
    """What Celery answers to a beat that ran the entry at that time."""
    now = datetime.fromtimestamp(at, ZoneInfo(zone))
    minute, hour, day, month, weekday = text.split()
    application = SimpleNamespace(timezone=ZoneInfo(zone), conf=SimpleNamespace(enable_utc=True))
    schedule = crontab(minute, hour, weekday, day, month, app=application, nowfun=lambda: now)
    return at + schedule.remaining_estimate(now).total_seconds()


def local(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def due_from(text: str, zone: str, since: str, count: int) -> list[str]:
    """The first due times after a time, by the clock on the wall, with the offset of the zone."""
    timetable, at, found = timetable_of(text, zone), local(since, zone), []
    for _ in range(count):
        following = timetable.next_after(at)
        assert following is not None
        at = following
        found.append(datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat())
    return found


def fields(least: int, most: int) -> st.SearchStrategy[str]:
    """Texts of one field, as Celery takes them."""
    number = st.integers(least, most)
    ranges = st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.tuples(st.just("*") | ranges, st.integers(1, most + 2)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    parts = st.lists(number.map(str) | ranges | steps, min_size=1, max_size=3).map(",".join)
    return st.just("*") | parts


CRONTABS = st.tuples(
    *(fields(0, 59), fields(0, 23), st.just("*") | fields(1, 31), st.just("*") | fields(1, 12)),
    st.just("*") | fields(0, 6) | st.sampled_from(["mon-fri", "sun", "sat,Sunday"]),
).map(" ".join)
NEAR_CHANGES = [
    local(day, zone) + hours * 3600
    for zone, day in (
        *(("Europe/Berlin", "2026-03-29 00:00"), ("Europe/Berlin", "2026-10-25 00:00")),
        *(("America/New_York", "2027-03-14 00:00"), ("America/New_York", "2026-11-01 00:00")),
        *(("Australia/Lord_Howe", "2026-04-05 00:00"), ("Australia/Lord_Howe", "2026-10-04 00:00")),
        *(("America/Santiago", "2026-09-05 20:00"), ("America/Santiago", "2026-04-04 20:00")),
        *(("UTC", "2028-02-28 00:00"), ("UTC", "2026-12-31 12:00")),
    )
    for hours in range(8)
]
TIMES = st.one_of(
    st.floats(1.6e9, 2.1e9),
    st.tuples(st.sampled_from(NEAR_CHANGES), st.floats(0, 3600)).map(sum),
)


@pytest.mark.thorough
@settings(max_examples=200)
@given(CRONTABS, st.sampled_from(ZONES), TIMES)
def test_a_crontab_is_due_when_celery_says(text: str, zone: str, at: float) -> None:
    """Given any crontab that Celery takes, zone and time, also about changes of the clock, at the ends of months and in
    leap years, when it is asked what is due next, three times on, then that is Celery's own answer. But for a beat that
    is started in the hour that comes twice, the second time: Celery takes that for the first.
    """
    assume(not datetime.fromtimestamp(at, ZoneInfo(zone)).fold)
    try:
        celerys_next(text, zone, at)
    except ValueError:
        with pytest.raises(ValueError, match="does not occur"):
            timetable_of(text, zone)
        return
    timetable = timetable_of(text, zone)
    for _ in range(3):
        due = timetable.next_after(at)

        assert due == pytest.approx(celerys_next(text, zone, at), abs=1e-3)
        assert due is not None
        at = due


def test_what_the_clock_leaves_out_is_due_an_hour_later() -> None:
    """Given the night in which half past two does not exist, then half past three stands for it, once."""
    assert due_from("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == [
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_the_hour_that_comes_twice_counts_once() -> None:
    """Given the night in which two o'clock comes twice, then the first one counts, for a quarter of an hour as well."""
    assert due_from("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    assert due_from("*/30 * * * *", "Europe/Berlin", "2026-10-25 01:45", 3) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T03:00:00+01:00",
    ]


def test_a_leap_day_that_is_a_monday_is_found() -> None:
    """Given 29 February on Mondays only, then the next one is found, 28 years on."""
    assert due_from("0 0 29 2 mon", "UTC", "2024-02-29 12:00", 2) == [
        "2044-02-29T00:00:00+00:00",
        "2072-02-29T00:00:00+00:00",
    ]


def test_days_must_be_in_both_fields() -> None:
    """Given a day of the month and a day of the week, then only days that are both are due, unlike in cron(8)."""
    assert due_from("0 0 13 * fri", "UTC", "2026-01-01 00:00", 2) == [
        "2026-02-13T00:00:00+00:00",
        "2026-03-13T00:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("zone", "due", "seconds"),
    [
        ("Europe/Berlin", "2026-03-29 03:30", 3600),
        ("Europe/Berlin", "2026-03-29 06:30", 0),
        ("Europe/Berlin", "2026-10-25 02:30", 3600),
        ("Australia/Lord_Howe", "2026-04-05 02:15", 1800),
        ("UTC", "2026-03-29 02:30", 0),
    ],
)
def test_the_night_of_a_clock_change_is_not_certain(zone: str, due: str, seconds: float) -> None:
    """Given that versions of Celery differ about that night, then it is said by how much a run may be off."""
    assert timetable_of("30 2 * * *", zone).unsure(local(due, zone)) == seconds


def test_a_period_counts_from_the_last_run() -> None:
    """Given a period, then it is due so long after the last run, whenever that was."""
    every = timetable_of("every 1h30m", "")

    assert every.next_after(1000.25) == 1000.25 + 5400
    assert (every.text, every.is_absolute) == ("every 90m", False)


def test_what_is_due_once_is_due_once() -> None:
    """Given a time, then it is due then, and never after it; without a zone of its own it is meant in that of the
    definition."""
    once = timetable_of("once 2026-11-28T02:00:00", "Asia/Tokyo")
    at = datetime(2026, 11, 27, 17, tzinfo=UTC).timestamp()

    assert once.next_after(at - 1) == at
    assert once.next_after(at) is None
    assert once.text == "once 2026-11-27T17:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("", "UTC", "expected a crontab of five fields"),
        ("* * * *", "UTC", "expected five fields: minute, hour"),
        ("60 * * * *", "UTC", "minute: expected numbers from 0 to 59"),
        ("* * * * 7", "UTC", "day of the week: expected numbers from 0 to 6"),
        ("*/0 * * * *", "UTC", "a step is at least 1"),
        ("5/2 * * * *", "UTC", "a step needs"),
        ("0 0 30 2 *", "UTC", "day 30 does not occur in month 2"),
        ("0 0 * foo *", "UTC", "month: expected numbers"),
        ("1,,2 * * * *", "UTC", "minute: expected"),
        ("-1 * * * *", "UTC", "minute: expected"),
        ("0 " * 300, "UTC", "at most 200 characters"),
        ("٣ * * * *", "UTC", "minute: expected"),
        ("0 2 * * *", "", "its time zone is not known"),
        ("0 2 * * *", "../../etc/passwd", "expected the name of a time zone"),
        ("0 2 * * *", "Europe/Nowhere", "expected the name of a time zone"),
        ("0 2 * * *", "Europe", "expected the name of a time zone"),
        ("every 0s", "", "from 0.1s to 366d"),
        ("every 999d", "", "from 0.1s to 366d"),
        ("every now and then", "", "expected a duration"),
        ("once upon a time", "", "expected a time such as"),
        ("moonrise at 1, 2", "UTC", "expected an event of the sun"),
        ("sunset at 91, 2", "UTC", "expected a latitude"),
        ("sunset at ..., 2", "UTC", "expected a latitude"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, zone: str, expected: str) -> None:
    """Given a text or a zone that means nothing, then what is wrong with it is said, and nothing else happens."""
    with pytest.raises(ValueError, match=expected):
        timetable_of(text, zone)


@given(st.integers(1, 10_000_000).map(lambda number: number / 10))
def test_a_period_reads_back(seconds: float) -> None:
    """Given any period, then its text reads back as the same one."""
    every = timetable_of(f"every {exact_duration(seconds)}", "")

    assert every.next_after(0.0) == pytest.approx(seconds)


def test_an_event_of_the_sun_is_found() -> None:
    """Given the library for it, then sunset is a day later, but for minutes; without it that is said."""
    try:
        sunset = timetable_of("sunset at 52.5, 13.4", "Europe/Berlin")
    except ValueError as error:
        assert str(error) == "schedules by the sun need the Python package ephem"
        return
    first = sunset.next_after(local("2026-06-21 12:00"))
    assert first is not None
    second = sunset.next_after(first + 1)
    assert second is not None
    assert datetime.fromtimestamp(first, ZoneInfo("Europe/Berlin")).hour == 21
    assert abs(timedelta(seconds=second - first) - timedelta(days=1)) < timedelta(minutes=2)
