"""How bytes travel to the scripts, and how JSON in Redis is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def as_lua_string(data: bytes) -> msgspec.Raw:
    """Bytes in the only MessagePack type for them that Redis can read: its cmsgpack has no `bin`, but takes a
    `str` that is not UTF-8.
    """
    size = len(data)
    if size < 32:
        return msgspec.Raw(bytes((0xA0 | size,)) + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


def bytes_of(packed: msgspec.Raw) -> bytes:
    """What `as_lua_string` was given."""
    raw = bytes(packed)
    return raw[5:] if raw[0] == 0xDB else raw[1:]


def json_object(raw: bytes | str | None) -> dict[str, Any]:
    """A JSON object in Redis; empty if there is none, or if it cannot be read."""
    try:
        value = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
