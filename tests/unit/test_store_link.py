"""A Redis that answers and refuses: that is not over because one can connect to it."""

from __future__ import annotations

from typing import Any, cast

from ha_monitor.dialing import Dialed
from ha_monitor.errors import LeaseLost, StoreRefused, StoreUnavailable
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.backoff import STABLE_AFTER
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_link import REFUSED_FOR, StoreLink
from ha_monitor.store.api import Store
from ha_monitor.store.results import Recovered
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import TurnedClock

ROUNDING = 0.001
"""Seconds added to a time that must have passed: the clock has random fractions, so that differences are inexact."""


class FakeStore:
    """One can always connect to it."""

    connected = False
    token = 1

    def dial(self) -> Dialed[None]:
        def use() -> None:
            self.connected = True

        return Dialed(use, lambda: None)

    def close(self) -> None:
        self.connected = False

    def repair(self, *, registered: bool) -> list[str]:
        return []

    def register(self, who: dict[str, Any]) -> None: ...

    def take_rollback(self) -> None: ...

    def recover(self) -> Recovered:
        return Recovered([], 0)


class Nothing:
    """Takes whatever it is told; what it was told by name."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def __len__(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **fields: self.told.append((str(arguments[0]) if arguments else name, fields))


class Bed:
    """A link with the clock and the health that belong to it."""

    def __init__(self, lease: float = 10.0) -> None:
        self.clock = TurnedClock()
        self.health = Health(self.clock, 30.0, lease)
        self.health.broker(None)
        self.log = Nothing()
        self.link = StoreLink(
            cast(Store, FakeStore()),
            announcements=cast(Announcements, Nothing()),
            stats=Stats(),
            health=self.health,
            report=cast(Report, Nothing()),
            logger=cast(Logger, self.log),
            clock=self.clock,
            identity=Identity("tests", "1", "host", 1),
            threads=ConnectingAtOnce(self.clock),
            lease=lease,
        )

    def connect(self) -> float:
        """Wait until it is connected again; returns how long that took."""
        waited = self.link.remaining()
        self.clock.now += waited
        assert self.link.connect()
        self.health.progress()
        return waited

    def reasons(self) -> list[str]:
        reasons: list[str] = self.health.ready().details["reasons"]
        return reasons


def test_an_instance_is_not_ready_while_its_calls_are_refused() -> None:
    """Given a Redis to which one can connect and that refuses a call again and again, the instance is never ready in
    between, waits longer each time, and is ready some time after the last refusal.
    """
    bed = Bed()
    bed.connect()
    assert bed.reasons() == []

    waits = []
    for _ in range(6):
        bed.link.lost(StoreRefused("Redis refused: WRONGTYPE"))
        waits.append(bed.connect())
        assert bed.reasons() == ["store: Redis refused: WRONGTYPE"]
    assert waits[-1] > 4 * waits[0]

    bed.clock.now += REFUSED_FOR
    bed.health.progress()
    bed.link.answered("")
    assert bed.reasons() == []
    bed.clock.now += STABLE_AFTER + ROUNDING
    bed.link.lost(StoreRefused("Redis refused: WRONGTYPE"))
    assert bed.connect() < 0.5


def test_an_instance_whose_lease_is_lost_again_and_again_waits_longer_each_time() -> None:
    """Given a lease that is lost as soon as the instance has entered itself, it does so at once the first time, and
    less and less often then; after some time without, at once again.
    """
    bed = Bed()
    bed.connect()
    waits = []
    for _ in range(8):
        bed.link.lease_lost(LeaseLost("lost"))
        waits.append(bed.connect())

    assert waits[0] == 0
    assert waits[-1] > 4 * waits[1] > 0
    bed.clock.now += REFUSED_FOR + ROUNDING
    bed.link.lease_lost(LeaseLost("lost"))
    assert bed.connect() == 0


def test_a_redis_that_was_away_is_over_when_it_is_back() -> None:
    """Given a connection that broke, the instance is ready as soon as there is another one."""
    bed = Bed()
    bed.connect()
    bed.link.lost(StoreUnavailable("Redis: timeout"))
    assert bed.reasons() == ["store: Redis: timeout"]
    bed.connect()

    assert bed.reasons() == []


def test_what_a_call_did_without_is_said() -> None:
    """Given calls that go through without a part that Redis refuses, a line says so, not for each call, and the
    instance is not ready until it is over.
    """
    bed = Bed()
    bed.connect()
    for _ in range(5):
        bed.link.answered("counts: WRONGTYPE")

    assert [fields for what, fields in bed.log.told if what == "store-damaged"] == [{"reason": "counts: WRONGTYPE"}]
    assert bed.reasons() == ["store: Redis refused: counts: WRONGTYPE"]
    bed.clock.now += REFUSED_FOR
    bed.health.progress()
    assert bed.reasons() == []


def lines(bed: Bed, event: str) -> list[dict[str, Any]]:
    return [fields for what, fields in bed.log.told if what == event]


def test_that_it_is_away_is_said_ever_more_seldom_and_its_return_once() -> None:
    """Given a Redis that is away for an hour, there is a line at once and then at growing pauses, and the line about
    its return says for how long it was away."""
    bed = Bed()
    bed.connect()
    begun, began = bed.clock.now, iso_time(bed.clock.time())
    while bed.clock.now < begun + 3600:
        bed.link.lost(StoreUnavailable("Redis: refused"))
        bed.clock.now += bed.link.remaining()
    away_for = round(bed.clock.now - begun, 3)
    bed.connect()

    told = lines(bed, "store-unavailable")
    assert 10 < len(told) < 20
    assert (told[0]["attempts"], told[0]["reason"]) == (1, "Redis: refused")
    assert told[-1]["attempts"] > 700
    assert {one["since"] for one in told} == {began}
    first, back = lines(bed, "store-connected")
    assert "away_for" not in first
    assert back["away_for"] == away_for
    assert back["attempts"] >= told[-1]["attempts"]


def test_a_redis_that_closes_each_connection_is_said_ever_more_seldom() -> None:
    """Given a Redis that takes each connection and closes it two seconds later, for an hour, the attempts become rarer
    as if it were away, and each of the few lines about it is followed by one about its return; connected for long, and
    lost again, it is said at once.
    """
    bed = Bed()
    bed.connect()
    began, waits = bed.clock.now, []
    while bed.clock.now < began + 3600:
        bed.clock.now += 2
        bed.link.lost(StoreUnavailable("Redis: closed"))
        waits.append(bed.connect())

    told = [what for what, _ in bed.log.told if what.startswith("store-")]
    assert 10 < len(told) / 2 < 20
    assert told == ["store-connected", *["store-unavailable", "store-connected"] * (len(told) // 2)]
    assert len(waits) < 3600 / 4
    bed.clock.now += STABLE_AFTER + ROUNDING
    bed.link.lost(StoreUnavailable("Redis: closed"))
    assert bed.connect() <= 0.2
    assert lines(bed, "store-unavailable")[-1]["attempts"] == 1


def test_a_redis_that_refuses_is_back_when_it_refuses_no_more() -> None:
    """Given a Redis to which one can connect each time and that then refuses, its return is said when it is over."""
    bed = Bed()
    bed.connect()
    for _ in range(50):
        bed.link.lost(StoreRefused("Redis refused: NOPERM"))
        bed.connect()
        bed.link.answered("")
    assert len(lines(bed, "store-unavailable")) < 10
    assert len(lines(bed, "store-connected")) == 1

    bed.clock.now += REFUSED_FOR
    bed.link.answered("")

    assert [one.get("attempts") for one in lines(bed, "store-connected")] == [None, 50]


def test_all_are_back_before_another_one_may_take_over() -> None:
    """Given a short lease and a Redis that is away for long, no pause between two attempts is longer than half of it:
    the first who is back takes over after a whole one.
    """
    bed = Bed(lease=2.0)
    bed.connect()
    for _ in range(50):
        bed.link.lost(StoreUnavailable("Redis: away"))
        waited = bed.link.remaining()
        assert waited <= 1.0
        bed.clock.now += waited
