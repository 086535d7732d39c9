"""Foreign text."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold, such as half of a cut emoji, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
