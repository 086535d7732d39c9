"""Redacts secrets in texts before they are stored or written.

Celery sends arguments and results as the *text* of a Python value, often truncated, so they cannot be parsed;
exceptions and tracebacks are texts of any kind. `ha_monitor.text.secrets` finds the secrets in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ha_monitor.text.grammar import HIDDEN
from ha_monitor.text.secrets import SecretFinder
from ha_monitor.text.values import Effort

_MAX_DEPTH = 8
"""Levels of the values of a custom event that are kept."""
_MOST_HIDDEN = 8
"""How many times longer than the kept text the searched text may be: redaction shortens secrets."""


class Redactor:
    """Redacts known patterns of secrets, and the values of keys whose names contain one of the given parts. Truncates
    long texts.
    """

    def __init__(self, key_parts: Iterable[str], max_length: int) -> None:
        self._max_length = max_length
        self._secrets = SecretFinder(key_parts)
        self.effort = Effort()
        """Effort left for the next texts. Once it is used up, a text that may contain a secret is hidden as a whole."""

    def text(self, value: object, max_length: int | None = None) -> str:
        """The redacted text of a value, truncated to `max_length` characters."""
        text = value if isinstance(value, str) else str(value)
        limit = max_length or self._max_length
        # A text of megabytes is not searched to the end, since only its beginning is kept.
        whole, text = len(text), text[: limit * _MOST_HIDDEN]
        text = self._secrets.hide(text, self.effort)
        if whole <= limit * _MOST_HIDDEN and len(text) <= limit:
            return text
        return text[: limit - 1] + "…"

    def tail(self, value: object, max_length: int) -> str:
        """The redacted end of a text, of at most `max_length` characters."""
        text = value if isinstance(value, str) else str(value)
        if len(text) > 2 * max_length:
            # Search more than is kept, from the beginning of a line, so that a key stays with its value.
            begin = len(text) - 2 * max_length
            begin = text.find("\n", begin, begin + max_length) + 1 or begin
            text = text[begin:]
        return self._secrets.hide(text, self.effort)[-max_length:]

    def value(self, value: Any, depth: int = 0) -> Any:
        """A redacted copy of a JSON value: texts are truncated, and what is nested too deeply is replaced by `…`."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            if depth >= _MAX_DEPTH:
                return "…"
            return {
                self.text(key): HIDDEN if self._secrets.names_secret(key) else self.value(inner, depth + 1)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return "…" if depth >= _MAX_DEPTH else [self.value(inner, depth + 1) for inner in value]
        return value


def few(value: Any, most: int) -> Any:
    """A copy of a JSON value that keeps the first `most` values, in their order. The others, and values nested deeper
    than `_MAX_DEPTH`, are left out.
    """
    left = most

    def kept(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if type(value) is dict:
            items = value.items() if depth < _MAX_DEPTH else ()
            return {key: kept(inner, depth + 1) for key, inner in items if left > 0}
        if type(value) is list:
            return [kept(inner, depth + 1) for inner in (value if depth < _MAX_DEPTH else ()) if left > 0]
        return value

    return kept(value, 0)
