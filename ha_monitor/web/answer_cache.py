"""Answers that are shared by all clients that ask the same within a second or two."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from typing import Any, NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.http.exchange import Reply
from ha_monitor.web.etag import is_current

MIN_FRESH = 2.0
"""Minimum seconds for which an answer is shared."""
MAX_FRESH, COST_FACTOR = 10.0, 15.0
"""Expensive answers are shared for longer: for `COST_FACTOR` times the CPU seconds of all answers that are currently
asked for, at most `MAX_FRESH` seconds. So together they take a fifteenth of a core, however many clients there are; a
tenth including sending.
"""
SLOW_AFTER, STALE_FOR = 0.1, 5.0
"""Seconds. If an answer takes longer than `SLOW_AFTER` to make, and the previous one expired less than `STALE_FOR` ago,
nobody waits: the previous one is sent again while the next is made.
"""
FAILURE_TTL = 0.5
"""Seconds for which a failure to answer is shared."""
MAX_CACHED_BYTES = 4_000_000
"""Bytes of all answers that are kept."""
MIN_COMPRESSED = 500
"""Bytes: shorter answers fit into one packet uncompressed."""
GZIP, LEVEL = 16 + zlib.MAX_WBITS, 5
"""zlib's parameters: the gzip format, and the compression level."""


class EncodedAnswer(NamedTuple):
    """An answer in a form that can be sent to any client."""

    status: HTTPStatus
    type: str
    body: bytes
    is_compressed: bool
    """Whether `body` is compressed with gzip; it is decompressed for the few clients that do not accept gzip."""
    tag: str = ""
    """Empty if the answer is always sent in full."""
    more: tuple[tuple[str, str], ...] = ()
    """Further headers."""
    cost: float = 0.0
    """CPU seconds that it took to make."""


def encode_answer(
    status: HTTPStatus, content_type: str, body: bytes, tag: str = "", more: tuple[tuple[str, str], ...] = ()
) -> EncodedAnswer:
    """An answer, compressed once for all clients."""
    is_long = len(body) >= MIN_COMPRESSED
    if is_long:
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        body = packer.compress(body) + packer.flush()
    return EncodedAnswer(status, content_type, body, is_long, tag, more)


def reply_of(answer: EncodedAnswer, if_none_match: str | None, accept_encoding: str) -> Reply:
    """What one client gets: only the status if it already has the same answer."""
    headers = [("Vary", "Accept-Encoding"), *answer.more]
    if not any(name == "Cache-Control" for name, _ in answer.more):
        headers.append(("Cache-Control", "private, no-cache" if answer.tag else "no-store"))
    if answer.tag:
        headers.append(("ETag", answer.tag))
        if is_current(if_none_match, answer.tag):
            return Reply(HTTPStatus.NOT_MODIFIED, b"", tuple(headers))
    headers.append(("Content-Type", answer.type))
    if not answer.is_compressed:
        return Reply(answer.status, answer.body, tuple(headers))
    if accepts_gzip(accept_encoding):
        return Reply(answer.status, answer.body, (*headers, ("Content-Encoding", "gzip")))
    return Reply(answer.status, zlib.decompress(answer.body, GZIP), tuple(headers))


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client accepts gzip, according to its Accept-Encoding header."""
    for part in accept_encoding.lower().split(","):
        name, _, rest = part.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class _Entry(NamedTuple):
    """An answer, with the times until which it is shared: as current, and while the next one is made."""

    answer: EncodedAnswer
    fresh_until: float
    usable_until: float


def mark_retrieved(made: asyncio.Future[Any]) -> None:
    """Retrieve the outcome of what was made for several clients: if all of them are gone, a failure is not a bug."""
    if not made.cancelled():
        made.exception()  # mark as retrieved: nobody may have waited for it


class AnswerCache:
    """Makes each answer once for all clients that ask for it meanwhile. Used only in the server's thread."""

    def __init__(self, clock: Clock, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._size = 0
        self._entries: dict[Hashable, _Entry] = {}
        """By question; latest last."""
        self._in_progress: dict[Hashable, asyncio.Task[EncodedAnswer]] = {}

    async def get(
        self, key: Hashable, make: Callable[[], Awaitable[EncodedAnswer]], fresh: float = MIN_FRESH
    ) -> EncodedAnswer:
        """The answer to a question.

        :param key: what is asked.
        :param make: makes the answer; what it raises is raised to everybody who waits.
        :param fresh: minimum seconds for which the answer is shared.
        """
        entry, now = self._entries.get(key), self._clock.monotonic()
        if entry is not None and now < entry.fresh_until:
            return entry.answer
        in_progress = self._in_progress.get(key)
        if in_progress is None:
            in_progress = self._in_progress[key] = asyncio.ensure_future(self._make(key, make, fresh))
            in_progress.add_done_callback(mark_retrieved)
        if entry is not None and now < entry.usable_until:
            return entry.answer
        # A client that disconnects must not cancel the answer for the others.
        return await asyncio.shield(in_progress)

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[EncodedAnswer]], fresh: float) -> EncodedAnswer:
        began = self._clock.monotonic()
        try:
            answer = await make()
        finally:
            del self._in_progress[key]
        now = self._clock.monotonic()
        took = now - began
        if answer.status is HTTPStatus.OK:
            others = sum(one.answer.cost for of, one in self._entries.items() if of != key and one.usable_until > began)
            lasts = max(fresh, min(MAX_FRESH, COST_FACTOR * (answer.cost + others)))
            usable = lasts + STALE_FOR if took > SLOW_AFTER else lasts
        else:
            lasts = usable = min(fresh, FAILURE_TTL)
        self._drop(key)
        self._entries[key] = _Entry(answer, now + lasts, now + usable)
        self._size += len(answer.body)
        for oldest in list(self._entries):
            if self._size <= self._max_bytes and self._entries[oldest].usable_until > now:
                break
            self._drop(oldest)
        return answer

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry.answer.body)
