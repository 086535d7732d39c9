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
LOST = TurnedClock().time()
"""When the connection to the store is lost."""


class FakeStore:
    """One that went back, or did not."""

    went_back_at = 0.0
    token = int(LOST * 1000)
    served_since = 0


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

    def lose_the_store(self, *, fails_over: bool = True) -> None:
        """For three seconds; another instance is back after two."""
        self.repeats.connected()
        for _ in range(3):
            self.repeats.disconnected()
            self.clock.now += 1
        self.store.token = int(self.clock.time() * 1000)
        if fails_over:
            self.store.served_since = self.store.token - 1000
        self.repeats.connected()

    def is_suspect(self, item: OutboxItem, *, was_redelivered: bool = False) -> bool:
        (marked,) = self.repeats.marked_if_lost([item], was_redelivered=was_redelivered)
        return marked.recovered


def item(sent_at: float, *, kind: int = 0, merged_at: float = 0.0) -> OutboxItem:
    """:param merged_at: if it has waited since then; else 0."""
    event = Event("task-sent", "ab" * 12, time=sent_at)
    return OutboxItem(0, Entry(kind, event, None, incomplete=False, waited_since=merged_at * 1000))


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


def test_nothing_is_suspect_while_the_store_is_the_same(bed: Bed) -> None:
    bed.repeats.disconnected()
    bed.repeats.connected()
    assert not bed.repeats.suspects_loss, "the fleet used no store before"

    bed.lose_the_store(fails_over=False)
    assert not bed.repeats.suspects_loss, "it is the same, and was not started"
    bed.lose_the_store()
    assert bed.repeats.suspects_loss


@pytest.mark.parametrize("ago", [0, 149, 151])
def test_an_instance_that_is_started_soon_after_a_fail_over_suspects_a_loss(bed: Bed, ago: int) -> None:
    """Given an instance that was started after a fail-over, another one, such as its last run, may have announced what
    it is given again; what was given to nobody before its start cannot have been announced."""
    bed.store.served_since = bed.store.token - ago * 1000
    since = LOST - ago
    bed.repeats.connected()
    bed.watermark.nothing_in_flight(bed.clock.monotonic())

    assert bed.repeats.suspects_loss == (ago < 150)
    if bed.repeats.suspects_loss:
        assert bed.is_suspect(item(since - 1), was_redelivered=True)
        assert bed.is_suspect(item(since - 1, merged_at=LOST - 0.5))
        assert not bed.is_suspect(item(since + 1), was_redelivered=True)
        assert not bed.is_suspect(item(since - 1))
        assert bed.is_suspect(item(since - 1, merged_at=LOST + 1)), "by one that it was redelivered to"
        assert not bed.is_suspect(item(since + 1, merged_at=LOST + 1))


def test_what_had_waited_before_an_outage_of_the_store_is_suspect_for_a_while(bed: Bed) -> None:
    """Given an outage of three seconds, another instance may have announced what was merged before its end and has
    waited since then, whatever the sender's clock shows, and what was sent before; not what was sent and merged
    later."""
    bed.lose_the_store()

    assert bed.is_suspect(item(LOST + 3600, merged_at=LOST - 1))
    assert bed.is_suspect(item(LOST + 3600, merged_at=LOST + 2.5)), "by one that was back before"
    assert bed.is_suspect(item(LOST + 1, merged_at=LOST + 3.5)), "it may have been redelivered"
    assert not bed.is_suspect(item(LOST + 2.5, merged_at=LOST + 3.5))
    bed.clock.now += 149
    assert bed.is_suspect(item(LOST - 1, merged_at=LOST - 1))
    bed.clock.now += 2
    assert not bed.is_suspect(item(LOST - 1, merged_at=LOST - 1))
    assert not bed.repeats.suspects_loss


def test_a_redelivered_message_of_before_the_end_of_an_outage_is_suspect(bed: Bed) -> None:
    """Given an outage, what is sent again was announced before at most if it was sent before all were without a store,
    which this instance may have been earlier than others; a handler that is called again has no line."""
    bed.lose_the_store()
    bed.watermark.nothing_in_flight(bed.clock.monotonic())

    assert bed.is_suspect(item(LOST - 1), was_redelivered=True)
    assert not bed.is_suspect(item(LOST - 1))
    assert bed.is_suspect(item(LOST + 0.5), was_redelivered=True), "by one that lost it later"
    assert not bed.is_suspect(item(LOST + 2.5), was_redelivered=True), "one is back, and knows what it announces"
    assert not bed.is_suspect(item(LOST - 1, kind=1), was_redelivered=True)


def test_what_each_was_given_before_the_end_of_an_outage_is_suspect() -> None:
    """Given a broker that gives each instance all, another one that lost the store later may have announced whatever
    this one was given without a store, until all of that is merged."""
    bed = Bed(each_is_given_all=True)
    bed.lose_the_store()

    assert bed.is_suspect(item(LOST - 1))
    assert bed.is_suspect(item(LOST + 1.5))
    assert not bed.is_suspect(item(LOST + 2.5)), "one is back, and knows what it announces"
    bed.watermark.nothing_in_flight(bed.clock.monotonic())
    assert not bed.is_suspect(item(LOST - 1))
