"""Converts a MessagePack body (`event_serializer = "msgpack"`) to JSON, so that it is decoded like any other body.

Values that JSON cannot hold become text, or null.
"""

from __future__ import annotations

import msgspec

from ha_monitor.events.body import MAX_VALUES
from ha_monitor.events.facts import BadEvent

# The first byte of a value → how many bytes follow it; for texts, binaries and extensions: how many hold the length.
_FIXED = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 0),
    **{0xCA: 4, 0xCB: 8},
    **{0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8},
    **{0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17},
}
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = frozenset({0xC7, 0xC8, 0xC9})
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""First byte → how many bytes hold the number of entries, and how many values each entry has."""

_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.json.Encoder(enc_hook=str).encode


def json_of(body: bytes) -> bytes:
    """The body as JSON.

    :raises BadEvent: if it is not MessagePack, or holds too much.
    """
    _check_values(body)
    try:
        return _encode(_decode(body))
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadEvent(f"body is not MessagePack: {reason}"[:200]) from None


def _check_values(body: bytes) -> None:
    """Refuse a body that would take too much memory once decoded: a header of five bytes can announce a list of
    gigabytes, and each list inside it can do the same.
    """
    size, place, values, announced = len(body), 0, 0, 1
    while place < size:
        values += 1
        if values > MAX_VALUES:
            raise BadEvent(f"body of {size} bytes holds more than {MAX_VALUES} values")
        place, entries = _next(body, place)
        announced += entries
        if announced > size:
            raise BadEvent("body is not MessagePack: it is cut off")


def _next(body: bytes, place: int) -> tuple[int, int]:
    """Where the value at a place ends (a container: its header), and how many values it announces after that."""
    first = body[place]
    place += 1
    if first < 0x80 or first >= 0xE0:
        return place, 0
    if first < 0xA0:
        return place, (first & 0x0F) * (2 if first < 0x90 else 1)
    if first < 0xC0:
        return place + (first & 0x1F), 0
    if first in _SIZED:
        width = _SIZED[first]
        return place + width + _number(body, place, width) + (first in _EXTENSIONS), 0
    if first in _CONTAINERS:
        width, each = _CONTAINERS[first]
        return place + width, each * _number(body, place, width)
    if first in _FIXED:
        return place + _FIXED[first], 0
    raise BadEvent("body is not MessagePack: it contains an unused type byte")


def _number(body: bytes, place: int, width: int) -> int:
    return int.from_bytes(body[place : place + width], "big")
