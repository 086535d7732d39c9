"""How often it is said that something is away."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ha_monitor.broker.source import Source
from ha_monitor.dialing import Dialed
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import STABLE_AFTER
from ha_monitor.pipeline.broker_link import Broadcast, BrokerLink, QueueWatcher
from ha_monitor.pipeline.outage import MAX_PAUSE, MAX_REASONS, Outage
from ha_monitor.pipeline.peers import Peers
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.watermark import Watermark
from ha_monitor.supervision import Supervisor
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import TurnedClock


class Lines:
    """A logger that keeps what it is told, and when."""

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.told: list[tuple[float, str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.told.append((self._clock.now, event, fields))

    info = warning


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock(0.0)


@pytest.fixture
def lines(clock: TurnedClock) -> Lines:
    return Lines(clock)


@pytest.fixture
def outage(clock: TurnedClock, lines: Lines) -> Outage:
    return Outage("broker-unavailable", cast(Logger, lines), clock)


def test_the_pauses_grow_to_five_minutes(outage: Outage, clock: TurnedClock, lines: Lines) -> None:
    """Given an attempt a second, lines come after 5, 10, 20 … seconds, and then every five minutes."""
    for second in range(2000):
        clock.now = float(second)
        outage.failed("refused", 1.0)

    assert [at for at, _, _ in lines.told] == [0, 5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515, 1815]
    assert [fields["attempts"] for _, _, fields in lines.told] == [1 + at for at, _, _ in lines.told]
    assert MAX_PAUSE == 300


def test_another_reason_is_said_at_once(outage: Outage, clock: TurnedClock, lines: Lines) -> None:
    """Given brokers that fail for a reason of their own each, in turn, each is said once; not reasons without end."""
    for second in range(100):
        clock.now = second / 1000
        outage.failed(f"broker {second % 2}", 1.0)
    assert [fields["reason"] for _, _, fields in lines.told] == ["broker 0", "broker 1"]

    for number in range(100):
        outage.failed(f"port {number}", 1.0)
    assert len(lines.told) == MAX_REASONS


def test_the_next_time_begins_anew(outage: Outage, clock: TurnedClock, lines: Lines) -> None:
    """Given a return, it is told once for how long it was away, and the next failure has its line at once."""
    outage.failed("refused", 1.0)
    clock.now = 7.5
    outage.failed("refused", 1.0)

    assert outage.over() == {"away_for": 7.5, "attempts": 2}
    assert outage.over() == {}
    clock.now = 7.5 + STABLE_AFTER
    outage.failed("refused", 1.0)
    assert [(at, fields["attempts"]) for at, _, fields in lines.told] == [(0, 1), (7.5, 2), (7.5 + STABLE_AFTER, 1)]


def test_a_return_that_does_not_last_is_said_as_often_as_the_failure(
    outage: Outage, clock: TurnedClock, lines: Lines
) -> None:
    """Given a broker that is back and lost again each second, there are as few lines as if it were away, and each is
    followed by one about its return, which counts from the first failure on.
    """
    returns = []
    for second in range(100):
        clock.now = float(second)
        outage.failed("closed", 0.4)
        clock.now += 0.4
        returns.append((clock.now, outage.over()))

    assert [at for at, _, _ in lines.told] == [0, 5, 15, 35, 75]
    assert [one for one in returns if one[1] is not None] == [
        (at + 0.4, {"away_for": at + 0.4, "attempts": at + 1}) for at in (0, 5, 15, 35, 75)
    ]


def test_what_was_closed_for_another_reason_is_said_when_it_is_back_as_seldom(
    outage: Outage, clock: TurnedClock, lines: Lines
) -> None:
    """Given a connection that is closed again and again because of something else, there is no line about that, and
    its return is said at growing intervals.
    """
    said = []
    for second in range(100):
        clock.now = float(second)
        outage.closed()
        if outage.over() is not None:
            said.append(second)

    assert lines.told == []
    assert said == [0, 5, 15, 35, 75]


def test_a_broker_that_is_back_was_away(clock: TurnedClock, lines: Lines) -> None:
    """Given a broker that refuses for an hour, there are some lines, and that it is back is said with the time."""

    class Broker:
        """Can be connected to once `away` is over."""

        url = "amqp://rabbit//"
        gap = 0.0
        place = "vhost / of rabbit"
        away = True

        def dial(self) -> Dialed[str]:
            if self.away:
                raise BrokerUnavailable("rabbit: refused")
            return Dialed(lambda: "rabbit", lambda: None)

        def close(self) -> None: ...

    class Quiet:
        """Takes whatever it is told."""

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    stats, broker = Stats(), Broker()
    link = BrokerLink(
        cast(Source, broker),
        queue="celeryev.shop",
        stats=stats,
        health=Health(clock, 30.0, 5.0),
        report=Report(cast(Supervisor, Quiet()), stats, clock),
        watermark=Watermark(clock, 10, 1.0),
        logger=cast(Logger, lines),
        clock=clock,
        broadcast=cast(Broadcast, Quiet()),
        watcher=cast(QueueWatcher, Quiet()),
        peers=cast(Peers, Quiet()),
        threads=ConnectingAtOnce(clock),
    )
    while clock.now < 3600:
        try:
            link.connect()
        except BrokerUnavailable as error:
            link.lost(error)
        clock.now += link.remaining()
    broker.away = False
    assert link.connect()

    *away, (at, event, fields) = lines.told
    assert {event for _, event, _ in away} == {"broker-unavailable"}
    assert 10 < len(away) < 20
    assert (event, fields["away_for"], fields["broker"]) == ("broker-connected", round(at, 3), "rabbit")
