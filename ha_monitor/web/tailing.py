"""The tail for programs and pages: a question waits until there is something new, without holding a connection.

A cursor contains everything that a server needs to continue, so any server can, even after a restart. Clients at the
same cursor with the same filter share one read.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError, UsageError
from ha_monitor.outputs.line import iso_time
from ha_monitor.query.announced import line_of, matches, task_of
from ha_monitor.query.items import GapItem, time_or_null
from ha_monitor.query.language import parse_filter
from ha_monitor.store.tail import TailGap
from ha_monitor.web.answer_cache import mark_retrieved
from ha_monitor.web.endpoints import TailDocument
from ha_monitor.web.parameters import Parameters, words_of
from ha_monitor.web.reader_pool import ReaderPool
from ha_monitor.web.view import View

POLL_INTERVAL = 0.5
"""Seconds between two looks at the end of the tail; one look serves all who wait."""
MAX_WAIT = 20.0
"""Seconds."""
SHARED_FOR = 0.3
"""Seconds for which the result of a read is shared."""


class Tailing:
    """Answers questions about the tail. Used only in the server's thread."""

    def __init__(self, readers: ReaderPool, clock: Clock) -> None:
        self._readers = readers
        self._clock = clock
        self._waiting = 0
        self._stopped = False
        self._looking: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        """Set by the next look."""
        self._end = ""
        """The cursor at the end of the tail, as of the last look."""
        self._reads: dict[tuple[str, str], tuple[asyncio.Task[TailDocument], float]] = {}
        """Current and recent reads, by cursor and filter, with the time until which each is shared."""

    async def answer(self, asked: Parameters) -> bytes:
        """The document, as soon as there is anything in it, or after the time to wait.

        :raises UsageError: if the cursor or the filter cannot be read.
        :raises StoreUnavailable: if the store is unavailable.
        """
        cursor, words = asked.text("cursor"), asked.given.get("filter", "")
        parse_filter(words_of(words), self._clock.time())
        until = self._clock.monotonic() + min(MAX_WAIT, asked.seconds("wait"))
        document = await self._read(cursor, words)
        while cursor and not (document.lines or document.gaps):
            left = until - self._clock.monotonic()
            if left <= 0 or self._stopped or not await self._wait_for_growth(cursor, left):
                break
            # If nothing new matches the filter, continue after it.
            cursor = document.cursor
            document = await self._read(cursor, words)
        return msgspec.json.encode(document)

    def stop(self) -> None:
        """Answer all who wait: they continue at another server."""
        self._stopped = True
        self._looked.set()

    async def _read(self, cursor: str, words: str) -> TailDocument:
        now = self._clock.monotonic()
        for key in [key for key, (task, end) in self._reads.items() if task.done() and end <= now]:
            del self._reads[key]
        known = self._reads.get((cursor, words))
        if known is None:
            reading = asyncio.ensure_future(self._readers.ask(partial(_read, cursor, words)))
            reading.add_done_callback(mark_retrieved)
            known = self._reads[cursor, words] = (reading, now + SHARED_FOR)
        return await asyncio.shield(known[0])

    async def _wait_for_growth(self, cursor: str, within: float) -> bool:
        """Wait until the tail has grown beyond a cursor. Returns whether it has, as far as is known."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        self._waiting += 1
        try:
            async with asyncio.timeout(within):
                while True:
                    await self._looked.wait()
                    if self._stopped:
                        return False
                    if _place(self._end) != _place(cursor):
                        return True
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    async def _look(self) -> None:
        """Look repeatedly where the tail ends, as long as anybody waits."""
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            if not self._waiting:
                return
            with suppress(HaMonitorError):  # the clients that wait ask again, and get the error then
                self._end = await self._readers.ask(_end)
                looked, self._looked = self._looked, asyncio.Event()
                looked.set()


def _place(cursor: str) -> str:
    """The position of a cursor in the tail, without its counts."""
    return cursor.partition(".")[0]


def _end(view: View) -> str:
    tail = view.tail()
    tail.begin()
    return tail.cursor


def _read(cursor: str, words: str, view: View) -> TailDocument:
    tail, now = view.tail(), view.now()
    wanted = parse_filter(words_of(words), now)
    if not cursor:
        tail.begin()
        return TailDocument(iso_time(now), tail.cursor, False, [], [])
    try:
        tail.resume(cursor)
    except ValueError as error:
        raise UsageError(f"cursor: {error}") from None
    found = tail.read(0.0)
    gaps = [_gap_item(one) for one in found if isinstance(one, TailGap)]
    lines = []
    for one in found:
        if not isinstance(one, TailGap) and matches(wanted, task_of(one), one):
            lines.append(msgspec.Raw(line_of(one, view.config.node_id).rstrip()))
    return TailDocument(iso_time(now), tail.cursor, bool(found), gaps, lines)


def _gap_item(gap: TailGap) -> GapItem:
    count = "events" if gap.missing is None else f"{gap.missing:,} event{'' if gap.missing == 1 else 's'}"
    return GapItem(f"{count} that were trimmed before they could be read", time_or_null(gap.since), iso_time(gap.until))
