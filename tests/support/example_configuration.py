"""The packaged example of the configuration.

`python -m tests.support.example_configuration >packaging/ha-monitor.toml` writes it.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from enum import Enum
from typing import Any

import msgspec

from ha_monitor.config.load import Setting, settings
from ha_monitor.config.schema import Config

HEADER = """\
# Configuration of ha-monitor, for all instances on this host.
#
# Each key is shown with its default; remove the # to change it. `ha-monitor check` validates the file,
# `ha-monitor check --online` also tests broker and Redis. Then `systemctl reload 'ha-monitor@*'` is enough for
# log.level, log.arguments, log.results, log.redact, log.max_value_length and [handlers]; the rest needs a restart.
#
# Settings for one instance go to /etc/ha-monitor/instances/<name>.toml, with the same keys.
#
# URLs with passwords, and passwords, go to files that only root can read, one value per file:
#   /etc/ha-monitor/credentials/broker_url
#   /etc/ha-monitor/credentials/store_url
#   /etc/ha-monitor/credentials/result_backend_url
#   /etc/ha-monitor/credentials/http_password
#   /etc/ha-monitor/credentials/notify_secrets
#   /etc/ha-monitor/credentials/redbeat_url
# They override this file. An empty file means "not set".
"""
WIDTH = 120


def example() -> str:
    """The whole file: each section and key of the schema, explained, with its default."""
    parts = [HEADER]
    section = ""
    for setting in settings():
        if setting.section != section:
            section = setting.section
            kind = next(field.type for field in msgspec.structs.fields(Config) if field.name == section)
            parts.append(f"\n{_comment(inspect.getdoc(kind) or '')}\n[{section}]\n")
        parts.append(f"\n{_comment(_explained(setting))}\n#{setting.key} = {_default(setting)}\n")
    return "".join(parts)


def _comment(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _default(setting: Setting) -> str:
    defaults = Config()
    value: Any = getattr(getattr(defaults, setting.section) if setting.section else defaults, setting.key)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # A text, number, truth value, list of texts and empty table are written the same way in JSON and in TOML.
    return json.dumps(value)


def _explained(setting: Setting) -> str:
    found = msgspec.inspect.type_info(setting.type)
    text, kind = "", found
    if isinstance(found, msgspec.inspect.Metadata):
        text, kind = str((found.extra_json_schema or {}).get("description", "")), found.type
    if isinstance(kind, msgspec.inspect.EnumType):
        return f"{text}. One of " + ", ".join(str(member.value) for member in kind.cls) + "."
    least, most = getattr(kind, "ge", None), getattr(kind, "le", None)
    if least is not None and most is not None:
        return f"{text}. {least:g} to {most if isinstance(most, int) else format(most, 'g')}."
    return f"{text}."


if __name__ == "__main__":
    sys.stdout.write(example())
