"""The table of all settings, as `docs/configuration.md` has it: `python -m tests.support.configuration_table`."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Any

import msgspec

from ha_monitor.config.load import Setting, settings
from ha_monitor.config.schema import DEFAULT_REDACTED, Config


def table() -> str:
    """One row a setting: key, default, meaning and bounds, environment variable."""
    rows = ["| key | default | meaning | environment variable |", "|---|---|---|---|"]
    defaults = Config()
    for setting in settings():
        owner = getattr(defaults, setting.section) if setting.section else defaults
        default = getattr(owner, setting.key)
        meaning = f"{_description(setting)}{_bounds(setting)}"
        rows.append(f"| `{setting.dotted}` | {_shown(default)} | {meaning} | `{setting.variable}` |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list):
        value = [int(one) if isinstance(one, float) and one.is_integer() else one for one in value]
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if value == DEFAULT_REDACTED:
        return "see below"
    return f"`{json.dumps(value)}`"


def _metadata(setting: Setting) -> msgspec.inspect.Metadata | None:
    kind = msgspec.inspect.type_info(setting.type)
    return kind if isinstance(kind, msgspec.inspect.Metadata) else None


def _description(setting: Setting) -> str:
    found = _metadata(setting)
    return str((found.extra_json_schema or {}).get("description", "")) if found else ""


def _bounds(setting: Setting) -> str:
    found = _metadata(setting)
    kind = found.type if found else msgspec.inspect.type_info(setting.type)
    if isinstance(kind, msgspec.inspect.EnumType):
        return "; one of " + ", ".join(f"`{member.value}`" for member in kind.cls)
    least = getattr(kind, "ge", None)
    most = getattr(kind, "le", None)
    if least is not None and most is not None:
        return f"; {least:g} to {most:,}" if isinstance(most, int) and most > 99999 else f"; {least:g} to {most:g}"
    return ""


if __name__ == "__main__":
    sys.stdout.write(table())
