"""Why Redis refused a command, whether it is the store, broker or result backend; `rights/redis.py` handles missing
rights.

`_ROWS` lists all refusals that are distinguished.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import redis.exceptions

from ha_monitor.causes.service import Cause, plain_text

_CODES: dict[type[BaseException], str] = {
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.NoScriptError: "NOSCRIPT",
    redis.exceptions.MasterDownError: "MASTERDOWN",
}
"""redis-py removes the code from the text of these errors."""
_SCRIPT = re.compile(
    r"^(?:ERR )?Error running script \(call to f_[0-9a-f]{40}\): (?:@user_script: ?\d+: )?"
    r"|(?:@)?user_script: ?\d+: ?|,? ?script: ?[0-9a-f]{40}(?:, on @\w+:\d+)?\.?$"
)
_BY_SCRIPT = re.compile(r"^ACL failure in script: ")


class _Row(NamedTuple):
    """One kind of refusal."""

    words: str
    """A regular expression for Redis's own text."""
    text: str
    """A template with the groups of the expression; `setting` holds the URL, `command` is what a script called."""
    lasting: bool = False


_ROWS = (
    _Row(r"^READONLY", "this is a replica; name the primary, or use a sentinel:// URL"),
    _Row(r"^OOM", "Redis is at its maxmemory; give it more, or keep less (store.success_ttl)"),
    _Row(
        r"^MISCONF.*AOF file: (?P<why>.+?)\.?$",
        "it takes no writes, since it cannot write its append-only file ({why}): free space on its disk",
    ),
    _Row(
        r"^MISCONF",
        "it takes no writes, since its last save to disk failed: its log says why, mostly a full disk or a folder "
        "that it may not write; it takes writes again once BGSAVE succeeds",
    ),
    _Row(
        r"^NOREPLICAS",
        "it takes no writes, since fewer replicas follow it than its min-replicas-to-write demands: start them, or "
        "lower that",
    ),
    _Row(
        r"(?i)^(?:ERR )?unknown (?:redis )?command(?: ['`](?P<command>[^'`]*)['`])?",
        "Redis does not know the command {command}: it is too old, or rename-command in its configuration removed "
        "it; restore its name",
        lasting=True,
    ),
    _Row(r"^LOADING", "Redis is loading its data, and answers when it is done"),
    _Row(r"^MASTERDOWN", "this is a replica that has lost its primary (MASTERDOWN); name the primary"),
    _Row(r"^(?:ERR )?max number of clients", "Redis has as many clients as its maxclients allows: raise that"),
    _Row(r"^NOSCRIPT", "Redis has forgotten the scripts (NOSCRIPT), as after a restart; they are loaded again"),
    _Row(r"^BUSY ", "Redis is busy with somebody's script: SCRIPT KILL ends one that has not written"),
    _Row(
        r"^(?:ERR )?(?P<why>DB index is out of range|invalid DB index)",
        "{why}: correct the database in {setting}, or raise `databases` in the configuration of Redis",
        lasting=True,
    ),
)


def refusal_of(error: BaseException, setting: str, command: str | None = None) -> Cause:
    """Why Redis refused a command.

    :param setting: the setting whose URL names this Redis.
    :param command: what a script called when it was refused, if known.
    """
    text = without_script(plain_text(error))
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), "")
    known = text if text.startswith(code) else f"{code} {text}"
    for row in _ROWS:
        if found := re.search(row.words, known):
            called = command.upper() if command else "that a script calls"
            groups = {name: value for name, value in found.groupdict().items() if value}
            return Cause(row.text.format_map({"command": called, **groups, "setting": setting}), row.lasting)
    return Cause(text)


def without_script(text: str) -> str:
    """An error text of Redis without the digest of the script that failed, and the position in it."""
    return _SCRIPT.sub("", _BY_SCRIPT.sub("", text)).strip() or text
