"""How the pages show times, durations and numbers, and which colour a state has. Pure functions of their arguments.

Times are in UTC, so that everybody sees the same, wherever they are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape

from ha_monitor.text.visible import visible

UNKNOWN = "\N{EN DASH}"
"""Shown for unknown values."""
_KINDS = {
    **{"SUCCESS": "good", "FAILURE": "bad", "REJECTED": "bad", "REVOKED": "warn", "RETRY": "warn", "STARTED": "busy"},
    **{"online": "good", "late": "warn", "lost": "bad", "offline": "quiet"},
    **{"new": "bad", "regressed": "bad", "resolved": "good", "ignored": "quiet"},
    **{"on time": "good", "missed": "bad", "failed": "bad", "doubled": "warn", "overran": "warn", "skipped": "warn"},
    **{"consuming": "good", "dead": "bad"},
}
_ENDS_OF_PARTS = re.compile(r"[^._@/-]*[._@/-]+|[^._@/-]+")
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_LATEST = 253_402_300_799.0
"""The last second that can be formatted as a date."""


def duration(seconds: float | None) -> str:
    """A duration in at most two units: `85 ms`, `2.1 s`, `4 min 11 s`, `3 h 5 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return "<1 ms" if 0 < seconds < 0.0005 else f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, smaller, small_unit in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {unit} {rest} {small_unit}" if rest else f"{whole // size:,} {unit}"
    return f"{whole} s"


def rough(seconds: float | None) -> str:
    """A duration in one unit, for narrow tables: `18 min`."""
    text = duration(seconds)
    parts = text.split(" ")
    return " ".join(parts[:2]) if len(parts) == 4 else text


def clock(seconds: float | None, now: float, *, milliseconds: bool = False) -> str:
    """A time close to `now`, or on the same day, as `03:12:07`; any other as `2026-11-25 03:12`."""
    if not seconds or not 0 < seconds < _LATEST:
        return UNKNOWN
    at, today = (datetime.fromtimestamp(one, UTC) for one in (seconds, now))
    if abs(seconds - now) < 43200 or at.date() == today.date():
        text = at.strftime("%H:%M:%S")
        return f"{text}.{at.microsecond // 1000:03}" if milliseconds else text
    return f"{at.year:04}{at.strftime('-%m-%d %H:%M')}"


def instant(seconds: float | None) -> str:
    """A time for programs, to the millisecond, in UTC."""
    if not seconds or not 0 < seconds < _LATEST:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(number: float | None) -> str:
    """A number of things, with thousands separators."""
    return UNKNOWN if number is None else f"{int(number):,}"


def rate(per_second: float | None) -> str:
    """A rate per second, with two or three digits."""
    if per_second is None:
        return UNKNOWN
    if per_second == 0 or per_second >= 100:
        return f"{per_second:,.0f}"
    return "<0.01" if per_second < 0.01 else f"{per_second:.{1 if per_second >= 10 else 2}f}"


def share(part: float, whole: float) -> str:
    """A part in percent of the whole; a small part never shows as 0, and an incomplete one never as 100."""
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    if part >= whole:
        return "100 %"
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %" if percent < 99.95 else ">99.9 %"


def plural(number: int, one: str, several: str = "") -> str:
    """`1 task`, `2 tasks`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def kind(state: str | None) -> str:
    """How to judge a state, as the name of a CSS class: good, bad, warn, busy, or quiet."""
    return _KINDS.get(str(state), "quiet")


class Lines(str):
    """A text of several lines, in which only newlines take effect."""

    __slots__ = ()


def lines(text: str | None) -> Lines:
    """A text in its original form, except for characters that a terminal would interpret, reorder or not show."""
    return Lines("\n".join(visible(line) for line in (text or "").splitlines()))


def harmless(value: object) -> object:
    """The displayed form of a value: without characters that a terminal would interpret; browsers run in some, too."""
    return visible(value) if type(value) is str else value


class Html(str):
    """A text that is already HTML: the texts in it have been escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def breaks(text: str | None) -> Html:
    """A name that may break after its dots and dashes: otherwise a narrow column would break it anywhere."""
    return Html("<wbr>".join(escape(part) for part in _ENDS_OF_PARTS.findall(visible(text or ""))))


FILTERS = {
    "duration": duration,
    "rough": rough,
    "instant": instant,
    "count": count,
    "rate": rate,
    "kind": kind,
    "lines": lines,
    "breaks": breaks,
}
"""By their names in the templates."""
