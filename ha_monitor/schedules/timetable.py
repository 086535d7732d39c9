"""When a schedule is due, from the one textual form into which every source is translated.

| text | due |
|---|---|
| `0 2 * * *` | as Celery's crontab, in the zone of the definition |
| `every 10m` | this long after its last run |
| `sunset at 48.1, 11.6` | at that event of the sun, for latitude and longitude |
| `once 2026-11-28T02:00:00+00:00` | once, at that time |
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from ha_monitor.schedules.cron import Cron
from ha_monitor.schedules.model import MAX_SCHEDULES, MAX_TEXT
from ha_monitor.schedules.solar import EXPECTED_PLACE, Solar
from ha_monitor.text.times import parse_duration

MIN_PERIOD = 0.1
"""Seconds: no beat sends one entry more often."""
MAX_PERIOD = 366 * 86400.0
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]{0,31}(?:/[A-Za-z0-9_+\-]{1,31}){0,2}", re.ASCII)
_SUN = re.compile(r"([a-z_]{1,20}) at (-?[0-9.]{1,20}), ?(-?[0-9.]{1,20})", re.ASCII)
EXPECTED_ZONE = "expected the name of a time zone such as Europe/Berlin or UTC"
EXPECTED_TIMETABLE = "expected a crontab of five fields, or 'every 10m'"


class Timetable(Protocol):
    """When a schedule is due. Times are in seconds since the epoch."""

    text: str
    """In the form that `timetable_of` reads."""
    is_absolute: bool
    """Whether it is due by the clock; otherwise a period after its last run."""

    def next_after(self, at: float) -> float | None:
        """The first due time after a time, or after the last run; None if there is none."""

    def unsure(self, due: float, /) -> float:
        """Seconds by which the run of a due time may be off, because versions of Celery differ; usually 0."""


class Every:
    """Due a period after its last run."""

    is_absolute = False

    def __init__(self, period: float) -> None:
        """
        :param period: in seconds.
        :raises ValueError: if it is out of bounds; the text says what was expected.
        """
        if not MIN_PERIOD <= period <= MAX_PERIOD:
            raise ValueError("expected a period from 0.1s to 366d")
        self.period = period
        self.text = f"every {exact_duration(period)}"

    def next_after(self, at: float) -> float | None:
        return at + self.period

    def unsure(self, _due: float, /) -> float:
        return 0.0


class Once:
    """Due once."""

    is_absolute = True

    def __init__(self, time: datetime) -> None:
        """:param time: with its time zone."""
        self._at = time.timestamp()
        self.text = f"once {time.astimezone(UTC).isoformat()}"

    def next_after(self, at: float) -> float | None:
        return self._at if at < self._at else None

    def unsure(self, _due: float, /) -> float:
        return 0.0


@lru_cache(2 * MAX_SCHEDULES)
def timetable_of(text: str, zone: str) -> Timetable:
    """The timetable that a text stands for.

    :param zone: the IANA name of its time zone; not needed for a period.
    :raises ValueError: if it cannot be read; the text says what was expected.
    """
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise ValueError(f"expected at most {MAX_TEXT} characters")
    kind, _, rest = text.partition(" ")
    if kind == "every":
        return Every(parse_duration(rest.strip()))
    if kind == "once":
        return Once(_once(rest.strip(), zone))
    if sun := _SUN.fullmatch(text):
        try:
            place = float(sun[2]), float(sun[3])
        except ValueError:
            raise ValueError(EXPECTED_PLACE) from None
        return Solar(sun[1], *place)
    if not text:
        raise ValueError(EXPECTED_TIMETABLE)
    return Cron(text, zone_of(zone))


def zone_of(name: str) -> tzinfo:
    """The time zone with that name.

    :raises ValueError: if there is none; the text says what was expected.
    """
    if not name:
        raise ValueError("its time zone is not known")
    if name.upper() in ("UTC", "ETC/UTC", "GMT", "Z"):
        return UTC
    # `zoneinfo` uses the name as a path, and it comes from an application.
    if not _ZONE.fullmatch(name):
        raise ValueError(EXPECTED_ZONE)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(EXPECTED_ZONE) from None


def exact_duration(seconds: float) -> str:
    """A duration that parses back to the same value: `90s`, `10m`, `2h`, `1d`, `2.5s`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{round(seconds, 6):f}".rstrip("0").rstrip(".") + "s"


def _once(text: str, zone: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is not None else time.replace(tzinfo=zone_of(zone))
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-11-28T02:00:00Z after 'once'") from None
