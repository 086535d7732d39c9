"""Text from outside the program."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text, with question marks for what UTF-8 cannot encode, such as half of an emoji that was cut."""
    return text.encode("utf-8", "replace").decode("utf-8")
