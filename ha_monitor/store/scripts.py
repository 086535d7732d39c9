"""The Lua scripts as they are sent to Redis."""

from __future__ import annotations

import re
from hashlib import sha1
from importlib import resources
from typing import NamedTuple

from ha_monitor.events.catalogue import TASK_EVENTS, Awaits, Code

_NAMES = (
    *("apply", "tick", "register", "settle", "recover", "leave", "workers", "watch", "losses", "suspects", "judge"),
    *("attempt", "set_aside", "mend"),
)
_PRELUDES: dict[str, tuple[str, ...]] = {
    "apply": ("record", "runs", "outbox", "tables", "worker", "phases", "counting"),
    "tick": ("record", "runs", "outbox", "counting"),
    "settle": ("record", "outbox"),
    "recover": ("record", "outbox"),
    "leave": ("record", "outbox"),
    "workers": ("worker", "liveness"),
    "watch": ("record", "outbox", "duty", "tables", "worker", "liveness", "sweep", "phases"),
    "losses": ("record", "runs", "outbox", "duty", "tables", "merged", "counting"),
    "suspects": ("record", "outbox", "duty", "tables", "sweep", "phases"),
    "judge": ("record", "runs", "outbox", "duty", "tables", "phases", "merged", "counting"),
}
"""The files with what several scripts share that stand in front of one."""


_PLACE = re.compile(r"(?:script: |f_)(?P<sha>[0-9a-f]{40})\b.*@user_script: ?(?P<line>\d+)")
_CALL = re.compile(r"redis\.call\('(?P<command>\w+)'")


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
        texts = [(folder / f"{file}.lua").read_text(encoding="utf-8") for file in files]
        source = "\n".join([event_constants(), *texts] if "record" in files else texts)
        digest = sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest()
        scripts[name] = Script(name, source, digest)
    return scripts


def event_constants() -> str:
    """The catalogue of events for the scripts: a local for each code, and what they must know by code in `EVENTS`."""
    codes = [code for code in Code if code is not Code.OTHER]
    rows = [row for row in TASK_EVENTS if row.code is not Code.OTHER]
    of_a_run = [row for row in rows if row.code is Code.STARTED or row.awaits in (Awaits.ONE_START, Awaits.ALL_STARTS)]
    tables = {
        "ends": {row.code: f"{{ rank = {row.end.rank}, tie = {row.end.tie} }}" for row in rows if row.end is not None},
        "awaits": {row.code: f"'{row.awaits}'" for row in rows},
        "of_a_run": {row.code: "true" for row in of_a_run},
        "counted": {row.code: "true" for row in rows if row.counter is not None},
    }
    lines = [
        f"  {name} = {{ {', '.join(f'[{code:d}] = {value}' for code, value in table.items())} }},"
        for name, table in tables.items()
    ]
    names = ", ".join(code.name for code in codes)
    return "\n".join([f"local {names} = {', '.join(map(str, map(int, codes)))}", "local EVENTS = {", *lines, "}"])


def command_at(error: str) -> str | None:
    """The command that a script called where it failed; None if that cannot be told.

    :param error: Redis's own text, which names script and line.
    """
    if (place := _PLACE.search(error)) is None:
        return None
    sources = [script.source for script in read_scripts().values() if script.sha == place["sha"]]
    call = _CALL.search(sources[0].splitlines()[int(place["line"]) - 1]) if sources else None
    return call["command"] if call else None
