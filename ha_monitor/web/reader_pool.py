"""A limited pool of connections to the store, each in its own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import HaMonitorError, StoreUnavailable
from ha_monitor.store.reader import StoreReader
from ha_monitor.threads import CallThread, Threads, ThreadUnavailable
from ha_monitor.web.answer_cache import mark_retrieved
from ha_monitor.web.view import View

POOL_SIZE = 3
"""Connections at once."""
MAX_QUESTIONS = 64
"""Questions at once, including those that are being answered."""
TIME_LIMIT = 10.0
"""Seconds after which the wait for an answer is given up."""
Result = TypeVar("Result")


class TooManyQuestions(HaMonitorError):
    """There are more questions than can be answered."""


class ReaderPool:
    """Answers questions, a few at once. Used only in the server's thread."""

    def __init__(self, config: Config, clock: Clock, threads: Threads, count: int = POOL_SIZE) -> None:
        self._free = [_Reader(config, clock, threads.calls(f"reader-{number}")) for number in range(count)]
        self._slots = asyncio.Semaphore(count)
        """The free connections. Callers get them in order; the turn of a caller that gave up goes to the next one."""
        self._waiting = 0

    async def ask(self, question: Callable[[View], Result]) -> Result:
        """The answer to a question, from a thread.

        :raises StoreUnavailable: if the store is unavailable, or takes too long.
        :raises TooManyQuestions: if there are too many questions, or the system allows no thread for them.
        """
        if self._waiting >= MAX_QUESTIONS:
            raise TooManyQuestions("too many questions at once; ask again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return await self._answer(question)
        except TimeoutError:
            raise StoreUnavailable(f"the store gave no answer within {TIME_LIMIT:g} s") from None
        except ThreadUnavailable as error:
            raise TooManyQuestions(f"{error}; ask again in a moment") from None
        finally:
            self._waiting -= 1

    async def _answer(self, question: Callable[[View], Result]) -> Result:
        await self._slots.acquire()
        reader = self._free.pop()
        done = reader.thread.submit(partial(reader.answer, question))
        asking = asyncio.ensure_future(asyncio.wrap_future(done))
        # Giving up waiting does not free the thread: only the end of its read does.
        asking.add_done_callback(partial(self._put_back, reader))
        return await asyncio.shield(asking)

    def _put_back(self, reader: _Reader, done: asyncio.Future[Any]) -> None:
        mark_retrieved(done)
        self._free.append(reader)
        self._slots.release()


class _Reader:
    """One connection and its thread."""

    def __init__(self, config: Config, clock: Clock, thread: CallThread) -> None:
        self.thread = thread
        self._config = config
        self._clock = clock
        self._reader = StoreReader(config.store, config.node_id)
        self._is_connected = False

    def answer(self, question: Callable[[View], Result]) -> Result:
        """The answer; connects if necessary. A connection that broke meanwhile is re-established once."""
        view = View(self._reader, self._config, self._clock)
        if self._is_connected:
            try:
                self._reader.verify_primary()
                return question(view)
            except StoreUnavailable:
                self._is_connected = False
        self._reader.connect()
        self._is_connected = True
        try:
            return question(view)
        except StoreUnavailable:
            self._is_connected = False
            raise
