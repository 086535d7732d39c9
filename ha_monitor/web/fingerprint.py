"""What tells whether an answer has changed: a hash of it without what says no more than that time goes by."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

_TIME = re.compile(rb"<time\b([^>]*)>[^<]*</time>")
_CLOCK = b"data-clock"
_OF_THE_CLOCK = ("time", "searched")
"""Of a document: both tell when it was asked."""


def of_page(html: bytes) -> str:
    """The tag of a page. The texts of `<time>` elements do not count, and of those with `data-clock` nothing does."""
    return _tag(_TIME.sub(lambda found: b"" if _CLOCK in found[1] else found[1], html))


def of_document(document: Any) -> str:
    """The tag of a document for programs. Fractions, such as rates and durations, count to two digits: else they would
    change by the clock alone.
    """
    plain = msgspec.to_builtins(document)
    if isinstance(plain, dict):
        plain = {name: value for name, value in plain.items() if name not in _OF_THE_CLOCK}
    return _tag(msgspec.json.encode(_rounded(plain)))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.1e}"
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _tag(content: bytes) -> str:
    # A weak one: two that have it in common mean the same, byte for byte or not.
    return f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'


def is_known(header: str | None, tag: str) -> bool:
    """Whether the client has what the tag stands for, by its field If-None-Match."""
    return header is not None and tag in (part.strip() for part in header.split(","))
