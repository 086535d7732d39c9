"""luacheck over the Lua files, and over what they use of each other: `python -m tests.lua_lint`.

Taken by itself, a file of the store's scripts reads names that luacheck does not know. Each must be one that a file
declares which it includes, none may be set, and what a file declares must be used by one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ha_monitor.store.scripts import GENERATED, read_part
from tests.support.lua_files import FILES, LUA, SCRIPTS, top_locals

UNKNOWN, UNUSED = "113", ("211", "221", "231", "241")
"""luacheck's codes for a name that is read and not declared, and for one that is declared and not used."""
_WARNING = re.compile(r"^(?P<path>[^:]+):(?P<line>\d+):\d+: \((?P<code>[EW]\d+)\) (?P<text>.*)$")
_NAME = re.compile(r"'(\w+)'")


class Finding(NamedTuple):
    """What luacheck says of one place."""

    file: str
    line: int
    code: str
    text: str

    @property
    def name(self) -> str:
        """What it is about, if that is a name."""
        found = _NAME.search(self.text)
        return found[1] if found else ""


def look() -> list[Finding]:
    """All that luacheck finds, file by file."""
    paths = [str(LUA / f"{name}.lua") for name in FILES]
    done = subprocess.run(
        ["luacheck", "--formatter", "plain", "--codes", *paths], capture_output=True, text=True, check=False
    )
    if done.returncode > 2:
        raise SystemExit(done.stderr or done.stdout)
    found = [_WARNING.match(line) for line in done.stdout.splitlines()]
    return [
        Finding(
            Path(one["path"]).relative_to(LUA).with_suffix("").as_posix(),
            int(one["line"]),
            one["code"][1:],
            one["text"],
        )
        for one in found
        if one
    ]


def complaints(findings: list[Finding]) -> list[str]:
    """What is wrong, a line each."""
    parts = {name: read_part(name) for name in FILES}
    includes = {name: read_part(name) for name in (*FILES, *GENERATED) if name not in SCRIPTS}
    declares = {name: top_locals(part.text) for name, part in includes.items()}
    reads: dict[str, set[str]] = {name: set() for name in FILES}
    for one in findings:
        if one.code == UNKNOWN:
            reads[one.file].add(one.name)
    wrong = []
    for one in findings:
        others = [part for name, part in parts.items() if one.file in part.includes and one.name in reads[name]]
        used_elsewhere = one.code in UNUSED and one.name in declares.get(one.file, ()) and others
        if one.code != UNKNOWN and not used_elsewhere:
            wrong.append(f"{one.file}.lua:{one.line}: {one.text} ({one.code})")
    for name, part in parts.items():
        known = {declared: include for include in part.includes for declared in declares[include]}
        wrong += [f"{name}.lua: {word} is of no file that it includes" for word in sorted(reads[name] - known.keys())]
        unneeded = set(part.includes) - {known[word] for word in reads[name] & known.keys()}
        wrong += [f"{name}.lua: includes {include} and uses nothing of it" for include in sorted(unneeded)]
    return wrong


def main() -> int:
    wrong = complaints(look())
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    sys.stdout.write(f"{len(FILES)} Lua files, {len(wrong)} warnings\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
