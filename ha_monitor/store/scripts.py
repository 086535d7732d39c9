"""The Lua scripts as they are sent to Redis."""

from __future__ import annotations

from hashlib import sha1
from importlib import resources
from typing import NamedTuple

_PRELUDE = "record"
_NAMES = ("apply", "tick", "register", "settle", "recover", "leave", "workers")
_WITHOUT_PRELUDE = frozenset({"register", "workers"})


class Script(NamedTuple):
    """A script and the digest by which EVALSHA names it."""

    name: str
    source: str
    sha: str


def read_scripts() -> dict[str, Script]:
    """Every script by name, each with the shared functions of `record.lua` in front where it needs them."""
    folder = resources.files("ha_monitor.store") / "lua"
    prelude = (folder / f"{_PRELUDE}.lua").read_text(encoding="utf-8")
    scripts = {}
    for name in _NAMES:
        source = (folder / f"{name}.lua").read_text(encoding="utf-8")
        if name not in _WITHOUT_PRELUDE:
            source = f"{prelude}\n{source}"
        digest = sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest()
        scripts[name] = Script(name, source, digest)
    return scripts
