"""Connecting in a thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ha_monitor.dialing import Dialed, Dialing
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.threads import CallThread
from tests.support.process import wait_until
from tests.support.threads import no_thread_left, plain_threads
from tests.unit.builders import TurnedClock


class Line:
    """What is connected to, with a hook that is down until it is picked up."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.told: list[str] = []
        self.threads: list[str] = []

    def dial(self) -> Dialed[str]:
        self.threads.append(threading.current_thread().name)
        assert self.may_answer.wait(60)
        return Dialed(lambda: "connected", lambda: self.told.append("discarded"))


@pytest.fixture
def line() -> Any:
    one = Line()
    yield one
    one.may_answer.set()


@pytest.fixture
def dialing() -> Dialing[str]:
    clock = TurnedClock()
    return Dialing(CallThread(plain_threads(clock), "broker"), clock)


def test_an_attempt_is_in_progress_until_it_has_ended(dialing: Dialing[str], line: Line) -> None:
    """Given a host that does not answer, who asks for the result has none yet, and is not held up."""
    dialing.begin(line.dial)
    assert dialing.result(0.0) is None
    assert dialing.is_busy

    line.may_answer.set()
    dialed = dialing.result(60)

    assert dialed is not None
    assert dialed.use() == "connected"
    assert not dialing.is_busy
    assert line.threads == ["broker"]


def test_what_went_wrong_is_raised_where_it_is_asked_for(dialing: Dialing[str]) -> None:
    """Given an attempt that fails, its error is that of the question for the result, and the next may begin."""

    def dial() -> Dialed[str]:
        raise BrokerUnavailable("refused")

    dialing.begin(dial)
    with pytest.raises(BrokerUnavailable, match="refused"):
        dialing.result(60)
    assert not dialing.is_busy


def test_a_connection_that_nobody_wants_any_more_is_discarded(dialing: Dialing[str], line: Line) -> None:
    """Given an attempt that was dropped while it was under way, what it brings is closed, and an attempt that begins
    meanwhile comes after it."""
    dialing.begin(line.dial)
    wait_until(lambda: bool(line.threads), 60, "the attempt")
    dialing.drop()
    assert not dialing.is_busy
    dialing.begin(line.dial)
    line.may_answer.set()

    assert dialing.result(60) is not None
    assert line.told == ["discarded"]


def test_without_a_thread_it_is_connected_at_once(dialing: Dialing[str], line: Line) -> None:
    """Given a system that has no thread left, the attempt is made by who asks for its result."""
    line.may_answer.set()
    with no_thread_left("broker"):
        dialing.begin(line.dial)
        dialed = dialing.result(0.0)

    assert dialed is not None
    assert line.threads == [threading.current_thread().name]
