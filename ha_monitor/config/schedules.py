"""Schedules that no source defines, or that are to be judged differently; and where RedBeat keeps its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from ha_monitor.schedules.model import MAX_TEXT, Definition

ScheduleName = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z", title="a text of up to 200 characters, none a control character")
]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Duration = float | _Text
"""Seconds, or a text such as `10m`."""


class ScheduleSettings(Struct, forbid_unknown_fields=True, frozen=True):
    """One schedule. If the application defines it as well, only what is to be added."""

    task: _Text = ""
    cron: _Text | None = None
    """Five fields, such as `0 2 * * *`; an alternative to `every`."""
    every: _Duration | None = None
    timezone: _Text = ""
    """The time zone of `cron`, such as `Europe/Berlin`; empty for UTC."""
    grace: _Duration | None = None
    """How late a run may be; None for a tenth of the period, at least 30 s and at most 15 min."""
    must_end_within: _Duration | None = None
    """How long after its due time a run may end; None for no limit."""


class RedBeat(Struct, forbid_unknown_fields=True, frozen=True):
    """The Redis in which celery-redbeat keeps the schedule of beat. It is only read. See docs/schedules.md."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^\Z|^(redis|rediss|unix|sentinel)://",
            title="a URL of redis://, rediss://, unix:// or sentinel://",
            description="redbeat_redis_url of the application, if it uses celery-redbeat; empty for none",
        ),
    ] = ""
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[^\x00-\x1f\x7f]{0,100}\Z",
            title="a text of up to 100 characters, none a control character",
            description="redbeat_key_prefix of the application",
        ),
    ] = "redbeat:"


def definitions_of(schedules: Mapping[str, ScheduleSettings]) -> list[Definition]:
    """The definitions that valid settings stand for."""
    return [_definition(name, one) for name, one in schedules.items()]


def problem_in(schedules: Mapping[str, ScheduleSettings]) -> tuple[str, str] | None:
    """The name of a schedule with a problem, and a sentence about it; None if there is no problem."""
    for name, one in schedules.items():
        try:
            _definition(name, one)
        except ValueError as error:
            return name, str(error)
    return None


def _definition(name: str, one: ScheduleSettings) -> Definition:
    """:raises ValueError: if the settings are invalid."""
    # Calendars and time zones take a while to import, and most configurations have no schedule.
    from ha_monitor.schedules.toml import definition_of  # noqa: PLC0415

    return definition_of(
        name,
        task=one.task,
        cron=one.cron,
        every=one.every,
        timezone=one.timezone,
        grace=one.grace,
        must_end_within=one.must_end_within,
    )
