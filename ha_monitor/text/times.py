"""Times and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)", re.ASCII)
_PLAIN = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_MAX_DURATION = 36500 * 86400.0
EXPECTED_DURATION = "expected a duration such as 90s, 5m, 2h, 3d or 1h30m"
EXPECTED_TIME = "expected a time such as -1h, 02:00, 2026-11-25, '2026-11-25 02:00', 2026-11-25T02:00:00Z or now"


def parse_duration(text: str) -> float:
    """Seconds, from a text such as `90s`, `5m`, `2h`, `3d`, `1h30m`, `1.5h`, `250ms`; a plain number is in seconds.

    :raises ValueError: if it is not a duration; the error says what was expected.
    """
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(EXPECTED_DURATION)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _MAX_DURATION:
        raise ValueError("expected a duration of at most 100 years")
    return seconds


def parse_time(text: str, now: float, zone: tzinfo | None = None) -> float:
    """Seconds since the epoch, from a text: `-1h` is an hour ago, `02:00` is the last two o'clock; a time without a
    zone is local.

    :param zone: the local time zone; None for that of the process.
    :raises ValueError: if it is not a time; the error says what was expected.
    """
    try:
        found = _time(text.strip(), now, zone)
    except (ValueError, OverflowError, OSError):
        raise ValueError(EXPECTED_TIME) from None
    # A day earlier or later must be a valid time, too, in any zone.
    if abs(found - now) > _MAX_DURATION:
        raise ValueError("expected a time within 100 years")
    return found


def _time(text: str, now: float, zone: tzinfo | None) -> float:
    if text == "now":
        return now
    if text.startswith("-"):
        return now - parse_duration(text[1:])
    today = datetime.fromtimestamp(now, zone)
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        found = _local(today.replace(tzinfo=None, hour=hour, minute=minute, second=second, microsecond=0), zone)
        if found <= now:
            return found
        yesterday = today.replace(tzinfo=None) - timedelta(days=1)
        return _local(yesterday.replace(hour=hour, minute=minute, second=second, microsecond=0), zone)
    if not text.startswith(tuple("0123456789")):
        raise ValueError
    parsed = datetime.fromisoformat(text)
    return parsed.timestamp() if parsed.tzinfo else _local(parsed, zone)


def _local(time: datetime, zone: tzinfo | None) -> float:
    # Python, too, takes a time without a zone to be in the zone of the process.
    return (time if zone is None else time.replace(tzinfo=zone)).timestamp()


def duration(seconds: float) -> str:
    """A duration in its two largest units, such as `3h12m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{small_unit}"
    return f"{whole}s"


def short_duration(seconds: float) -> str:
    """The same, but less than a second is shown in milliseconds."""
    if seconds >= 1 or seconds == 0:
        return duration(seconds)
    return "<0.1ms" if seconds < 0.0001 else f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f}ms"


def relative(seconds: float, now: float) -> str:
    """How long ago a time was, or in how long it will be."""
    since = now - seconds
    return f"{duration(since)} ago" if since >= 0 else f"in {duration(-since)}"


def local(seconds: float, zone: tzinfo | None = None) -> str:
    """A time in local time, to the millisecond."""
    return datetime.fromtimestamp(seconds, zone).isoformat(" ", timespec="milliseconds")[:23]
