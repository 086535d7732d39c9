"""The rights of the monitor's Redis users, for store, broker and result backend, and the remedy for each refusal.

docs/operations.md documents them; tests revoke each one and check what fails.
"""

from __future__ import annotations

import re
from typing import NamedTuple

STORE_COMMANDS = "+@read +@write +@connection -@scripting -@dangerous +eval +evalsha +script|load +time +info"
BROKER_COMMANDS = (
    "+@read +@write +@connection -@scripting -@dangerous "
    "+multi +exec +psubscribe +publish +evalsha +script|load +script|exists +time"
)
READER_COMMANDS = "+@read +@connection -@scripting -@dangerous +eval_ro +time +set +expire"
RESULTS_COMMANDS = "+@connection -@dangerous +get"
REDIS_6_COMMANDS = "+select +client|setname +wait"
"""Additional rights for each user on Redis older than 7: there, the second command is in `@dangerous`, and the others
are not in `@connection`. WAIT is needed only with `store.min_replicas`.
"""
_QUEUES_OF_TASKS = "(%R~* +llen)"
"""The application chooses the names of its queues; only their lengths are read."""

_COMMAND = re.compile(r"no permissions to run the '(?P<command>[^']+)' command")
_IN_REDIS_6 = re.compile(r"run the '(?:select|client|wait)' command or its subcommand")
"""The wording of Redis 6, which Redis 7 does not use."""
_SCRIPTS_COMMAND = re.compile(r"can't run this command or subcommand")
_KEYS = re.compile(r"access (?:one of the keys|a key)\b|access at least one of the keys")
_CHANNELS = re.compile(r"access (?:one of the channels|a channel)\b|access at least one of the channels")
_NO_PASSWORD = re.compile(r"^(?:NOAUTH )?Authentication required|called without any password configured")
_WRONG_PASSWORD = re.compile(r"invalid (?:username-password pair|password)|user is disabled")


class Needs(NamedTuple):
    """The rights that one user needs."""

    setting: str
    """The setting whose URL names the user."""
    user: str
    keys: tuple[str, ...]
    """Patterns."""
    channels: tuple[str, ...]
    """Patterns."""
    rules: tuple[str, ...]
    """All rules, in the syntax of ACL SETUSER."""

    @property
    def grant(self) -> str:
        """The command that grants all rights that are needed."""
        return f"ACL SETUSER {self.user} " + " ".join(
            f'"{rule}"' if rule.startswith("(") else rule for rule in self.rules
        )


def needs_of_store(user: str, prefix: str) -> Needs:
    """The rights of the user in `store.url`, given `store.prefix`."""
    keys = (f"{{{prefix}:*",)
    return Needs("store.url", user, keys, (), (*(f"~{key}" for key in keys), *STORE_COMMANDS.split()))


def needs_of_reader(user: str, prefix: str) -> Needs:
    """The rights of a user that only reads the store, for Redis 7.0 and later: for commands that ask, and the pages. It
    may write only the key that says that somebody is watching the tail.
    """
    keys = (f"{{{prefix}:*",)
    rules = (f"%R~{keys[0]}", f"~{{{prefix}:*}}:tail-wanted", *READER_COMMANDS.split())
    return Needs("store.url", user, keys, (), rules)


def needs_of_broker(user: str, keys: tuple[str, ...], channels: tuple[str, ...]) -> Needs:
    """The rights of the user in `broker.url` on a Redis, given patterns of the keys and channels in use."""
    rules = [f"~{key}" for key in keys] + [f"&{channel}" for channel in channels]
    return Needs("broker.url", user, keys, channels, (*rules, _QUEUES_OF_TASKS, *BROKER_COMMANDS.split()))


def needs_of_results(user: str, prefix: str) -> Needs:
    """The rights of the user in `result_backend.url` on a Redis, given the global prefix of its keys."""
    keys = (f"{prefix}celery-task-meta-*",)
    return Needs("result_backend.url", user, keys, (), (*(f"~{key}" for key in keys), *RESULTS_COMMANDS.split()))


def explain(text: str, needs: Needs, command: str | None = None) -> str | None:
    """The missing right and its remedy; None if the text is not a refusal.

    :param text: Redis's own, with or without the code in front.
    :param command: the command that a script called when it was refused, if known: Redis 7.0 does not report it.
    """
    if _NO_PASSWORD.search(text):
        return f"Redis requires a password in {needs.setting}"
    if _WRONG_PASSWORD.search(text):
        return f"the user name or password in {needs.setting} is wrong, or the user is disabled"
    if refused := _COMMAND.search(text):
        missing = f"run {refused['command'].upper().replace('|', ' ')}"
    elif _SCRIPTS_COMMAND.search(text):
        missing = f"run {command.upper()}" if command else "run a command that a script calls"
    elif "EXEC without MULTI" in text:
        missing = "run MULTI"  # redis-py does not pass on the refusal itself
    elif _KEYS.search(text):
        missing = f"use the keys {' '.join(needs.keys)}"
    elif _CHANNELS.search(text):
        missing = f"use the channels {' '.join(needs.channels)}"
    else:
        return None
    grant = f"{needs.grant} {REDIS_6_COMMANDS}" if _IN_REDIS_6.search(text) else needs.grant
    return f"user {needs.user} may not {missing}; grant it: {grant}"
