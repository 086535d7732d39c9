"""The Lua scripts as they are sent to Redis: each is assembled from files, whose headers declare what they need.

- `-- @include <file> …`: the files whose functions it uses. Each is in a script once, after all that it includes.
- `-- @keys <name> …`: the keys that it uses, by their names in `keys.py`, as `keys.<name>`. `<name>...` is a list of
  all further keys that the caller passes; only the script itself may have it, not an include.
- `-- @families <name> …`: families of keys in `keys.py`, as `families.<name>`, to which the name of one is appended.
- `-- @option <name>  <meaning>`: a value that the caller passes, as `options.<name>`; nil if it passes None.
- `-- @options <name> …`: options whose meaning another file documents.

So both sides use names, and only this module assigns their positions in a call: the keys in the order of their
declaration, the options as consecutive MessagePack values in alphabetical order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from ha_monitor.events.catalogue import TASK_EVENTS, Awaits, Code
from ha_monitor.events.histogram import LAST_BUCKET, MIN_DURATION, STEPS
from ha_monitor.store.keys import FAMILIES, NAMES

_NAMES = (
    *("apply", "tick", "register", "record_outcome", "recover", "unregister", "workers", "watch", "losses"),
    *("candidates", "confirm", "attempt", "set_aside", "repair", "restore", "restore_counts", "move_counts"),
    *("error_group", "take_letter", "incidents", "silence", "deploy", "deliveries"),
    "schedules",
)

_DIRECTIVE = re.compile(r"^-- @(\w+) +(.+)$", re.MULTILINE)
_PLACE = re.compile(r"(?:script: |f_)(?P<sha>[0-9a-f]{40})\b.*@user_script: ?(?P<line>\d+)")
_CALL = re.compile(r"redis\.call\('(?P<command>\w+)'")
_pack = msgspec.msgpack.Encoder().encode


class ScriptError(Exception):
    """A script, or a call of one, names something that does not exist."""


class Part(NamedTuple):
    """A file, or a generated text, and what its header declares."""

    name: str
    text: str
    includes: tuple[str, ...]
    keys: tuple[str, ...]
    families: tuple[str, ...]
    options: tuple[str, ...]
    meanings: Mapping[str, str]
    """Of the options that it documents."""


class Script(NamedTuple):
    """A script and its digest, by which EVALSHA names it."""

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]
    """Names of the keys that it needs, in the order in which they are passed."""
    options: tuple[str, ...]
    """Names of the values that it needs, in the order in which they are passed."""
    takes_more: bool
    """Whether it takes any number of further keys."""

    @property
    def is_under_lease(self) -> bool:
        """Whether an instance calls it under its lease; its replies then begin with what lease.lua adds."""
        return "token" in self.options

    def arguments(
        self,
        keys: Mapping[str, str],
        common: Mapping[str, Any],
        options: Mapping[str, Any],
        more_keys: Sequence[str | bytes] = (),
    ) -> list[Any]:
        """What follows the script or its digest in a call.

        :param keys: the keys by name; the script gets those that it declares.
        :param common: values that many scripts need; likewise.
        :param options: all others that it declares, and no more; they override the common ones.
        :raises ScriptError: naming what is missing or unknown.
        """
        given = {name: common[name] for name in self.options if name in common}
        given.update(options)
        if len(given) != len(self.options) or not all(name in given for name in self.options):
            raise ScriptError(f"{self.name}: missing or unknown options: {sorted(given.keys() ^ set(self.options))}")
        if more_keys and not self.takes_more:
            raise ScriptError(f"{self.name} takes no keys besides those that it names")
        try:
            named = [keys[name] for name in self.keys]
        except KeyError as error:
            raise ScriptError(f"{self.name} needs the key {error}") from None
        packed = [value if type(value := given[name]) is msgspec.Raw else _pack(value) for name in self.options]
        return [len(named) + len(more_keys), *named, *more_keys, b"".join(packed)]


def read_scripts() -> dict[str, Script]:
    """Every script by name, with everything that it includes."""
    return {name: read_script(name) for name in _NAMES}


@cache
def read_script(name: str) -> Script:
    """A script with everything that it includes, assembled once for each process."""
    return assemble(parts_of(name, read_part))


def read_part(name: str) -> Part:
    """A file by its name without `.lua`, or a generated text.

    :raises ScriptError: if there is none.
    """
    if name in GENERATED:
        return part_from(name, GENERATED[name]())
    path = (resources.files("ha_monitor.store") / "lua").joinpath(f"{name}.lua")
    if not path.is_file():
        raise ScriptError(f"there is no {name}.lua")
    return part_from(name, path.read_text(encoding="utf-8"))


def part_from(name: str, text: str) -> Part:
    """A text with what its header declares.

    :raises ScriptError: if it declares something that does not exist.
    """
    found: dict[str, list[str]] = {"include": [], "keys": [], "families": [], "options": []}
    meanings = {}
    for directive, rest in _DIRECTIVE.findall(text):
        if directive == "option":
            option, _, meaning = rest.partition(" ")
            meanings[option] = meaning.strip()
            found["options"].append(option)
        elif directive in found:
            found[directive] += rest.split()
        else:
            raise ScriptError(f"{name}.lua: unknown directive @{directive}")
    unknown = {key for key in found["keys"] if not key.endswith("...")} - NAMES.keys()
    if unknown := unknown | (set(found["families"]) - FAMILIES.keys()):
        raise ScriptError(f"{name}.lua: unknown keys: {sorted(unknown)}")
    if found["families"]:
        found["options"].append("prefix")
    includes, keys, families, options = (tuple(dict.fromkeys(names)) for names in found.values())
    return Part(name, text, includes, keys, families, options, meanings)


def parts_of(name: str, read: Callable[[str], Part]) -> list[Part]:
    """A script's parts, each after all that it includes.

    :param read: returns a part by its name.
    :raises ScriptError: if one includes itself indirectly.
    """
    done: dict[str, Part] = {}

    def add(one: str, includers: tuple[str, ...]) -> None:
        if one in includers:
            raise ScriptError(f"{' includes '.join((*includers[includers.index(one) :], one))}")
        if one not in done:
            part = read(one)
            for included in part.includes:
                add(included, (*includers, one))
            done[one] = part

    add(name, ())
    return list(done.values())


def assemble(parts: Sequence[Part]) -> Script:
    """Assemble a script from its parts; the last is the script's own file."""
    keys = tuple(dict.fromkeys(key for part in parts for key in part.keys if not key.endswith("...")))
    more = [(part.name, key[:-3]) for part in parts for key in part.keys if key.endswith("...")]
    name = parts[-1].name
    if len(more) > 1 or any(owner != name for owner, _ in more):
        raise ScriptError(f"{name}: only a script itself takes any number of keys, and once")
    families = sorted({family for part in parts for family in part.families})
    options = tuple(sorted({option for part in parts for option in part.options}))
    head = _head(keys, options, families, [key for _, key in more])
    source = "\n".join([head, *(part.text for part in parts)])
    digest = sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest()
    return Script(name, source, digest, keys, options, takes_more=bool(more))


def _head(keys: Sequence[str], options: Sequence[str], families: Sequence[str], more: Sequence[str]) -> str:
    named = [f"{key} = KEYS[{place}]" for place, key in enumerate(keys, start=1)]
    lines = [
        f"local keys = {{ {', '.join(named)} }}",
        "local options",
        "do",
        f"  local {', '.join(options)} = cmsgpack.unpack(ARGV[1])",
        f"  options = {{ {', '.join(f'{option} = {option}' for option in options)} }}",
        "end",
    ]
    for key in more:
        lines += [
            f"keys.{key} = {{}}",
            f"for index = {len(keys) + 1}, #KEYS do keys.{key}[index - {len(keys)}] = KEYS[index] end",
        ]
    if families:
        marks = [f"{family} = options.prefix .. '{FAMILIES[family].mark}'" for family in families]
        lines.append(f"local families = {{ {', '.join(marks)} }}")
    return "\n".join(lines) + "\n"


def event_constants() -> str:
    """The catalogue of events for the scripts: a local for each code, and what they need by code in `EVENTS`."""
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
    return "\n".join([f"local {names} = {', '.join(map(str, map(int, codes)))}", "local EVENTS = {", *lines, "}", ""])


def histogram_constants() -> str:
    """What the scripts need for the histogram of durations: the shortest, the last bucket, and the steps."""
    return f"local HISTOGRAM = {{ {MIN_DURATION}, {LAST_BUCKET}, {', '.join(map(repr, STEPS))} }}\n"


GENERATED: Mapping[str, Callable[[], str]] = {
    "generated/catalogue": event_constants,
    "generated/histogram": histogram_constants,
}
"""What makes the text of an include that is not a file, by its name."""


class Place(NamedTuple):
    """A line of a script."""

    script: str
    """Its name."""
    line: int
    text: str


def place_of(error: str) -> Place | None:
    """Where a script failed; None if that is not known.

    :param error: Redis's own text, which names the script by its digest, and the line.
    """
    if (place := _PLACE.search(error)) is None:
        return None
    for script in read_scripts().values():
        if script.sha == place["sha"]:
            line = int(place["line"])
            return Place(script.name, line, script.source.splitlines()[line - 1])
    return None


def command_at(error: str) -> str | None:
    """The command that a script called where it failed; None if that is not known.

    :param error: Redis's own text.
    """
    place = place_of(error)
    call = _CALL.search(place.text) if place else None
    return call["command"] if call else None
