"""The environment of the demo's child processes: nothing of the user's own set-up may leak into it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from ha_monitor.config.load import FILE_VARIABLE, PREFIX, settings
from ha_monitor.config.schema import Config

FOREIGN = frozenset({"APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG", "WORKDIR", "CREDENTIALS_DIRECTORY"})
"""Variables that Celery's command line or the configuration would read."""


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without anything that configures Celery or ha-monitor.

    Celery prefers `CELERY_BROKER_URL` to the application's setting: the demo's tasks would go to a real broker.
    """
    prefixes = (PREFIX, "CELERY_", "CELERYD_")
    return {name: value for name, value in environment.items() if name not in FOREIGN and not name.startswith(prefixes)}


def monitor_environment(environment: Mapping[str, str], **chosen: str) -> dict[str, str]:
    """The environment of an instance: it has every setting, so that no file on this machine matters.

    :param chosen: settings that differ from their defaults, by name, such as ``broker_url``.
    """
    own = {FILE_VARIABLE: os.devnull}
    for setting in settings():
        default = getattr(Config(), setting.section) if setting.section else Config()
        own[setting.variable] = chosen.get(setting.credential) or _as_text(getattr(default, setting.key))
    return {**clean(environment), **own}


def _as_text(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8")
