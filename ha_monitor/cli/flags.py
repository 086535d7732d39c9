"""The values of flags, and which flags have no meaning together with other arguments."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ha_monitor.errors import UsageError
from ha_monitor.text.times import parse_duration

OF_LISTS = ("output", "limit", "reverse", "watch", "fail_if_any", "fail_if_none")
"""Flags that have a meaning only if the answer is a list, by the names that argparse gives them."""
_MAX_ROWS = 1_000_000
_DEFAULTS: Mapping[str, tuple[object, ...]] = {"output": ("table",), "limit": (0, 20), "sort": ("last",)}
"""Values of a flag that was not given, or that change nothing. Any other flag is then None, False or empty."""


def a_limit(text: str) -> int:
    """A number of items, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > len(str(_MAX_ROWS)) or int(text) > _MAX_ROWS:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {_MAX_ROWS}")
    return int(text)


def an_interval(text: str) -> float:
    """Seconds between two looks, for argparse."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return max(0.5, seconds)


def times_asked(options: argparse.Namespace) -> list[str]:
    """The filter words for --since and --until."""
    return [f"{name}={value}" for name in ("since", "until") if (value := getattr(options, name)) is not None]


def refuse(options: argparse.Namespace, *names: str, beside: str) -> None:
    """Refuse flags that would be ignored.

    :param names: the flags' names, as argparse has them.
    :param beside: the argument that was given and that they do not go together with.
    :raises UsageError: naming those of the flags that were given.
    """
    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if (value := getattr(options, name)) not in (None, False, "") and value not in _DEFAULTS.get(name, ())
    ]
    if given:
        said = f"{options.command}: {beside} does not go together with {', '.join(given)}"
        raise UsageError(f"{said}; see ha-monitor {options.command} --help")
