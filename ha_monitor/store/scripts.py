"""The Lua scripts as they are sent to Redis."""

from __future__ import annotations

from hashlib import sha1
from importlib import resources
from typing import NamedTuple

_NAMES = (
    *("apply", "tick", "register", "settle", "recover", "leave", "workers", "watch", "losses", "suspects", "judge"),
    *("attempt", "set_aside"),
)
_PRELUDES: dict[str, tuple[str, ...]] = {
    "apply": ("record", "outbox", "phases", "counting"),
    "tick": ("record", "outbox", "counting"),
    "settle": ("record", "outbox"),
    "recover": ("record", "outbox"),
    "leave": ("record", "outbox"),
    "watch": ("record", "outbox", "duty"),
    "losses": ("record", "outbox", "duty", "merged", "counting"),
    "suspects": ("record", "outbox", "duty", "phases"),
    "judge": ("record", "outbox", "duty", "phases", "merged", "counting"),
}
"""The files with what several scripts share that stand in front of one."""


class Script(NamedTuple):
    """A script and the digest by which EVALSHA names it."""

    name: str
    source: str
    sha: str


def read_scripts() -> dict[str, Script]:
    """Every script by name, each with the shared functions that it needs in front."""
    folder = resources.files("ha_monitor.store") / "lua"
    scripts = {}
    for name in _NAMES:
        files = (*_PRELUDES.get(name, ()), name)
        source = "\n".join((folder / f"{file}.lua").read_text(encoding="utf-8") for file in files)
        digest = sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest()
        scripts[name] = Script(name, source, digest)
    return scripts
