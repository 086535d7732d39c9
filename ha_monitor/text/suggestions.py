"""Suggestions for mistyped words."""

from __future__ import annotations

from collections.abc import Iterable

MAX_LENGTH = 255
"""Characters of a text that are compared."""


def similar(text: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known texts that are most similar to a text, nearest first.

    :param most: the largest number of texts to return.
    :param cutoff: how similar they must be: 0 for anything, 1 for equal.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only needed after a typing error

    return get_close_matches(text[:MAX_LENGTH], list(known), n=most, cutoff=cutoff)


def did_you_mean(text: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`, did you mean FAILURE?`; empty if nothing is similar."""
    found = similar(text, known, cutoff=cutoff)
    return f", did you mean {found[0]}?" if found else ""
