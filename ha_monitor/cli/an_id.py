"""An id that somebody types."""

from __future__ import annotations

from argparse import ArgumentTypeError


def an_id(text: str) -> str:
    """An id or its beginning, for argparse. An empty one, such as an unset variable of a script, is that of everything
    there is, and so of what nobody meant.
    """
    if not text.strip():
        raise ArgumentTypeError("expected an id, or its beginning; it is empty")
    return text
