"""The leader elects, and runs its duties; each knows by itself when it is due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ha_monitor.pipeline.losses import LOSSES_EVERY, MORE_EVERY, LossesDuty
from ha_monitor.pipeline.watch import WATCH_EVERY, WatchDuty
from ha_monitor.pipeline.watermark import Listening
from ha_monitor.store.results import Watching
from tests.unit.builders import TurnedClock

LATE, LOST = 10.0, 30.0


class Fleet:
    """The duties of the store: notes what it is asked."""

    def __init__(self) -> None:
        self.may_declare_lost: list[bool] = []
        self.reports: list[bool] = []
        self.all_accounted = True

    def watch(
        self,
        watching: Watching,
        queues: list[str],
        *,
        may_declare_lost: bool,
        watermark: tuple[float, float] | None = None,
    ) -> None:
        self.may_declare_lost.append(may_declare_lost)

    def losses(self, *, report: bool) -> list[Any]:
        self.reports.append(report)
        return ["item"]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def watch_duty(fleet: Any, clock: TurnedClock, listening: Listening | None = None) -> WatchDuty:
    telemetry: Any = SimpleNamespace(surveyed_queues=list)
    tables: Any = None
    listening = listening or Listening(clock, LATE)
    return WatchDuty(fleet, Watching(LATE, LOST), listening, telemetry=telemetry, tables=tables, clock=clock)


def test_the_fleet_is_looked_at_now_and_then_and_at_once_by_a_new_leader(fleet: Fleet, clock: TurnedClock) -> None:
    """Given many ticks a second, there is a look every half second, and one at once after who leads has changed."""
    duty = watch_duty(fleet, clock)
    for _ in range(50):
        duty.run()
        clock.now += WATCH_EVERY / 10
    duty.run()
    looks = len(fleet.may_declare_lost)
    assert looks in (5, 6)
    duty.start_anew()
    duty.run()

    assert len(fleet.may_declare_lost) == looks + 1


def test_silence_means_nothing_to_who_was_deaf(fleet: Fleet, clock: TurnedClock) -> None:
    """Given an instance that has received nothing for a while, no worker is declared lost until it has listened for
    as long as one may be silent."""
    listening = Listening(clock, LATE)
    duty = watch_duty(fleet, clock, listening)

    def listen(seconds: float) -> bool:
        until = clock.now + seconds
        while clock.now < until:
            clock.now += 1
            listening.listened()
        duty.run()
        return fleet.may_declare_lost[-1]

    assert not listen(LOST)
    assert listen(1)
    clock.now += LATE + 1
    assert not listen(1)
    assert not listen(LOST - 2)
    assert listen(2)


def test_losses_are_looked_for_more_often_while_some_processes_are_left(fleet: Fleet, clock: TurnedClock) -> None:
    """Given more processes than one look sees, the next look comes sooner."""
    store: Any = fleet
    duty = LossesDuty(store, clock, report=True)
    assert duty.run() == ["item"]
    clock.now += MORE_EVERY
    assert duty.run() == []
    clock.now += LOSSES_EVERY
    fleet.all_accounted = False
    assert duty.run() == ["item"]
    clock.now += MORE_EVERY

    assert duty.run() == ["item"]
    assert fleet.reports == [True] * 3
