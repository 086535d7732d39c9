"""What somebody may have meant who has mistyped."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 255
"""Characters of a text that are compared."""


def near(text: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known texts that are most like one, the nearest first.

    :param most: how many at most.
    :param cutoff: how like they must be: 0 for anything, 1 for the same.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only for who has mistyped

    return get_close_matches(text[:LONGEST], list(known), n=most, cutoff=cutoff)


def did_you_mean(text: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`, did you mean FAILURE?`; empty if nothing is near."""
    found = near(text, known, cutoff=cutoff)
    return f", did you mean {found[0]}?" if found else ""
