"""The leader elects, and runs its duties; each knows by itself when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from ha_monitor.pipeline import watch
from ha_monitor.pipeline.losses import LOSSES_EVERY, MORE_EVERY, LossesDuty
from ha_monitor.pipeline.watch import RESEND_ALL_EVERY, WATCH_EVERY, WatchDuty
from ha_monitor.pipeline.watermark import Listening
from ha_monitor.store.results import Silent, Watched, Watching, WorkerState
from tests.unit.builders import TurnedClock

LATE, LOST = 10.0, 30.0
ONE = Silent(1, LOST, LOST)


class Fleet:
    """The duties of the store: notes what it is asked."""

    def __init__(self) -> None:
        self.may_declare_lost: list[bool] = []
        self.reports: list[bool] = []
        self.all_accounted = True

        self.together: list[bool] = []
        self.consumes: list[dict[str, str]] = []
        self.silent = Silent()
        self.states: list[WorkerState] = []

    def watch(
        self,
        watching: Watching,
        queues: list[str],
        *,
        may_declare_lost: bool,
        together: bool,
        watermark: tuple[float, float] | None = None,
        consumes: Mapping[str, str],
    ) -> Watched:
        self.consumes.append(dict(consumes))
        self.may_declare_lost.append(may_declare_lost)
        self.together.append(together)
        return Watched([], 1, 0, 0, 0, self.states, [], silent=self.silent)

    def losses(self, *, report: bool) -> list[Any]:
        self.reports.append(report)
        return ["item"]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


class Broker:
    """Takes what is published, unless it has an alarm."""

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.is_blocked = False
        self.asked_at: float | None = None
        self.asked = 0

    def ask_again(self) -> None:
        self.asked += 1
        if not self.is_blocked:
            self.asked_at = self._clock.monotonic()


def watch_duty(
    fleet: Any, clock: TurnedClock, listening: Listening | None = None, broker: Broker | None = None
) -> WatchDuty:
    telemetry: Any = SimpleNamespace(surveyed_queues=list, watched=lambda _watched: None, consumed={})
    tables: Any = SimpleNamespace(look=lambda _tables: None)
    return WatchDuty(
        fleet,
        Watching(LATE, LOST),
        listening or Listening(clock, LATE),
        publishers=broker or Broker(clock),
        telemetry=telemetry,
        tables=tables,
        clock=clock,
    )


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


def test_the_store_is_told_once_which_queue_a_worker_consumes(
    fleet: Fleet, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given surveys, each look tells the store of some workers whose queue is new, until it knows all; after ten
    minutes, and to a store of another leader's, all are told of again.
    """
    monkeypatch.setattr(watch, "MAX_NEW_QUEUES", 2)
    duty = watch_duty(fleet, clock)
    told = {"a@h": "mail", "b@h": "mail", "c@h": ""}

    def looks(count: int) -> list[dict[str, str]]:
        fleet.consumes.clear()
        for _ in range(count):
            clock.now += WATCH_EVERY
            duty.run()
        return list(fleet.consumes)

    duty._telemetry.consumed = told
    assert looks(4) == [{"a@h": "mail", "b@h": "mail"}, {"c@h": ""}, {}, {}]
    duty._telemetry.consumed = {**told, "b@h": "celery"}
    assert looks(2) == [{"b@h": "celery"}, {}]
    clock.now += RESEND_ALL_EVERY
    assert looks(3) == [{"a@h": "mail", "b@h": "celery"}, {"c@h": ""}, {}]
    duty.start_anew()
    assert looks(2) == [{"a@h": "mail", "b@h": "celery"}, {"c@h": ""}]


def may_declare_lost_after(
    seconds: float, fleet: Fleet, clock: TurnedClock, listening: Listening, duty: WatchDuty
) -> bool:
    """Whether workers may be declared lost after listening, and looking, once a second for so long."""
    until = clock.now + seconds
    while clock.now < until:
        clock.now += 1
        listening.listened()
        duty.delivered(clock.now)
        duty.run()
    return fleet.may_declare_lost[-1]


def test_silence_means_nothing_to_who_was_deaf(fleet: Fleet, clock: TurnedClock) -> None:
    """Given an instance that has received nothing for a while, no worker is declared lost until it has listened for
    as long as one may be silent."""
    listening = Listening(clock, LATE)
    fleet.silent = ONE
    duty = watch_duty(fleet, clock, listening)

    def listen(seconds: float) -> bool:
        return may_declare_lost_after(seconds, fleet, clock, listening, duty)

    assert not listen(LOST)
    assert listen(1)
    clock.now += LATE + 1
    assert not listen(1)
    assert not listen(LOST - 2)
    assert listen(2)


def test_silence_means_nothing_while_the_broker_takes_nothing(fleet: Fleet, clock: TurnedClock) -> None:
    """Given silent workers, none is declared lost before the broker has taken something after they fell silent; nor
    while it has an alarm, nor until they could be heard again for as long as one may be silent."""
    listening, broker = Listening(clock, LATE), Broker(clock)
    duty = watch_duty(fleet, clock, listening, broker)

    def look(seconds: float) -> bool:
        return may_declare_lost_after(seconds, fleet, clock, listening, duty)

    broker.asked_at = clock.now
    assert not look(2 * LOST), "the answer was there before they fell silent"
    assert broker.asked == 0, "nobody is silent"
    broker.is_blocked, fleet.silent = True, ONE
    assert not look(5 * LOST)
    asked = broker.asked
    broker.is_blocked = False
    assert not look(LOST - 1)
    assert look(2)
    assert 0 < broker.asked - asked <= LOST / LATE + 1


def test_silence_means_nothing_while_the_broker_may_be_unable_to_deliver(fleet: Fleet, clock: TurnedClock) -> None:
    """Given a leader that is connected, and a broker that has delivered nothing and not shown that it could, since the
    workers fell silent, none is declared lost."""
    listening = Listening(clock, LATE)
    duty = watch_duty(fleet, clock, listening)
    fleet.silent = ONE
    duty.delivered(clock.now)
    for _ in range(int(3 * LOST)):
        clock.now += 1
        listening.listened()
        duty.run()
    assert True not in fleet.may_declare_lost
    duty.delivered(clock.now)
    clock.now += 1
    duty.run()

    assert fleet.may_declare_lost[-1]


@pytest.mark.parametrize(
    ("silent", "others", "together"),
    [
        (Silent(2, LOST, LOST + 1), ["lost", "offline"], True),
        (Silent(2, LOST, LOST + 1), ["online"], False),
        (Silent(2, LOST - 5, LOST), [], True),
        (Silent(2, LATE, LOST), [], False),
        (ONE, [], False),
    ],
    ids=["all", "one-is-heard", "the-last-is-not-due", "one-after-the-other", "one-worker"],
)
def test_workers_that_fall_silent_at_once_are_one_finding(
    fleet: Fleet, clock: TurnedClock, silent: Silent, others: list[str], together: bool
) -> None:
    """Given several workers of which none is heard any more from one moment on, they are declared lost together, when
    the last of them is due."""
    listening = Listening(clock, LATE)
    duty = watch_duty(fleet, clock, listening)
    fleet.silent = silent
    fleet.states = [WorkerState(f"{number}@host", state, None) for number, state in enumerate(others)]
    for _ in range(int(2 * LOST)):
        clock.now += 1
        listening.listened()
        duty.delivered(clock.now)
        duty.run()

    assert fleet.together[-1] is together
    assert fleet.may_declare_lost[-1] is (not together or silent.least >= LOST)


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
