"""Takes secrets out of texts before they are stored or written.

Celery sends arguments and results as the *text* of a Python value, often cut short, so they cannot be parsed.
The redactor looks for keys in the text and replaces the value behind each, however it is nested or cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "***"
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MAX_DEPTH = 8
_MOST_HIDDEN = 8
"""How many times as long as the text that is kept the text that is searched may be: secrets become shorter."""


class Redactor:
    """Replaces the values of keys whose name contains one of the given parts, and cuts long texts."""

    def __init__(self, key_parts: Iterable[str], max_length: int) -> None:
        self._max_length = max_length
        key_parts = tuple(key_parts)
        parts = "|".join(re.escape(part) for part in key_parts)
        self._key = re.compile(parts, re.IGNORECASE) if parts else None
        # Searching a traceback without regard to case takes ten times as long by expression as by these.
        self._lower_parts = tuple(part.lower() for part in key_parts) if parts.isascii() else ()
        # 'password': …  |  password=…  |  password: …  |  my_password_2 = …  |  \"password\": …
        # What comes before the part is not looked at, and what comes after it is bounded: otherwise a long text
        # without a space, such as an encoded file, would take minutes.
        self._assignment = (
            re.compile(rf"""(?:{parts})[\w.-]{{0,100}}\\*["']?\s*[:=]\s*""", re.IGNORECASE) if parts else None
        )

    def text(self, value: object, max_length: int | None = None) -> str:
        """The redacted text of a value, at most so many characters long."""
        text = value if isinstance(value, str) else str(value)
        limit = max_length or self._max_length
        # A text of megabytes is not searched to its end for the sake of its beginning.
        whole, text = len(text), text[: limit * _MOST_HIDDEN]
        if self._has_key(text):
            text = self._redacted(text)
        if whole <= limit * _MOST_HIDDEN and len(text) <= limit:
            return text
        return text[: limit - 1] + "…"

    def tail(self, value: object, max_length: int) -> str:
        """The redacted end of a text, at most so many characters long."""
        text = value if isinstance(value, str) else str(value)
        # More than is kept, so that a key is not cut off from the value behind it.
        text = text[-2 * max_length :]
        if self._has_key(text):
            text = self._redacted(text)
        return text[-max_length:]

    def value(self, value: Any, depth: int = 0) -> Any:
        """The redacted copy of a JSON value: texts cut, deep nesting replaced by its text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            if depth >= _MAX_DEPTH:
                return "…"
            return {
                self.text(key): HIDDEN if self._key and self._key.search(key) else self.value(inner, depth + 1)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return "…" if depth >= _MAX_DEPTH else [self.value(inner, depth + 1) for inner in value]
        return value

    def _has_key(self, text: str) -> bool:
        if self._lower_parts and text.isascii():
            lower = text.lower()
            return any(part in lower for part in self._lower_parts)
        return self._key is not None and self._key.search(text) is not None

    def _redacted(self, text: str) -> str:
        assert self._assignment is not None
        kept: list[str] = []
        position = 0
        while match := self._assignment.search(text, position):
            kept += (text[position : match.end()], HIDDEN)
            position = _end_of_value(text, match.end())
        return "".join(kept) + text[position:]


def _end_of_value(text: str, start: int) -> int:
    """Where the Python value that begins at `start` ends; the end of the text if it was cut short."""
    expected: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if character in "'\"":
            position = _end_of_string(text, position)
            if not expected:
                return position
            continue
        if character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
            if not expected:
                return position + 1
        elif not expected and character in ",)]}\n;&":
            return position
        position += 1
    return len(text)


def _end_of_string(text: str, start: int) -> int:
    quote = text[start]
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == quote:
            return position + 1
        position += 1
    return len(text)
