"""The schedule of RedBeat, from what it keeps in Redis. None of that can be trusted.

`redbeat:<name>` is a hash of two JSON texts: `definition` and `meta`. `redbeat::schedule` is a sorted set of these keys
by due time, and `redbeat::lock` exists while a beat holds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from ha_monitor.schedules.confs import definition_of
from ha_monitor.schedules.model import MAX_SCHEDULES, MAX_TEXT, Definition, Source
from ha_monitor.schedules.texts import crontab_field

_MAX_LENGTH = 100_000
_TIMES = ("dtstart", "until")
_PARTS = (
    *("freq", *_TIMES, "interval", "count", "bysetpos", "bymonth", "bymonthday", "byyearday", "byeaster", "byweekno"),
    *("byweekday", "byhour", "byminute", "bysecond"),
)
"""The parts of an `rrule`, except the first day of the week."""
_MAX_SHOWN = 12
_LATEST = 1 << 33
_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def definitions_of(
    hashes: Mapping[str, Mapping[str, str]], zone: str, prefix: str = "redbeat:", app: str = ""
) -> list[Definition]:
    """The entries, ordered by name.

    :param hashes: by key.
    :param zone: the application's time zone, which RedBeat does not store; empty if it is not known.
    :param prefix: of the keys.
    """
    found = {}
    for key in sorted(hashes)[:MAX_SCHEDULES]:
        definition = _object(hashes[key].get("definition"))
        if not definition:
            continue
        own_name = definition.get("name")
        name = (own_name if isinstance(own_name, str) and own_name else key.removeprefix(prefix))[:MAX_TEXT]
        entry = {**definition, "schedule": _schedule(definition.get("schedule"))}
        found[name] = definition_of(name, entry, zone, Source.REDBEAT, app)
    return [found[name] for name in sorted(found)]


def _object(text: object) -> dict[str, object]:
    """A JSON object; empty if the text is not one."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _schedule(value: object) -> object:
    """A schedule of RedBeat in the form in which a worker would report it."""
    if not isinstance(value, dict):
        return value
    kind = value.get("__type__")
    if kind == "interval":
        return value.get("every")
    if kind == "crontab":
        fields = [crontab_field(value.get(name, "*")) for name in _FIELDS]
        if None not in fields:
            return f"<crontab: {' '.join(map(str, fields))} (m/h/dM/MY/d)>"
    if kind == "rrule":
        return f"<rrule: {', '.join(f'{name}: {_part_of_rule(name, value.get(name))}' for name in _PARTS)}>"
    return f"<{kind}>"[:MAX_TEXT]


def _part_of_rule(name: str, value: object) -> str:
    """One part of a rule, written as in its Python representation, for people."""
    if value is None:
        return "None"
    if name in _TIMES and type(value) is int and abs(value) < _LATEST:
        return datetime.fromtimestamp(value, UTC).isoformat()
    parts = value if isinstance(value, list) else [value]
    numbers = [one.get("wkday") if isinstance(one, dict) else one for one in parts[:_MAX_SHOWN]]
    if not all(type(number) is int and abs(number) < _LATEST for number in numbers):
        return "…"
    return ",".join(map(str, numbers)) + ("…" if len(parts) > _MAX_SHOWN else "")
