"""The schedule of beat, from the workers' answers to `conf`. Nothing in an answer can be trusted.

Beat reads its schedule from the configuration of the application, which the workers have as well. Celery answers with
the setting names that the application used: `beat_schedule`, `CELERY_BEAT_SCHEDULE`, or `CELERYBEAT_SCHEDULE` as before
Celery 4. Secrets are masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from ha_monitor.schedules.arguments import arguments_of
from ha_monitor.schedules.model import MAX_SCHEDULES, MAX_TEXT, Definition, Source
from ha_monitor.schedules.texts import translated, zone_name
from ha_monitor.schedules.timetable import timetable_of

_MAX_SETTINGS = 5000
_SUFFIX = "beat_schedule"


def definitions_of(answers: Mapping[str, object], app: str = "") -> list[Definition]:
    """The entries of one application, ordered by name.

    Workers that know no schedule at all are ignored. Where the others differ, for example during a deployment, the
    majority's entry is shown, and no run of it is reported as missed.

    :param answers: to `conf`, by nodename.
    """
    by_worker = {worker: found for worker, answer in answers.items() if (found := definitions_in(answer, app))}
    names = sorted({name for found in by_worker.values() for name in found})
    return [_agreed([found.get(name) for found in by_worker.values()]) for name in names[:MAX_SCHEDULES]]


def definitions_in(answer: object, app: str = "") -> dict[str, Definition]:
    """The entries in the answer of one worker, by name; the first `MAX_SCHEDULES`."""
    if not isinstance(answer, dict) or len(answer) > _MAX_SETTINGS:
        return {}
    settings = {key.lower(): value for key, value in answer.items() if isinstance(key, str)}
    key = next((key for key, value in settings.items() if key.endswith(_SUFFIX) and isinstance(value, dict)), None)
    if key is None:
        return {}
    prefix = key.removesuffix(_SUFFIX)

    def setting(name: str) -> object:
        return next((settings[key] for key in (prefix + name, f"celery_{name}", name) if key in settings), None)

    zone = _zone(setting("timezone"), setting("enable_utc"))
    scheduler = next((settings[key] for key in (f"{prefix}beat_scheduler", "beat_scheduler") if key in settings), "")
    found = {}
    for name, entry in list(settings[key].items())[:MAX_SCHEDULES]:
        if isinstance(name, str) and isinstance(entry, dict):
            definition = definition_of(name[:MAX_TEXT], entry, zone, Source.CONF, app)
            if "django_celery_beat" in str(scheduler)[:MAX_TEXT]:
                definition = replace(definition, differs="django-celery-beat may have another one in its database")
            found[definition.name] = definition
    return found


def definition_of(name: str, entry: Mapping[str, object], zone: str, source: Source, app: str = "") -> Definition:
    """The definition that a schedule entry stands for, in the form of Celery and RedBeat.

    :param entry: `task`, `schedule`, `args`, `kwargs`, `options`; any of them may be missing or wrong.
    :param zone: the application's time zone; empty if it is not known.
    """
    timetable, own_zone, problem = translated(entry.get("schedule"))
    task = entry.get("task")
    if not isinstance(task, str) or not task:
        task, problem = "", problem or "it names no task"
    zone = own_zone or zone
    try:
        timetable = timetable if problem else timetable_of(timetable, zone).text
    except ValueError as error:
        problem = str(error)
    options = entry.get("options")
    get = options.get if isinstance(options, dict) else {}.get
    queue = get("queue")
    return Definition(
        name=name,
        task=task[:MAX_TEXT],
        timetable=timetable,
        zone=zone[:MAX_TEXT],
        source=source,
        app=app,
        arguments=arguments_of(entry.get("args"), entry.get("kwargs")),
        queue=queue[:MAX_TEXT] if isinstance(queue, str) and queue else None,
        expires=_seconds(get("expires")),
        is_enabled=entry.get("enabled") is not False,
        problem=problem,
    )


def _zone(timezone: object, enable_utc: object) -> str:
    """The time zone of an application; empty if it is that of beat's host, or cannot be read."""
    if timezone is None or timezone == "":
        return "" if enable_utc is False else "UTC"
    return zone_name(timezone) or ""


def _seconds(value: object) -> float | None:
    """The seconds in an option that is a number or a timedelta."""
    timetable = translated(value).timetable
    try:
        return timetable_of(timetable, "").next_after(0.0) if timetable.startswith("every ") else None
    except ValueError:
        return None


def _agreed(entries: list[Definition | None]) -> Definition:
    """The entry of most workers, with a note if others have another one or none."""
    known = [one for one in entries if one is not None]
    counted = Counter((one.task, one.timetable, one.zone, one.arguments) for one in known)
    most = max(counted, key=lambda key: (counted[key], str(key)))
    chosen = next(one for one in known if (one.task, one.timetable, one.zone, one.arguments) == most)
    if len(known) < len(entries):
        differs = f"only {len(known)} of {len(entries)} workers have it"
    elif len(counted) > 1:
        differs = f"{len(entries) - counted[most]} of {len(entries)} workers have another one"
    else:
        return chosen
    return replace(chosen, differs=differs, is_disputed=True)
