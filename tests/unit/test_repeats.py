"""What may have been announced before the store went back is marked, whatever the clocks of senders show."""

from __future__ import annotations

from typing import cast

import pytest

from ha_monitor.events.model import Event
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import Entry, OutboxItem
from tests.unit.builders import TIME, TurnedClock

WENT_BACK = TIME + 100


class FakeStore:
    """One that went back, or did not."""

    went_back_at = 0.0


class Bed:
    def __init__(self, *, each_is_given_all: bool) -> None:
        self.clock, self.store = TurnedClock(), FakeStore()
        self.watermark = Watermark(self.clock, None, 32.0)
        self.watermark.connected()
        shared = self.watermark if each_is_given_all else None
        self.repeats = Repeats(cast(Store, self.store), shared, self.clock)

    def is_marked(self, sent_at: float, *, was_redelivered: bool = False) -> bool:
        item = OutboxItem(0, Entry(0, Event("task-sent", "ab" * 12, time=sent_at), None, incomplete=False))
        (marked,) = self.repeats.marked([item], was_redelivered=was_redelivered)
        return marked.recovered


@pytest.fixture(params=[True, False], ids=["pub/sub", "a queue"])
def bed(request: pytest.FixtureRequest) -> Bed:
    return Bed(each_is_given_all=request.param)


def test_an_event_from_before_is_marked_for_as_long_as_it_is_known(bed: Bed) -> None:
    """Given a store that went back, an event of before is marked, however late it comes; a later one is not."""
    bed.store.went_back_at = WENT_BACK
    bed.is_marked(WENT_BACK)
    bed.clock.now += 1000
    bed.watermark.nothing_in_flight(bed.clock.monotonic())

    assert bed.is_marked(WENT_BACK - 1)
    assert not bed.is_marked(WENT_BACK + 1)


def test_a_redelivered_event_is_marked_though_its_sender_is_ahead(bed: Bed) -> None:
    """Given a store that went back, a redelivered message may be one that was announced before, whatever its time."""
    bed.store.went_back_at = WENT_BACK

    assert bed.is_marked(WENT_BACK + 3600, was_redelivered=True)


def test_what_each_was_given_before_it_knew_is_marked_though_its_sender_is_ahead() -> None:
    """Given a broker that gives each instance all, whatever this one was given before it knew may have been announced
    by another; what it was given later cannot."""
    bed = Bed(each_is_given_all=True)
    bed.watermark.nothing_in_flight(bed.clock.monotonic())
    bed.clock.now += 1
    bed.store.went_back_at = WENT_BACK

    assert bed.is_marked(WENT_BACK + 3600)
    bed.clock.now += 1
    assert bed.is_marked(WENT_BACK + 3600), "it has merged nothing since then"
    bed.watermark.nothing_in_flight(bed.clock.monotonic())
    assert not bed.is_marked(WENT_BACK + 3600)
    bed.store.went_back_at += 1000
    bed.clock.now += 1
    assert bed.is_marked(WENT_BACK + 3600), "it went back once more"
