"""Answers that are shared by all who ask the same within a second or two."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from typing import Any, NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.http.exchange import Reply
from ha_monitor.web.fingerprint import is_known

FRESH = 2.0
"""Seconds for which an answer is shared at least."""
MOST_FRESH, TIMES = 10.0, 15.0
"""What costs much is shared for so many times the seconds of a core that all answers cost that are asked for, at most
for so many seconds: so they take a fifteenth of a core together, however many look: a tenth with the sending.
"""
LONG, A_MOMENT = 0.1, 5.0
"""Seconds. Nobody waits for one that takes longer, if there is one that was shared until a moment ago: that is sent
once more while the next is made.
"""
FAILED_FOR = 0.5
"""Seconds for which it is shared that there is no answer."""
MOST_KEPT = 4_000_000
"""Bytes of all answers that are kept."""
LEAST_COMPRESSED = 500
"""Bytes: shorter ones fit into a packet as they are."""
GZIP, LEVEL = 16 + zlib.MAX_WBITS, 5
"""The format, for zlib; and how hard it tries."""


class Answered(NamedTuple):
    """An answer as it can be sent to anybody."""

    status: HTTPStatus
    type: str
    body: bytes
    is_compressed: bool
    """Whether that is by gzip: the few who do not take it have it unpacked."""
    tag: str = ""
    """Empty for one that is always sent."""
    more: tuple[tuple[str, str], ...] = ()
    """Further header fields."""
    cost: float = 0.0
    """Seconds of a core that it took to make."""


def answered(
    status: HTTPStatus, content_type: str, body: bytes, tag: str = "", more: tuple[tuple[str, str], ...] = ()
) -> Answered:
    """An answer, compressed once for all."""
    is_long = len(body) >= LEAST_COMPRESSED
    if is_long:
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        body = packer.compress(body) + packer.flush()
    return Answered(status, content_type, body, is_long, tag, more)


def reply_of(answer: Answered, if_none_match: str | None, accept_encoding: str) -> Reply:
    """What one client gets: nothing but the status if it has the same already."""
    headers = [("Vary", "Accept-Encoding"), *answer.more]
    if not any(name == "Cache-Control" for name, _ in answer.more):
        headers.append(("Cache-Control", "private, no-cache" if answer.tag else "no-store"))
    if answer.tag:
        headers.append(("ETag", answer.tag))
        if is_known(if_none_match, answer.tag):
            return Reply(HTTPStatus.NOT_MODIFIED, b"", tuple(headers))
    headers.append(("Content-Type", answer.type))
    if not answer.is_compressed:
        return Reply(answer.status, answer.body, tuple(headers))
    if accepts_gzip(accept_encoding):
        return Reply(answer.status, answer.body, (*headers, ("Content-Encoding", "gzip")))
    return Reply(answer.status, zlib.decompress(answer.body, GZIP), tuple(headers))


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip, by its field Accept-Encoding."""
    for part in accept_encoding.lower().split(","):
        name, _, rest = part.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class _Kept(NamedTuple):
    """An answer, and until when it is shared: as the latest, and while the next one is made."""

    answer: Answered
    fresh_until: float
    usable_until: float


def heard(made: asyncio.Future[Any]) -> None:
    """Take note of what was made for several: if it failed, and nobody waits any more, that is no error of ours."""
    if not made.cancelled():
        made.exception()


class Shared:
    """Makes each answer once for all who ask for it meanwhile. Used in the thread of the server alone."""

    def __init__(self, clock: Clock, most: int = MOST_KEPT) -> None:
        self._clock = clock
        self._most = most
        self._size = 0
        self._kept: dict[Hashable, _Kept] = {}
        """By question; the latest last."""
        self._coming: dict[Hashable, asyncio.Task[Answered]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Answered]], fresh: float = FRESH) -> Answered:
        """The answer to a question.

        :param key: what is asked.
        :param make: makes the answer; what it raises, all get who wait.
        :param fresh: seconds for which it is shared.
        """
        kept, now = self._kept.get(key), self._clock.monotonic()
        if kept is not None and now < kept.fresh_until:
            return kept.answer
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = asyncio.ensure_future(self._make(key, make, fresh))
            coming.add_done_callback(heard)
        if kept is not None and now < kept.usable_until:
            return kept.answer
        # A client that goes away takes nothing from the others.
        return await asyncio.shield(coming)

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[Answered]], fresh: float) -> Answered:
        began = self._clock.monotonic()
        try:
            answer = await make()
        finally:
            del self._coming[key]
        now = self._clock.monotonic()
        took = now - began
        if answer.status is HTTPStatus.OK:
            others = sum(one.answer.cost for of, one in self._kept.items() if of != key and one.usable_until > began)
            lasts = max(fresh, min(MOST_FRESH, TIMES * (answer.cost + others)))
            usable = lasts + A_MOMENT if took > LONG else lasts
        else:
            lasts = usable = min(fresh, FAILED_FOR)
        self._drop(key)
        self._kept[key] = _Kept(answer, now + lasts, now + usable)
        self._size += len(answer.body)
        for oldest in list(self._kept):
            if self._size <= self._most and self._kept[oldest].usable_until > now:
                break
            self._drop(oldest)
        return answer

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= len(kept.answer.body)
