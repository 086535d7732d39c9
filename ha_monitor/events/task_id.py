"""The text by which a task is known. Celery's ids are texts; an application may give others."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any
from uuid import UUID

MAX_ID = 255
"""Characters of an id."""
LONGEST_ID = 4096
"""Characters of an id that is still made one of `MAX_ID`: it is whole even in a body whose long texts are truncated."""
_KOMBU_OBJECT = frozenset({"__type__", "__value__"})
_DIGEST = 16
_KEPT = MAX_ID - 2 * _DIGEST - 1


def text_of_id(value: Any) -> str | None:
    """The id as text, the same for each form in which an id is sent; None if it is none.

    A `UUID` is what `str` makes of it, a number its digits. Of a text that is too long, the beginning is kept, with a
    hash of the whole: no two ids become one.
    """
    if type(value) is dict and value.keys() == _KOMBU_OBJECT:
        value = _plain(value["__type__"], value["__value__"])
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        value = repr(value)
    if type(value) is not str or not 0 < len(value) <= LONGEST_ID:
        return None
    if len(value) <= MAX_ID:
        return value
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    return f"{value[:_KEPT]}…{digest}"


def _plain(kind: Any, value: Any) -> Any:
    """The value that kombu has put into an object of JSON."""
    if kind != "uuid":
        return value
    digits = value.get("hex") if type(value) is dict else value
    try:
        return str(UUID(digits)) if type(digits) is str else None
    except ValueError:
        return None
