"""From the bytes of one message to a JSON value: nothing here takes more memory or time than the limits allow."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from typing import Any, Protocol

from ha_monitor.events.facts import BadEvent

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a body, expanded if it was compressed. Celery cuts the texts in its events and sends a few dozen events in
one message, so a larger body is none of its making."""
MAX_VALUES = 250_000
"""Values in a body. Celery's events take 20 bytes a value or more; each takes up to 100 bytes once it is decoded."""
SMALL_BODY = 2 * MAX_VALUES
"""Bytes of a body that cannot hold more: a value takes two at least, with its comma."""
_MAX_QUOTES = 4 * MAX_VALUES
_DECODER_MEMORY = 16 * 1024 * 1024
"""Bytes. What an LZMA stream asks for is in its header, and may be gigabytes."""
_MAX_DIGITS = 25
"""Of an integer. Python takes a second for a million of them, or refuses."""


class _Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decompressed(body: bytes, compression: str, limit: int = MAX_BODY) -> bytes:
    """A body as it was before kombu compressed it.

    :param compression: the header of that name, such as `application/x-gzip`.
    :param limit: most bytes. No more are ever expanded.
    :raises BadEvent: if it is larger, broken, or compressed in a way that is not supported.
    """
    decompressor = _decompressor(compression)
    try:
        # One byte more than the limit tells that there is more.
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
        # kombu calls zlib's format by the name of gzip; this reads either.
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    if kind in ("application/x-bz2", "bzip2", "bzip"):
        return bz2.BZ2Decompressor()
    if kind in ("application/x-lzma", "lzma", "xz"):
        return lzma.LZMADecompressor(memlimit=_DECODER_MEMORY)
    raise BadEvent(f"compression {compression[:100]!r} is not supported")


def check_size(body: bytes, limit: int = MAX_BODY) -> None:
    """Refuse a body that is too large to be read, or would become so. Needless up to `SMALL_BODY`.

    :param limit: most bytes.
    :raises BadEvent: if it is.
    """
    size = len(body)
    if size > limit:
        raise BadEvent(f"body of {size} bytes is larger than {limit}")
    # Commas and brackets in texts count at first: mostly there are few.
    if size > SMALL_BODY and _values(body) > MAX_VALUES and not _is_mostly_text(body):
        raise BadEvent(f"body of {size} bytes holds more than {MAX_VALUES} values")


def _values(body: bytes) -> int:
    """How many values there are outside texts, at most."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_mostly_text(body: bytes) -> bool:
    """Whether it holds few values, and the rest of what looks like them is inside texts."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > _MAX_QUOTES:
        return False
    return _values(b"".join(plain.split(b'"')[::2])) <= MAX_VALUES


def lenient_json(body: bytes) -> Any:
    """JSON as Python writes it, which msgspec refuses: NaN, Infinity, lone surrogates, integers without an end.

    :raises BadEvent: if it is not even that.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"), parse_int=_integer)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadEvent(f"body is not JSON: {reason}"[:200]) from None


def _integer(digits: str) -> int | float:
    # One endless number must not cost the events beside it.
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")
