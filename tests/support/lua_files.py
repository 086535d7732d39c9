"""The Lua files of the store, for what looks at their text."""

from __future__ import annotations

import re
from pathlib import Path

from ha_monitor.store.scripts import read_scripts

LUA = Path(__file__).resolve().parents[2] / "ha_monitor/store/lua"
FILES = sorted(path.relative_to(LUA).with_suffix("").as_posix() for path in LUA.rglob("*.lua"))
SCRIPTS = read_scripts()


def top_locals(text: str) -> list[str]:
    """The names that a text declares outside of all blocks."""
    names: list[str] = []
    for declared in re.findall(r"^local (?:function )?([\w, ]+?)(?= *(?:[=(]|--|$))", text, re.MULTILINE):
        names += declared.split(", ")
    return names
