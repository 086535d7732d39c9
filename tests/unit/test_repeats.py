"""What may have been announced before the store went back is marked, whatever the clocks of senders show."""

from __future__ import annotations

from typing import cast

import pytest

from ha_monitor.events.decode import Batch
from ha_monitor.events.model import Event
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import Entry, OutboxItem
from tests.unit.builders import TIME, UUID, TurnedClock, decode, event

WENT_BACK = TIME + 100
LOST = TurnedClock().time()
"""When the connection to the store is lost."""


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
        (marked,) = self.repeats.marked([item(sent_at)], was_redelivered=was_redelivered)
        return marked.recovered

    def are_marked(self, items: list[OutboxItem], brought_by: Batch | None) -> list[bool]:
        return [one.recovered for one in self.repeats.marked_if_shared(items, brought_by)]


def item(sent_at: float, kind: int = 0, task: str | None = UUID) -> OutboxItem:
    of_it = Event("task-sent", "ab" * 12, time=sent_at, task_id=task)
    return OutboxItem(0, Entry(kind, of_it, None, incomplete=False))


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


def test_what_waited_when_the_store_was_lost_is_marked_and_what_a_batch_brings_is_not() -> None:
    """Given a connection to the store that was lost, and made again after three attempts: of what was sent before
    that, an event that waited in its record may have been announced by another instance, whether a batch releases it or
    its time has come. The batch's own events were delivered only to this instance.
    """
    bed = Bed(each_is_given_all=False)
    waited, own = item(LOST - 1), item(LOST - 2)
    brought = decode(event("task-received", at=LOST - 2), event("worker-online", at=LOST - 3))
    online = item(LOST - 3, task=None)
    bed.repeats.connected()
    assert bed.are_marked([waited], None) == [False], "it was never lost"
    for _ in range(3):
        bed.repeats.disconnected()
        bed.clock.now += 1
    bed.repeats.connected()

    assert bed.are_marked([waited, own, online], brought) == [True, False, False]
    assert bed.are_marked([waited, own], None) == [True, True]
    assert bed.are_marked([item(LOST + 2.5)], None) == [True], "another instance may have returned before"
    assert bed.are_marked([item(LOST + 3.5)], None) == [False], "sent later"
    assert bed.are_marked([item(LOST - 1, kind=1)], None) == [False], "a handler that is called again has no line"
    bed.clock.now += 151
    assert bed.are_marked([waited], None) == [False], "its sender's clock is behind: nothing waits for so long"


def test_what_each_was_given_before_the_store_was_lost_is_marked() -> None:
    """Given a broker that gives each instance all, another one may have announced whatever this one was given before
    it lost the store, until all of that is merged."""
    bed = Bed(each_is_given_all=True)
    brought = decode(event("task-received", at=LOST - 2))
    bed.repeats.connected()
    bed.repeats.disconnected()
    bed.clock.now += 1
    bed.repeats.connected()

    assert bed.are_marked([item(LOST - 2)], brought) == [True]
    assert bed.are_marked([item(LOST + 0.5)], brought) == [False], "given to it when no instance had a store"
    bed.watermark.nothing_in_flight(bed.clock.monotonic())
    assert bed.are_marked([item(LOST - 2)], brought) == [False]
