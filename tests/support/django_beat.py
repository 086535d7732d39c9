"""A Django project whose database has the schedule of beat (django-celery-beat), in a file of SQLite.

As `DJANGO_SETTINGS_MODULE` it is the settings; as a program it makes the database and writes entries into it, as
somebody does in Django's admin pages:

    python -m tests.support.django_beat '[{"name": "import", "task": "tests.echo", "every": 4, "args": [1]}]'

An entry has either `every`, in seconds, or `minute`, that of a crontab, and `timezone`. The database is the file that
``TESTS_DJANGO_DATABASE`` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.workers import ROOT

SECRET_KEY = "of tests"
INSTALLED_APPS = ["django_celery_beat"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("TESTS_DJANGO_DATABASE", ":memory:")}
}
USE_TZ = True
TIME_ZONE = "UTC"
SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"


def environment(folder: Path) -> dict[str, str]:
    """That of a beat whose schedule is in a database in that folder."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.support.django_beat",
        "TESTS_DJANGO_DATABASE": str(folder / "schedule.sqlite"),
    }


def write_entries(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Make the database, with these entries."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment(folder)}
    command = [sys.executable, "-m", "tests.support.django_beat", json.dumps(entries)]
    subprocess.run(command, env=env, cwd=folder, check=True, timeout=120)


def main() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

    for entry in json.loads(sys.argv[1]):
        told = {"name": entry["name"], "task": entry["task"], "args": json.dumps(entry["args"])}
        if "every" in entry:
            told["interval"] = IntervalSchedule.objects.create(every=entry["every"], period=IntervalSchedule.SECONDS)
        else:
            told["crontab"] = CrontabSchedule.objects.create(minute=entry["minute"], timezone=entry["timezone"])
        PeriodicTask.objects.create(**told)


if __name__ == "__main__":
    main()
