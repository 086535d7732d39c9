"""What is kept while the store is away from a broker that delivers nothing twice: as much as there is room for."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from ha_monitor.broker.source import Mark, Source
from ha_monitor.config.schema import DEFAULT_REDACTED, BatchSettings
from ha_monitor.events.decode import Decoder, Message
from ha_monitor.events.redact import Redactor
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline import collector as bounds
from ha_monitor.pipeline.buffer_limit import REPORT_EVERY, BufferLimit
from ha_monitor.pipeline.collector import MAX_CALL_BYTES, Collector
from ha_monitor.pipeline.stats import Stats
from tests.unit.builders import TIME, TurnedClock, event, fact_builder

MAX_EVENTS, MAX_BYTES = bounds.MAX_BUFFERED_EVENTS // 20, bounds.MAX_BUFFERED_BYTES // 20


@pytest.fixture(autouse=True)
def _smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with less, for speed."""
    monkeypatch.setattr(bounds, "MAX_BUFFERED_EVENTS", MAX_EVENTS)
    monkeypatch.setattr(bounds, "MAX_BUFFERED_BYTES", MAX_BYTES)


class Flood:
    """A broker that has so many messages, one after the other."""

    is_receiving = holds_messages = False

    def __init__(self, total: int, events: int, padding: int) -> None:
        """:param events: in each message. :param padding: characters of each event that nobody keeps."""
        self.sent = 0
        self._total = total
        self._events = events
        self._padding = "x" * padding

    def receive(self, limit: int, timeout: float) -> list[Message]:
        bodies = range(self.sent, min(self._total, self.sent + min(limit, 4)))
        self.sent += len(bodies)
        return [Message(self._body(number)) for number in bodies]

    def _body(self, number: int) -> bytes:
        events = [event("task-started", at=TIME + number, uuid=f"{number}-{one}") for one in range(self._events)]
        return json.dumps([one | {"padding": self._padding} for one in events]).encode()

    def mark(self) -> Mark:
        return Mark(0, 0)


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.reasons: list[str] = []

    def error(self, name: str, **fields: Any) -> None:
        assert name == "events-dropped"
        self.counts.append(fields["count"])
        self.reasons.append(fields["reason"])


class Bed:
    """An instance whose store is away."""

    def __init__(self, flood: Flood) -> None:
        self.clock, self.stats, self.lines = TurnedClock(), Stats(), Lines()
        self.collector = Collector(
            cast(Source, flood),
            Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500)),
            BatchSettings(events=100, time=5.0),
            self.clock,
        )
        self.limit = BufferLimit(self.collector, self.stats, cast(Logger, self.lines), self.clock)
        self.max_bytes = self.max_events = 0

    def wait_for_store(self) -> None:
        """Take all that the broker has."""
        while self.collector.paused_at is None:
            self.collector.collect(0.25, only_full=True)
            self.limit.drop()
            self.max_bytes = max(self.max_bytes, self.collector.byte_count)
            self.max_events = max(self.max_events, self.collector.event_count)

    def kept(self) -> list[str]:
        """The tasks of which there is something left to be merged."""
        tasks: list[str] = []
        while self.collector.close_all():
            while self.collector:
                tasks += self.collector.take().batch.tasks
        return tasks


@pytest.mark.parametrize(
    ("flood", "limit"),
    [
        pytest.param(Flood(20, events=1, padding=500_000), "bytes", id="few large events"),
        pytest.param(Flood(80, events=100, padding=0), "events", id="many small events"),
    ],
)
def test_the_oldest_are_dropped_and_the_rest_is_merged(flood: Flood, limit: str) -> None:
    """Given more than may be kept, what is held stays within the bound, the oldest events go, counted and said, and all
    that came later is there to be merged."""
    bed = Bed(flood)
    total = flood._total * flood._events

    bed.wait_for_store()
    bed.limit.report()
    kept = bed.kept()

    assert bed.max_bytes <= MAX_BYTES + MAX_CALL_BYTES
    assert bed.max_events <= MAX_EVENTS
    assert 0 < bed.stats.dropped < total
    assert (bed.max_bytes > MAX_BYTES * 0.8) == (limit == "bytes")
    assert (bed.max_events > MAX_EVENTS * 0.9) == (limit == "events")
    assert sum(bed.lines.counts) == bed.stats.dropped
    everything = [f"{number}-{one}" for number in range(flood._total) for one in range(flood._events)]
    assert kept == everything[bed.stats.dropped :]


def test_a_flood_writes_a_line_now_and_then() -> None:
    """Given batches that are dropped all the time, the first is said at once, the others together, none twice."""
    bed = Bed(Flood(150, events=100, padding=0))
    while bed.collector.paused_at is None:
        bed.collector.collect(0.25, only_full=True)
        bed.limit.drop()
        bed.clock.now += REPORT_EVERY / 5

    assert bed.lines.counts[0] < 1000
    assert 2 < len(bed.lines.counts) < 10
    bed.limit.report()
    bed.limit.report()
    assert sum(bed.lines.counts) == bed.stats.dropped == 15_000 - MAX_EVENTS
    assert 0 not in bed.lines.counts


def test_each_line_has_the_reason_of_what_it_counts() -> None:
    """Given a burst that fills the buffer within a moment, and a stop before the rest is merged, it is said of the
    first that the buffer was full, not that an outage was long, and of the rest that the instance stopped.
    """
    bed = Bed(Flood(80, events=100, padding=0))
    bed.wait_for_store()
    beyond, kept = bed.stats.dropped, bed.collector.event_count

    bed.limit.drop_all()

    full, stopped = (
        "the buffer was full while the store was unavailable",
        "the instance stopped before they were merged",
    )
    assert bed.lines.reasons == [full, full, stopped]
    assert (sum(bed.lines.counts[:2]), bed.lines.counts[2]) == (beyond, kept)
    assert beyond + kept == bed.stats.dropped == 8000


def test_nothing_is_dropped_and_nothing_said_where_there_is_room() -> None:
    """Given less than may be kept, all of it is."""
    bed = Bed(Flood(20, events=100, padding=0))

    bed.wait_for_store()
    bed.limit.report()

    assert (bed.stats.dropped, bed.lines.counts) == (0, [])
    assert len(bed.kept()) == 2_000


def test_what_is_held_is_counted_through_all_that_happens_to_it() -> None:
    """Given batches that are taken, given back and forgotten, events and bytes are those of what is there."""
    bed = Bed(Flood(10, events=100, padding=10))
    bed.wait_for_store()
    whole = bed.collector.event_count, bed.collector.byte_count
    taken = bed.collector.take()

    assert bed.collector.event_count == whole[0] - taken.batch.event_count
    bed.collector.put_back(taken)
    assert (bed.collector.event_count, bed.collector.byte_count) == whole
    assert whole[0] == 1000
    bed.collector.forget()
    assert (bed.collector.event_count, bed.collector.byte_count) == (0, 0)
