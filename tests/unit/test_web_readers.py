"""The pool of connections that answers what the pages ask, and the tail, which shares what it reads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import pytest

from ha_monitor.config.schema import Config
from ha_monitor.errors import StoreUnavailable
from ha_monitor.threads import CallThread, Threads, ThreadUnavailable
from ha_monitor.web import reader_pool
from ha_monitor.web.endpoints import TAIL
from ha_monitor.web.parameters import parse
from ha_monitor.web.reader_pool import MAX_QUESTIONS, POOL_SIZE, ReaderPool, TooManyQuestions
from ha_monitor.web.tailing import Tailing
from tests.unit.builders import TurnedClock


class Held:
    """Threads of a store that hangs: each question is done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[Future[Any]] = []

    def calls(self, name: str) -> CallThread:
        return cast(CallThread, self)

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        self.begun.append(Future())
        return self.begun[-1]

    def fail(self, error: Exception | None = None) -> None:
        self.begun.pop().set_exception(error or StoreUnavailable("the store is away"))

    def answer(self, number: int) -> None:
        self.begun[number].set_result(number)


def made(held: Held) -> ReaderPool:
    return ReaderPool(Config(), TurnedClock(), cast(Threads, held))


async def asked(pool: ReaderPool, count: int = 1) -> list[asyncio.Task[Any]]:
    """So many questions, each as far as it gets."""
    found = [asyncio.ensure_future(pool.ask(lambda _: None)) for _ in range(count)]
    await turns()
    return found


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_where_no_thread_can_be_started_it_is_said_to_ask_again() -> None:
    """Given a system that allows the process no further thread, whoever asks learns to ask again, and the next question
    is answered."""

    async def work() -> None:
        held = Held()
        pool = made(held)
        (first,) = await asked(pool)
        held.fail(ThreadUnavailable("the thread reader-0 cannot be started: can't start new thread"))
        with pytest.raises(
            TooManyQuestions, match=r"^the thread reader-0 cannot be started: .*; ask again in a moment$"
        ):
            await first
        (second,) = await asked(pool)
        held.answer(0)
        assert await second == 0

    asyncio.run(work())


def test_who_gave_up_waiting_takes_no_turn_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a store that hung until all who asked were told so, and that answers again, whoever asks then has a
    connection at once if one is free, and else the first that is."""
    held = Held()

    async def run() -> list[int]:
        pool = made(held)
        with monkeypatch.context() as patched:
            patched.setattr(reader_pool, "TIME_LIMIT", 0.0)
            told = await asyncio.gather(*await asked(pool, POOL_SIZE + 40), return_exceptions=True)
        assert {type(one) for one in told} == {StoreUnavailable}
        for number in range(POOL_SIZE):  # the store is back
            held.answer(number)
        await turns()
        now = await asked(pool, 4 * POOL_SIZE)
        for number in range(POOL_SIZE, 5 * POOL_SIZE):
            assert len(held.begun) == min(number + POOL_SIZE, 5 * POOL_SIZE)
            held.answer(number)
            await turns()
        return [one.result() for one in now]

    assert asyncio.run(run()) == list(range(POOL_SIZE, 5 * POOL_SIZE))


@pytest.mark.parametrize("moment", range(6))
def test_a_turn_that_comes_as_its_reader_gives_up_goes_to_the_next(moment: int) -> None:
    """Given one who gives up about when a connection becomes free for him, the next one has it, then or after him."""
    held = Held()

    async def run() -> tuple[bool, int]:
        pool = made(held)
        *_, leaving, staying = await asked(pool, POOL_SIZE + 2)
        held.answer(0)
        for _ in range(moment):
            await asyncio.sleep(0)
        leaving.cancel()
        await turns()
        while len(held.begun) > POOL_SIZE and not held.begun[-1].done():  # the other connections hang
            held.answer(len(held.begun) - 1)
            await turns()
        return leaving.cancelled(), staying.done()

    assert asyncio.run(run()) == (True, True)


def test_more_than_can_be_answered_is_refused_at_once() -> None:
    """Given as many who wait as may, the next one is told to ask again; once one has his answer, another may wait."""
    held = Held()

    async def run() -> tuple[int, bool]:
        pool = made(held)
        waiting = await asked(pool, MAX_QUESTIONS)
        with pytest.raises(TooManyQuestions):
            await pool.ask(lambda _: None)
        held.answer(0)
        await turns()
        (last,) = await asked(pool)
        for one in (*waiting[1:], last):
            one.cancel()
        await turns()
        return waiting[0].result(), last.cancelled()

    assert asyncio.run(run()) == (0, True)


def test_a_tail_whose_reader_is_gone_may_fail_without_a_word() -> None:
    """Given a reader who goes away while the store is asked, and a store that fails then, no internal error is
    reported."""
    held, reported = Held(), []

    async def run() -> bool:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["message"]))
        tailing = Tailing(made(held), TurnedClock())
        gone = asyncio.ensure_future(tailing.answer(parse("cursor=1", "", TAIL.parameters)))
        await turns()
        gone.cancel()
        await turns()
        held.fail()
        await turns()
        del tailing
        gc.collect()
        await turns()
        return gone.cancelled()

    assert asyncio.run(run())
    assert reported == []
