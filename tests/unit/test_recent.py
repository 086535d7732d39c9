"""What an instance remembers of its latest work, and hands over when the store went back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ha_monitor.store import own_state
from ha_monitor.store.own_state import RecentWork
from ha_monitor.store.packing import PackedBatch
from tests.unit.builders import TurnedClock, decode, event


class Record:
    """Gets what is repeated."""

    def __init__(self, *, at_once: int = 100) -> None:
        self.got: list[str] = []
        self.trouble: Exception | None = None
        self._at_once = at_once

    def note(self, ids: Sequence[str]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.got.append(" ".join(ids))

    def merge(self, work: str) -> str | None:
        self.got.append(work[: self._at_once])
        return work[self._at_once :] or None

    def restored(self, work: RecentWork[str]) -> list[str]:
        while work.must_repeat:
            work.repeat_some(self.note, self.merge)
        return self.got


def test_nothing_is_repeated_before_the_store_went_back_and_all_of_it_once_then() -> None:
    """Given work and ids, the ids are repeated first when the store went back, and then the work in order; and
    again when it goes back again.
    """
    work: RecentWork[str] = RecentWork(TurnedClock())
    work.merged("first", 1)
    work.announced(["a", "b"])
    work.merged("second", 1)
    work.announced([])
    work.store_went_back(0)
    assert not work.must_repeat

    work.store_went_back(1000)
    assert Record().restored(work) == ["a b", "first", "second"]
    work.store_went_back(1000)
    assert not work.must_repeat
    work.store_went_back(2000)
    assert Record().restored(work) == ["a b", "first", "second"]


def test_what_was_not_taken_is_repeated_again() -> None:
    """Given a store that fails, or takes a part, what it has not got is repeated next."""
    work: RecentWork[str] = RecentWork(TurnedClock())
    work.announced(["a"])
    work.merged("abcde", 1)
    work.store_went_back(1)
    record = Record(at_once=2)
    record.trouble = OSError("away")
    with pytest.raises(OSError, match="away"):
        work.repeat_some(record.note, record.merge)
    record.trouble = None

    assert record.restored(work) == ["a", "ab", "cd", "e"]


def test_it_is_limited_in_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more work than is kept, or older, the oldest is forgotten; while nothing comes, nothing is."""
    monkeypatch.setattr(own_state, "MAX_BYTES", 1000)
    clock = TurnedClock()
    work: RecentWork[str] = RecentWork(clock)
    for name in ("one", "two", "three"):
        work.merged(name, 400)
    clock.now += own_state.KEPT_FOR + 1
    work.store_went_back(1)
    assert Record().restored(work) == ["two", "three"]

    work.announced(["a", "b"])
    work.store_went_back(2)
    assert Record().restored(work) == ["a b"]


def test_what_is_left_of_a_batch_is_all_behind_the_merged_tasks() -> None:
    """Given a batch of three tasks and a worker, of which two tasks are merged, the rest has one, and the worker."""
    batch = decode(*(event("task-received", uuid=name) for name in "abc"), event("worker-heartbeat"))
    packed = PackedBatch.of(batch)
    del batch.tasks["a"], batch.tasks["b"]

    left = packed.rest_after(2)
    assert left is not None
    assert list(map(bytes, left[:3])) == list(map(bytes, PackedBatch.of(batch)[:3]))
    assert left.rest_after(1) is None
    assert PackedBatch.of(decode()).size == 0
