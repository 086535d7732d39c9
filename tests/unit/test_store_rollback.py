"""What an instance remembers of its calls, and what follows when the store has less."""

from __future__ import annotations

from ha_monitor.store.counts import Counts
from ha_monitor.store.own_state import RollbackMemory
from ha_monitor.store.results import Rollback


def test_calls_that_are_confirmed_are_remembered_until_the_next_token() -> None:
    """Given replies, the number of calls is that of the latest; one that was not counted changes nothing; a new token
    begins at none."""
    memory = RollbackMemory()
    memory.confirmed([1, 0])
    memory.confirmed([2, 0])
    memory.confirmed([])
    assert (memory.calls, memory.known, memory.take()) == (2, 0, None)

    memory.registered([0])

    assert memory.calls == 0


def test_who_finds_a_rollback_tells_it_once_and_all_others_only_know_of_it() -> None:
    """Given a reply that has found one, it is told once; given one that says when another instance found it, never."""
    finder, other = RollbackMemory(), RollbackMemory()
    finder.confirmed([8, 5_000, [3_000, 4]])
    other.confirmed([3, 5_000])

    assert finder.take() == Rollback(at=5.0, since=3.0, calls=4)
    assert (finder.take(), other.take()) == (None, None)
    assert finder.known == other.known == 5_000


def test_how_far_a_store_went_back_is_known_unless_it_has_nothing() -> None:
    """Given a store that has something, the distance is the time since then; an empty one has none."""
    memory = RollbackMemory()
    memory.registered([5_000, [0, 0]])

    assert Rollback(at=5.0, since=3.0, calls=4).seconds == 2.0
    assert memory.take() == Rollback(at=5.0, since=None, calls=0)
    assert Rollback(at=5.0, since=None, calls=0).seconds is None


def test_counts_that_fell_are_found_with_what_they_were() -> None:
    """Given counts before and after, those that are less or missing are returned as they were; new ones are no fall."""
    before = {b"less": 7, b"same": 2, b"gone": 1}
    after = Counts([b"less", b"3", b"same", b"2", b"new", b"9", b"broken", b"x"])

    assert after.less_than(before) == {b"less": 7, b"gone": 1}
    assert after.less_than({b"less": 3, b"same": 2}) == {}
