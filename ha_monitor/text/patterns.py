"""Patterns as people write them for names."""

from __future__ import annotations

from fnmatch import fnmatchcase


def fits(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern, in which `*` stands for any text. Everything else stands for itself."""
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))
