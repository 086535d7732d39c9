"""Decodes the bytes of one message into a JSON value, within fixed limits of memory and time."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from typing import Any, Protocol

from ha_monitor.events.facts import BadEvent

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a body, expanded if it was compressed. Celery truncates the texts in its events and sends a few dozen
events in one message, so a larger body is not Celery's."""
MAX_VALUES = 250_000
"""Values in a body. Celery's events take 20 bytes a value or more; each takes up to 100 bytes once it is decoded."""
SMALL_BODY = 2 * MAX_VALUES
"""A body of fewer bytes cannot hold more values: each takes at least two bytes, with its comma."""
_MAX_QUOTES = 4 * MAX_VALUES
_DECODER_MEMORY = 16 * 1024 * 1024
"""Bytes. An LZMA stream requests memory in its header, possibly gigabytes."""
_MAX_DIGITS = 25
"""Digits of an integer. Python takes a second for a million of them, or refuses."""


class _Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decompressed(body: bytes, compression: str, limit: int = MAX_BODY) -> bytes:
    """Decompress a body that kombu compressed.

    :param compression: the header of that name, such as `application/x-gzip`.
    :param limit: most bytes to expand.
    :raises BadEvent: if it is larger, broken, or compressed in a way that is not supported.
    """
    decompressor = _decompressor(compression)
    try:
        # One byte more than the limit shows that it is exceeded.
        expanded = decompressor.decompress(body, limit + 1)
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError, MemoryError) as error:
        raise BadEvent(f"the body is not {compression[:100]}: {str(error)[:100]}") from None
    if len(expanded) > limit:
        raise BadEvent(f"body of {len(body)} bytes expands to more than {limit}")
    if not decompressor.eof:
        raise BadEvent(f"the body is not {compression[:100]}: it is cut off")
    return expanded


def _decompressor(compression: str) -> _Decompressor:
    kind = compression.lower()
    if kind in ("application/x-gzip", "gzip", "zlib"):
        # kombu uses zlib's format under the name gzip; this reads both.
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    if kind in ("application/x-bz2", "bzip2", "bzip"):
        return bz2.BZ2Decompressor()
    if kind in ("application/x-lzma", "lzma", "xz"):
        return lzma.LZMADecompressor(memlimit=_DECODER_MEMORY)
    raise BadEvent(f"compression {compression[:100]!r} is not supported")


def check_size(body: bytes, limit: int = MAX_BODY) -> None:
    """Refuse a body that is too large, or would be once decoded. Not needed up to `SMALL_BODY`.

    :param limit: most bytes.
    :raises BadEvent: if it is.
    """
    size = len(body)
    if size > limit:
        raise BadEvent(f"body of {size} bytes is larger than {limit}")
    # First count those inside texts, too: usually there are few.
    if size > SMALL_BODY and _values(body) > MAX_VALUES and not _is_mostly_text(body):
        raise BadEvent(f"body of {size} bytes holds more than {MAX_VALUES} values")


def _values(body: bytes) -> int:
    """Upper bound of the number of values."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_mostly_text(body: bytes) -> bool:
    """Whether most of what looks like values is inside texts."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > _MAX_QUOTES:
        return False
    return _values(b"".join(plain.split(b'"')[::2])) <= MAX_VALUES


def lenient_json(body: bytes) -> Any:
    """Decode JSON that Python writes and msgspec refuses: NaN, Infinity, lone surrogates, endless integers.

    :raises BadEvent: if it is not JSON of that kind either.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"), parse_int=_integer)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadEvent(f"body is not JSON: {reason}"[:200]) from None


def _integer(digits: str) -> int | float:
    # One endless number must not affect the other events.
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")
