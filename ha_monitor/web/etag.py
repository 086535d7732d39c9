"""Detects whether an answer has changed: a hash of it, without what changes only because time passes."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

_TIME = re.compile(rb"<time\b([^>]*)>[^<]*</time>")
_CLOCK = b"data-clock"
_OF_THE_CLOCK = ("time", "searched")
"""Keys of a document: both say when it was asked for."""


def of_page(html: bytes) -> str:
    """The tag of a page. It ignores the texts of `<time>` elements, and all of those with `data-clock`."""
    return _etag(_TIME.sub(lambda found: b"" if _CLOCK in found[1] else found[1], html))


def of_document(document: Any) -> str:
    """The tag of a document for programs. Fractions, such as rates and durations, count to two digits: otherwise they
    would change merely by the clock.
    """
    plain = msgspec.to_builtins(document)
    if isinstance(plain, dict):
        plain = {name: value for name, value in plain.items() if name not in _OF_THE_CLOCK}
    return _etag(msgspec.json.encode(_rounded(plain)))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.1e}"
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _etag(content: bytes) -> str:
    # A weak tag: equal tags mean equal content, though not byte for byte.
    return f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'


def is_current(header: str | None, tag: str) -> bool:
    """Whether the client already has the answer with this tag, according to its If-None-Match header."""
    return header is not None and tag in (part.strip() for part in header.split(","))
