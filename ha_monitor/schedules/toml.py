"""Schedules in the configuration of this program, read and written.

    [schedules."nightly report"]
    task = "shop.tasks.report"
    cron = "0 2 * * *"
    timezone = "Europe/Berlin"
    grace = "10m"
    must_end_within = "2h"

A schedule that the application defines as well needs only what is added to it, such as `must_end_within`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ha_monitor.schedules.learned import Learned
from ha_monitor.schedules.model import MAX_TEXT, Definition, Source
from ha_monitor.schedules.timetable import Every, exact_duration, timetable_of, zone_of
from ha_monitor.text.times import parse_duration
from ha_monitor.text.visible import visible

T = TypeVar("T")
_DAY = 86400.0
_BARE = {"\\": "\\\\", '"': '\\"'}


def definition_of(
    name: str,
    *,
    task: str = "",
    cron: str | None = None,
    every: float | str | None = None,
    timezone: str = "",
    grace: float | str | None = None,
    must_end_within: float | str | None = None,
) -> Definition:
    """The definition that a table of the configuration stands for.

    :param every: a duration such as `10m`, or seconds; so are `grace` and `must_end_within`.
    :raises ValueError: if something is wrong; the text begins with the key, and says what was expected.
    """
    for key, text in (("name", name), ("task", task)):
        if len(text) > MAX_TEXT:
            raise ValueError(f"{key}: expected at most {MAX_TEXT} characters")
    if cron is not None and every is not None:
        raise ValueError("cron: expected either cron or every, not both")
    if (cron is not None or every is not None) and not task:
        raise ValueError("task: expected the name of the task that is to run")
    if timezone:
        _checked("timezone", lambda: zone_of(timezone))
    timetable = ""
    if every is not None:
        period = _seconds("every", every)
        timetable = _checked("every", lambda: Every(period)).text
    elif cron is not None:
        # Without a zone, a crontab is in UTC, as in Celery.
        timetable = _checked("cron", lambda: timetable_of(cron, timezone or "UTC")).text
    return Definition(
        name=name,
        task=task,
        timetable=timetable,
        zone=timezone or ("UTC" if timetable else ""),
        source=Source.TOML,
        grace=None if grace is None else _seconds("grace", grace, 30 * _DAY),
        must_end_within=None if must_end_within is None else _seconds("must_end_within", must_end_within),
    )


def written(definitions: Iterable[Definition]) -> str:
    """The definitions as tables of the configuration, for editing. What cannot be expressed there becomes a comment."""
    return "\n".join("\n".join(_table(one)) + "\n" for one in definitions)


def proposed(found: Iterable[Learned]) -> str:
    """Tasks that run regularly, as tables of the configuration, for somebody to confirm."""
    tables = (
        f"[schedules.{_quoted(one.task)}]  # {one.basis}\n"
        f"task = {_quoted(one.task)}\n"
        f"every = {_quoted(exact_duration(one.period))}\n"
        for one in found
    )
    return "\n".join(tables)


def _table(one: Definition) -> Iterator[str]:
    # Being in the configuration confirms a learned schedule; it then has the default grace.
    is_learned = one.source is Source.LEARNED
    basis = f": {one.basis}. Confirm it by keeping it here" if is_learned else ""
    yield f"[schedules.{_quoted(one.name)}]  # {one.source}{basis}"
    if one.task:
        yield f"task = {_quoted(one.task)}"
    kind, _, rest = one.timetable.partition(" ")
    if one.problem:
        yield f"# {visible(one.timetable)}: {visible(one.problem)}"
    elif kind == "every":
        yield f"every = {_quoted(rest)}"
    elif len(one.timetable.split()) == 5:
        yield f"cron = {_quoted(one.timetable)}"
        yield f"timezone = {_quoted(one.zone)}"
    elif one.timetable:
        yield f"# {visible(one.timetable)}: can be defined only in the application"
    for key, seconds in (("grace", None if is_learned else one.grace), ("must_end_within", one.must_end_within)):
        if seconds is not None:
            yield f"{key} = {_quoted(exact_duration(seconds))}"
    if one.differs:
        yield f"# {visible(one.differs)}"


def _quoted(text: str) -> str:
    """A TOML string in visible characters."""
    return '"' + "".join(map(_written, text)) + '"'


def _written(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"  # a lone surrogate, which TOML cannot express
    if character.isascii() and character.isprintable():
        return _BARE.get(character, character)
    if visible(character) == character:
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _seconds(key: str, value: float | str, limit: float = 366 * _DAY) -> float:
    seconds = _checked(key, lambda: parse_duration(value)) if isinstance(value, str) else float(value)
    if not 0 < seconds <= limit:
        raise ValueError(f"{key}: expected a duration above 0 and up to {exact_duration(limit)}")
    return seconds


def _checked(key: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
