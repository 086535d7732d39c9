"""Patterns as people write them for names."""

from __future__ import annotations

from fnmatch import fnmatchcase


def fits(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern, in which `*` stands for any text. Everything else stands for itself."""
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def quoted(text: str) -> str:
    """A text as the value of a filter, or as the pattern of a name, that matches only this text."""
    return "".join("\\" + one if one in ",*\\" else one for one in text)
