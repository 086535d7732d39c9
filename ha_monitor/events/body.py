"""Decodes the bytes of one message into a JSON value, within fixed limits of memory and time."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from typing import Any, Protocol

from ha_monitor.events.facts import BadEvent

MAX_BODY = 4 * 1024 * 1024
"""Maximum bytes of a body, after decompression. Celery truncates arguments and results in its events and sends a few
dozen events in one message, so a larger body is not Celery's, unless exceptions are long (`long_texts.py`)."""
MAX_VALUES = 250_000
"""Maximum values in a body. A value in Celery's events takes at least 20 bytes, and up to 100 bytes once decoded."""
SMALL_BODY = 2 * MAX_VALUES
"""A body of fewer bytes cannot exceed `MAX_VALUES`: with its comma, each value takes at least two bytes."""
_MAX_QUOTES = 4 * MAX_VALUES
_DECODER_MEMORY = 16 * 1024 * 1024
"""Maximum bytes. An LZMA stream requests memory in its header, possibly gigabytes."""
_MAX_DIGITS = 25
"""Maximum digits of an integer. Python takes a second to read a million digits, or refuses to."""


class _Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decompressed(body: bytes, compression: str, limit: int = MAX_BODY) -> bytes:
    """Decompress a body that kombu compressed.

    :param compression: the `compression` header, such as `application/x-gzip`.
    :param limit: maximum bytes after decompression.
    :raises BadEvent: if the body is larger or broken, or the compression is not supported.
    """
    decompressor = _decompressor(compression)
    try:
        # One byte beyond the limit shows that the limit is exceeded.
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
        # kombu writes zlib's format under the name gzip; this object reads both formats.
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    if kind in ("application/x-bz2", "bzip2", "bzip"):
        return bz2.BZ2Decompressor()
    if kind in ("application/x-lzma", "lzma", "xz"):
        return lzma.LZMADecompressor(memlimit=_DECODER_MEMORY)
    raise BadEvent(f"compression {compression[:100]!r} is not supported")


def check_size(body: bytes, limit: int = MAX_BODY) -> None:
    """Refuse a body that is too large, or would be too large once decoded. Not needed up to `SMALL_BODY`.

    :param limit: maximum bytes.
    :raises BadEvent: if the body is too large.
    """
    size = len(body)
    if size > limit:
        raise BadEvent(f"body of {size} bytes is larger than {limit}")
    # First count quickly: this includes commas and brackets inside texts, of which there are usually few.
    if size > SMALL_BODY and _values(body) > MAX_VALUES and not _is_mostly_text(body):
        raise BadEvent(f"body of {size} bytes holds more than {MAX_VALUES} values")


def _values(body: bytes) -> int:
    """An upper bound of the number of values."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_mostly_text(body: bytes) -> bool:
    """Whether the number of values is within the limit if the contents of texts are not counted."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > _MAX_QUOTES:
        return False
    return _values(b"".join(plain.split(b'"')[::2])) <= MAX_VALUES


def lenient_json(body: bytes) -> Any:
    """Decode JSON that Python can write but msgspec refuses: NaN, Infinity, lone surrogates, very long integers.

    :raises BadEvent: if the body is not even that.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"), parse_int=_integer)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadEvent(f"body is not JSON: {reason}"[:200]) from None


def _integer(digits: str) -> int | float:
    # One very long number must not affect the other events.
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")
