"""The type of an id argument."""

from __future__ import annotations

from argparse import ArgumentTypeError


def an_id(text: str) -> str:
    """An id or its beginning, for argparse. An empty text, such as an unset variable of a script, is rejected: it would
    match everything, which nobody means.
    """
    if not text.strip():
        raise ArgumentTypeError("expected an id, or its beginning; it is empty")
    return text
