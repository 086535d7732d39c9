"""The five fields of a crontab, and when it is due, as Celery's `crontab` defines it.

It is not cron(8): a day must match both the day and the month fields, and Sunday is 0. Celery adds to wall-clock time:
what falls into the hour that a clock change skips is due an hour later, and the hour that occurs twice counts once.
This is separate code because the commands that read the configuration have no time to import Celery;
`tests/unit/test_timetables.py` compares it with Celery's answers.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = {
    **{name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))},
    **{
        name: number
        for number, name in enumerate(
            ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
        )
    },
}
_PART = re.compile(r"(?:(\*)|(\w{1,9})(?:-(\w{1,9}))?)(?:/(\d{1,4}))?", re.ASCII)
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MAX_CACHED = 64
"""Answers that are cached: each look asks for the same few again."""
_YEARS = 41
"""Years within which every crontab is due: 29 February on a given weekday comes once in 40 years at worst."""


class Cron:
    """The due times of a crontab in a time zone. Times are in seconds since the epoch."""

    is_absolute = True

    def __init__(self, text: str, zone: tzinfo) -> None:
        """
        :param text: minute, hour, day of the month, month and day of the week.
        :raises ValueError: if they are invalid; the text says which field is wrong, and what was expected.
        """
        fields = text.split()
        if len(fields) != len(FIELDS):
            raise ValueError(f"expected five fields: {', '.join(FIELDS)}")
        self.text = " ".join(fields)
        self._zone = zone
        self._minutes, self._hours, days, months, weekdays = (
            _numbers(field, *bounds, name) for field, bounds, name in zip(fields, _BOUNDS, FIELDS, strict=True)
        )
        self._days, self._months, self._weekdays = days, frozenset(months), frozenset(weekdays)
        if not any(day <= _LONGEST_MONTH[month - 1] for month in months for day in days):
            raise ValueError(f"day {fields[2]} does not occur in month {fields[3]}")
        self._known: dict[float, float | None] = {}

    def next_after(self, at: float) -> float | None:
        """The first due time after a time; None if there is none."""
        known = self._known
        if at not in known:
            # A new dictionary, because other threads may be reading the old one.
            known = {**(known if len(known) < _MAX_CACHED else {}), at: self._next_after(at)}
            self._known = known
        return known[at]

    def _next_after(self, at: float) -> float | None:
        after = datetime.fromtimestamp(at, self._zone)
        wall = after.replace(tzinfo=None, fold=0, second=0, microsecond=0)
        for day in self._dates(wall):
            begin = wall + timedelta(minutes=1) if day.date() == wall.date() else day
            if begin.date() != day.date():
                continue
            if (found := self._within(begin)) is not None:
                return found.replace(tzinfo=self._zone, fold=after.fold).timestamp()
        return None

    def unsure(self, due: float, /) -> float:
        """Seconds by which a run may be off because of a clock change about then, which versions of Celery handle
        differently.
        """
        before, after = (datetime.fromtimestamp(due + hours * 3600, self._zone).utcoffset() for hours in (-3, 3))
        return 0.0 if before == after or before is None or after is None else abs((after - before).total_seconds())

    def _dates(self, wall: datetime) -> Iterator[datetime]:
        """The days on which it is due, starting with the given one."""
        year, month, first = wall.year, wall.month, wall.day
        last = min(year + _YEARS, datetime.max.year - 1)
        while year <= last:
            if month in self._months:
                length = monthrange(year, month)[1]
                for number in self._days:
                    if first <= number <= length:
                        day = datetime(year, month, number)
                        if day.isoweekday() % 7 in self._weekdays:
                            yield day
            first = 1
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)

    def _within(self, begin: datetime) -> datetime | None:
        """The first due time on that day, at or after the given time."""
        for hour in self._hours:
            if hour >= begin.hour:
                for minute in self._minutes:
                    if hour > begin.hour or minute >= begin.minute:
                        return begin.replace(hour=hour, minute=minute)
        return None


def _numbers(field: str, least: int, most: int, name: str) -> tuple[int, ...]:
    """The numbers that a field stands for, in order."""
    found: set[int] = set()
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{name}: {_EXPECTED.format(least=least, most=most)}")
        star, first, second, step = match.groups()
        if step is not None and int(step) == 0:
            raise ValueError(f"{name}: a step is at least 1")
        begin = least if star else _number(first, least, most, name)
        if star:
            end = most
        elif second is not None:
            end = _number(second, least, most, name)
        else:
            if step is not None:
                raise ValueError(f"{name}: a step needs * or a range before it")
            end = begin
        numbers = [*range(begin, end + 1)] if begin <= end else [*range(begin, most + 1), *range(least, end + 1)]
        found.update(numbers[:: int(step or 1)])
    return tuple(sorted(found))


_EXPECTED = "expected numbers from {least} to {most}, ranges such as 1-5, and steps such as */5, with commas between"


def _number(text: str, least: int, most: int, name: str) -> int:
    number = int(text) if text.isdecimal() else _NAMES.get(text[:3], -1) if text.isalpha() else -1
    if not least <= number <= most:
        raise ValueError(f"{name}: {_EXPECTED.format(least=least, most=most)}")
    return number
