"""The commands of the program as data: their flags, and what the flags take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

DYNAMIC = ("name", "queue", "worker", "error")
"""Fields whose values come from the store."""


_VALUES_OF = {"name": "worker", "pattern": "name", "groups": "error", "queue": "queue"}
"""Positional arguments whose values are those of a field."""


class Option(NamedTuple):
    """A flag of a command."""

    flags: tuple[str, ...]
    help: str
    takes: str | None
    """What it takes: words separated by blanks, `@file`, `@folder`, `@values FIELD` or `@` for anything; None if it
    takes nothing.
    """


class Command(NamedTuple):
    """A command with its flags."""

    name: str
    help: str
    options: Sequence[Option]
    operands: str = ""
    """What the positional arguments take, as `Option.takes`, or `@filter`."""


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """The commands of the program; the first one, without a name, has the program's own flags."""
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in found._choices_actions}
    commands = [Command("", "", _options(parser))]
    for name, one in found.choices.items():
        positional = [action for action in one._actions if not action.option_strings]
        takes = [_takes(action) for action in positional]
        # If one of them takes anything, offer what the others take.
        operands = " ".join(one for one in takes if one != "@") or "".join(takes[:1])
        commands.append(Command(name, helps[name], _options(one), operands))
    return commands


def _options(parser: argparse.ArgumentParser) -> list[Option]:
    return [
        Option(
            tuple(action.option_strings),
            " ".join((action.help or "").split()),
            None if action.nargs == 0 else _takes(action),
        )
        for action in parser._actions
        if action.option_strings
    ]


def _takes(action: argparse.Action) -> str:
    from ha_monitor.incidents.catalogue import KINDS
    from ha_monitor.query.fields import FIELDS, Kind

    if action.metavar == "KIND[=KEY]":
        return " ".join(KINDS)
    if action.choices:
        return " ".join(map(str, action.choices))
    if action.dest == "sort":
        return " ".join(name for name, field in FIELDS.items() if field.kind is not Kind.TIME)
    kinds = {"FILE": "@file", "DIR": "@folder", "PATH": "@folder", "FILTER": "@filter"}
    if (field := _VALUES_OF.get(action.dest)) is not None:
        return f"@values {field}"
    return kinds.get(str(action.metavar), "@")
