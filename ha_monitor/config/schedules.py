"""Schedules that nobody can be asked for, or that are to be judged otherwise; and where RedBeat keeps its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from ha_monitor.schedules.model import LONGEST_TEXT, Definition, Source
from ha_monitor.schedules.timetable import timetable_of

ScheduleName = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z", title="a text of up to 200 characters, none a control character")
]
_Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
_Seconds = Annotated[float, Meta(gt=0, le=86400 * 366)]


class ScheduleSettings(Struct, forbid_unknown_fields=True, frozen=True):
    """One schedule: `cron` or `every`."""

    task: Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT)]
    cron: _Text = ""
    """Five fields, such as `0 2 * * *`."""
    every: float | _Text = ""
    """Seconds, or a duration such as `10m`."""
    timezone: _Text = "UTC"
    """In which `cron` is meant, such as `Europe/Berlin`."""
    grace: _Seconds | None = None
    """Seconds that a run may be late; None for a tenth of the period, at least 30 and at most 900."""
    must_end_within: _Seconds | None = None
    """Seconds after its due time within which a run ends; None for as long as it takes."""
    enabled: bool = True

    @property
    def timetable(self) -> str:
        """As `schedules.timetable` reads it."""
        if self.cron:
            return self.cron
        return f"every {self.every}" if isinstance(self.every, str) else f"every {self.every:f}"


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
            title="a text of up to 100 characters",
            description="redbeat_key_prefix of the application",
        ),
    ] = "redbeat:"


def problem_in(schedules: Mapping[str, ScheduleSettings]) -> tuple[str, str] | None:
    """What is wrong with the schedules, if anything: the name of one, and a sentence."""
    for name, one in schedules.items():
        if bool(one.cron) == bool(one.every):
            return name, "expected either cron or every"
        try:
            timetable_of(one.timetable, one.timezone)
        except ValueError as error:
            return name, str(error)
    return None


def definitions_of(schedules: Mapping[str, ScheduleSettings]) -> list[Definition]:
    """The definitions of schedules with which nothing is wrong."""
    return [
        Definition(
            name=name,
            task=one.task,
            timetable=timetable_of(one.timetable, one.timezone).text,
            zone=one.timezone,
            source=Source.TOML,
            grace=one.grace,
            must_end_within=one.must_end_within,
            is_enabled=one.enabled,
        )
        for name, one in schedules.items()
    ]
