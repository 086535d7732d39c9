"""What is pending stays so until it is done, and handlers do not keep the loop from its duties."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.model import Event
from ha_monitor.outputs.handler_calls import Outcome
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.results import Recovered
from tests.support.threads import no_thread_left, plain_threads
from tests.unit.builders import TurnedClock

TIMEOUT = 30


class FakeStore:
    """Notes what is done."""

    went_back_at = 0.0
    token = served_since = 0
    needs_restore = False

    def __init__(self) -> None:
        self.done = 0
        self.recorded: list[int] = []

    def holds_lease(self) -> bool:
        return True

    def announced(self, upto: int, ids: Sequence[str] = ()) -> None:
        self.done = max(self.done, upto)

    def record_outcome(self, upto: int, retries: list[Any], dead: list[bytes], keep: int) -> None:
        self.recorded.append(upto)
        self.done = upto


class FakeLines:
    """Notes which are written."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.marked: list[int] = []

    def write(self, items: Sequence[OutboxItem]) -> int:
        self.written += [item.sequence for item in items]
        self.marked += [item.sequence for item in items if item.recovered]
        return len(items)


class FakeHandlers:
    """Calls one function for each item."""

    keep_dead_letters = 10
    any = True

    def __init__(self, handler: Callable[[int, Outcome], object]) -> None:
        self._handler = handler

    def are_due(self, item: OutboxItem) -> bool:
        return True

    def call(self, item: OutboxItem, outcome: Outcome) -> None:
        self._handler(item.sequence, outcome)


def items(count: int) -> list[OutboxItem]:
    return [OutboxItem(number, Entry(0, Event("task-failed", str(number)), None, False)) for number in range(count)]


class FakeUpkeep:
    """Does what a test wants to be done."""

    def __init__(self, keep_alive: Callable[[], None], handled: Callable[[], None]) -> None:
        self.keep_alive, self.made_progress = keep_alive, handled

    def renew_lease(self) -> bool:
        return True


def announcements(
    store: FakeStore,
    handler: Callable[[int, Outcome], object],
    *,
    keep_alive: Callable[[], None] = lambda: None,
    handled: Callable[[], None] = lambda: None,
) -> Announcements:
    made = Announcements(
        store=store,  # type: ignore[arg-type]
        lines=FakeLines(),  # type: ignore[arg-type]
        handlers=FakeHandlers(handler),  # type: ignore[arg-type]
        stats=Stats(),
        threads=plain_threads(),
        upkeep=FakeUpkeep(keep_alive, handled),
        repeats=Repeats(store, None, TurnedClock()),  # type: ignore[arg-type]
    )
    made.add(items(3))
    return made


@pytest.mark.parametrize("went_back", [False, True])
def test_what_was_pending_when_the_store_went_back_is_marked(*, went_back: bool) -> None:
    """Given lines that are not written yet when the lease must be renewed, and a store that says then that it went
    back, they say that another instance may have written them.
    """
    store = FakeStore()
    made = announcements(store, lambda _sequence, _outcome: None)
    store.holds_lease = lambda: bool(store.went_back_at) or not went_back  # type: ignore[method-assign]

    def renew_lease() -> bool:
        store.went_back_at = 5.0
        return True

    made._upkeep.renew_lease = renew_lease  # type: ignore[method-assign]
    made.announce()

    lines: Any = made.lines
    assert lines.written == [0, 1, 2]
    assert lines.marked == ([0, 1, 2] if went_back else [])


@pytest.mark.parametrize(
    ("was_marked", "needs_restore", "marked"),
    [(False, False, []), (True, False, [0, 1, 2]), (False, True, [0, 1, 2, 3])],
)
def test_what_was_marked_is_so_after_a_broken_connection(
    *, was_marked: bool, needs_restore: bool, marked: list[int]
) -> None:
    """Given lines that are to say that they may have been written before, since the store went back, when the
    connection breaks before they are written, they come back from the store without that, and say so all the same. So
    do all while the store is being given again what it lost."""
    store = FakeStore()
    made = announcements(store, lambda _sequence, _outcome: None)
    if was_marked:
        made.forget()
        made.add(item._replace(recovered=True) for item in items(3))
    made.forget()
    store.needs_restore = needs_restore
    made.recover(Recovered(items(4), 4))
    made.announce()

    lines: Any = made.lines
    assert lines.written == [0, 1, 2, 3]
    assert lines.marked == marked


def test_the_lease_is_kept_while_a_handler_works_and_a_handler_that_hangs_is_no_progress() -> None:
    """Given a handler that goes on until the lease was looked after three times, progress is told after it, not while
    it works."""
    released, told = threading.Event(), []

    def keep_alive() -> None:
        told.append("kept")
        if len(told) == 3:
            released.set()

    def handler(sequence: int, outcome: Outcome) -> None:
        assert sequence or released.wait(TIMEOUT)

    store = FakeStore()
    announcements(store, handler, keep_alive=keep_alive, handled=lambda: told.append("progress")).announce()

    assert told[:4] == ["kept", "kept", "kept", "progress"]
    assert store.done == 3


@pytest.mark.parametrize("trouble", [LeaseLost("taken over"), StoreUnavailable("away")])
def test_what_a_handler_has_done_is_known_though_the_store_was_away_meanwhile(trouble: Exception) -> None:
    """Given a store that goes away while a handler works, its end is waited for and noted, so that it is not called
    again; the trouble is told then. All that is behind it is still to be done."""
    away, called = threading.Event(), []

    def keep_alive() -> None:
        away.set()
        raise trouble

    def handler(sequence: int, outcome: Outcome) -> None:
        assert away.wait(TIMEOUT)
        called.append(sequence)

    store = FakeStore()
    made = announcements(store, handler, keep_alive=keep_alive)
    with pytest.raises(type(trouble)):
        made.announce()

    assert called == [0]
    assert store.done == 1


def test_a_handler_that_failed_while_the_store_was_away_is_not_done() -> None:
    """Given the same, but a handler that fails, nothing is noted: it is called again."""
    away = threading.Event()

    def keep_alive() -> None:
        away.set()
        raise StoreUnavailable("away")

    def handler(sequence: int, outcome: Outcome) -> None:
        assert away.wait(TIMEOUT)
        outcome.retries.append((1000, b""))

    store = FakeStore()
    with pytest.raises(StoreUnavailable):
        announcements(store, handler, keep_alive=keep_alive).announce()

    assert (store.done, store.recorded) == (0, [])


def test_after_an_unexpected_error_nothing_counts_as_done_that_is_not() -> None:
    """Given an error of the program's own at the second item, only the first is done; the rest is still pending."""

    def handler(sequence: int, outcome: Outcome) -> None:
        if sequence == 1:
            raise RuntimeError("a bug")

    store = FakeStore()
    made = announcements(store, handler)
    with pytest.raises(RuntimeError, match="a bug"):
        made.announce()

    assert store.done == 1
    assert len(made) == 2


def test_handlers_are_called_where_no_thread_can_be_started() -> None:
    """Given a system that gives no thread, each item's handlers are called all the same, and the item is done."""
    store, called = FakeStore(), []

    with no_thread_left("handlers") as tried:
        announcements(store, lambda number, _outcome: called.append(number)).announce()

    assert called == [0, 1, 2]
    assert store.done == 3
    assert tried == ["handlers"]
