"""The text that identifies a task. Celery's ids are texts; an application may use other values as ids."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any
from uuid import UUID

MAX_ID = 255
"""Maximum characters of an id."""
MAX_HASHED_ID = 4096
"""Maximum characters of an id that is still shortened to `MAX_ID`. Such an id is complete even in a body whose long
texts are truncated."""
_KOMBU_OBJECT = frozenset({"__type__", "__value__"})
_DIGEST = 16
_KEPT = MAX_ID - 2 * _DIGEST - 1


def text_of_id(value: Any) -> str | None:
    """The id as text, the same for each form in which an id is sent; None if the value is not a usable id.

    A `UUID` becomes `str` of it, and a number its digits. A text that is too long becomes its beginning and a hash of
    the whole, so that two ids do not become the same text.
    """
    if type(value) is dict and value.keys() == _KOMBU_OBJECT:
        value = _plain(value["__type__"], value["__value__"])
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        value = repr(value)
    if type(value) is not str or not 0 < len(value) <= MAX_HASHED_ID:
        return None
    if len(value) <= MAX_ID:
        return value
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    return f"{value[:_KEPT]}…{digest}"


def _plain(kind: Any, value: Any) -> Any:
    """The value that kombu has wrapped in a JSON object."""
    if kind != "uuid":
        return value
    digits = value.get("hex") if type(value) is dict else value
    try:
        return str(UUID(digits)) if type(digits) is str else None
    except ValueError:
        return None
