"""Translates Celery's texts of schedules into the one form that `timetable` reads.

A worker answers `conf` with the `repr` of anything that is not a number. In the `repr` of a crontab, the order of the
fields differs before Celery 5.3 and in django-celery-beat; the legend in its brackets says which order it is.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from ha_monitor.schedules.model import MAX_TEXT
from ha_monitor.schedules.timetable import exact_duration
from ha_monitor.text.visible import visible

_MAX_REPR = 2000
_LEGEND = ("m", "h", "dM", "MY", "d")
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_FREQUENCIES = ("yearly", "monthly", "weekly", "daily", "hourly", "minutely", "secondly")
"""Frequencies of a rule of celery-redbeat, as `dateutil` numbers them."""
RULES_ARE_NOT_READ = "rrule is not supported: set its cron or every in [schedules]"
"""Short enough that a terminal of 80 columns shows what to do."""
_RANGE = re.compile(r"range\((\d{1,2}), (\d{1,2})(?:, (\d{1,2}))?\)", re.ASCII)
_ZONE_OBJECT = re.compile(
    r"(?:zoneinfo\.)?ZoneInfo\(key='([^']{1,60})'\)|<(?:DstTzInfo|StaticTzInfo) '([^' ]{1,60})[^>]*>"
)


class Translated(NamedTuple):
    """The translation of a text."""

    timetable: str
    zone: str | None = None
    """Its own time zone, if it has one."""
    problem: str = ""
    """Why it cannot be read: one sentence for people. The timetable is then the source's text, made visible."""


def translated(value: object) -> Translated:
    """Translate what a source reports: a number of seconds, the text of a timedelta, or that of a schedule."""
    if value is None or isinstance(value, bool):
        return _unreadable("", "it has no schedule")
    if isinstance(value, (int, float)):
        return _every(value)
    if not isinstance(value, str) or len(value) > _MAX_REPR:
        return _unreadable(value if isinstance(value, str) else type(value).__name__)
    # The text of django-celery-beat spans several lines.
    text = " ".join(value.split()).replace(" >", ">")
    for form, meaning in _FORMS:
        if match := form.fullmatch(text):
            return meaning(match)
    return _unreadable(text)


def zone_name(value: object) -> str | None:
    """The name of a time zone in a configuration, or of a time zone object there; None if it cannot be read."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        return None
    match = _ZONE_OBJECT.fullmatch(value)
    name = (match[1] or match[2]) if match else value
    return "UTC" if name in ("datetime.timezone.utc", "<UTC>") else name


def crontab_field(value: object) -> str | None:
    """One field as Celery stores it: a number, a text, or a list of numbers; None if it cannot be read."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _field(value)
    if isinstance(value, list) and 0 < len(value) <= 60 and all(type(number) is int for number in value):
        return ",".join(map(str, value))
    return None


def _crontab(match: re.Match[str]) -> Translated:
    fields_text, legend, zone = match.groups()
    names = legend.split("/")
    # One field may contain spaces: `[0, 30]`, `range(1, 8)`, `0, 30`.
    tokens = [_field(token) for token in _tokens(fields_text)]
    if sorted(names) != sorted(_LEGEND) or len(tokens) != len(names) or None in tokens:
        return _unreadable(match[0])
    fields = dict(zip(names, tokens, strict=True))
    return Translated(" ".join(str(fields[name]) for name in _LEGEND), zone_name(zone))


def _freq(match: re.Match[str]) -> Translated:
    return _every(float(match[1]) * _UNITS[match[2]])


def _freq_now(match: re.Match[str]) -> Translated:
    return _unreadable(match[0], "its period is less than a second, which Celery does not report")


def _timedelta(match: re.Match[str]) -> Translated:
    days, hours, minutes, seconds, fraction = match.groups()
    return _every(int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(fraction or 0))


def _solar(match: re.Match[str]) -> Translated:
    return Translated(f"{match[1]} at {match[2]}, {match[3]}")


def _clocked(match: re.Match[str]) -> Translated:
    return Translated(f"once {match[1].strip().replace(' ', 'T', 1)}")


def _rule(match: re.Match[str]) -> Translated:
    parts = (part.partition(": ") for part in re.split(r", (?=[a-z]{3,12}: )", match[2]))
    conditions = [
        f"{name} {value}" for name, _, value in parts if (name, value) != ("interval", "1") and value != "None"
    ]
    return _unreadable(", ".join([f"rrule {_FREQUENCIES[int(match[1])]}", *conditions]), RULES_ARE_NOT_READ)


_FORMS = (
    (re.compile(r"<crontab: (.{1,1500}) \(([A-Za-z/]{1,40})\)(?:, (.{1,60}))?>", re.ASCII), _crontab),
    (re.compile(r"<freq: (\d{1,12}(?:\.\d{1,6})?) (second|minute|hour|day)s?>", re.ASCII), _freq),
    (re.compile(r"<freq: now>"), _freq_now),
    (re.compile(r"(?:(\d{1,6}) days?, )?(\d{1,2}):(\d{2}):(\d{2})(\.\d{1,6})?", re.ASCII), _timedelta),
    (
        re.compile(r"<solar: ([a-z_]{1,20}) at latitude (-?[0-9.]{1,20}), longitude: (-?[0-9.]{1,20})>", re.ASCII),
        _solar,
    ),
    (re.compile(r"<clocked: ([0-9T:.+\- Z]{1,40})>", re.ASCII), _clocked),
    (re.compile(r"<rrule: freq: ([0-6]), (.{1,1500})>"), _rule),
)
"""The forms that Celery and its extensions write, and how each is translated."""


def _tokens(text: str) -> list[str]:
    """The text split at spaces that are neither in brackets nor after a comma."""
    found, depth, begin = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == " " and depth <= 0 and text[place - 1] != ",":
            found.append(text[begin:place])
            begin = place + 1
    return [*found, text[begin:]]


def _field(text: str) -> str | None:
    if numbers := _RANGE.fullmatch(text):
        found = [*range(int(numbers[1]), int(numbers[2]), max(1, int(numbers[3] or 1)))]
        return ",".join(map(str, found)) or None
    if text[:1] + text[-1:] in ("[]", "{}", "()"):
        text = text[1:-1].strip().rstrip(",")
    field = re.sub(r",\s+", ",", text)
    return field if field and " " not in field and len(field) <= MAX_TEXT else None


def _every(seconds: float) -> Translated:
    if not math.isfinite(seconds) or seconds <= 0:
        return _unreadable(seconds)
    return Translated(f"every {exact_duration(seconds)}")


def _unreadable(value: object, problem: str = "its schedule cannot be read") -> Translated:
    return Translated(visible(str(value))[:MAX_TEXT], problem=problem)
