"""When something is tried again, and how often the supervisor hears of progress."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ha_monitor.pipeline.backoff import STABLE_AFTER, Backoff
from ha_monitor.supervision import Systemd, watchdog_interval
from tests.unit.builders import TurnedClock


def test_waits_double_up_to_a_limit_and_are_spread() -> None:
    """Given failures in a row, each wait is between half and all of a length that doubles up to the cap."""
    clock = TurnedClock()
    longest = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    rounds = []
    for _ in range(50):
        backoff = Backoff(clock, first=0.2, cap=5.0)
        rounds.append([backoff.failed() for _ in longest])

    for waits in rounds:
        assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, longest, strict=True))
    assert len({round(waits[0], 6) for waits in rounds}) > 25


def test_it_is_due_when_the_wait_is_over() -> None:
    """Given a failure, what remains shrinks with the clock to 0, and a success ends it at once."""
    clock = TurnedClock()
    backoff = Backoff(clock, first=1.0, cap=5.0)
    assert backoff.remaining() == 0

    wait = backoff.failed()
    clock.now += wait / 2
    assert backoff.remaining() == pytest.approx(wait / 2)
    clock.now += wait
    assert backoff.remaining() == 0

    backoff.failed()
    backoff.succeeded()
    assert backoff.remaining() == 0
    clock.now += STABLE_AFTER
    assert backoff.failed() <= 1.0


def test_a_success_that_does_not_last_changes_nothing() -> None:
    """Given a success before each failure, the waits grow all the same, and are over at each success; after one that
    lasts, they begin anew. It lasts from the first success on.
    """
    clock = TurnedClock()
    backoff = Backoff(clock, first=1.0, cap=8.0)
    waits = []
    for _ in range(10):
        waits.append(backoff.failed())
        backoff.succeeded()
        assert backoff.remaining() == 0
        clock.now += STABLE_AFTER - 0.1
    assert waits[3:] == [pytest.approx(6, abs=2)] * 7

    backoff.succeeded()
    clock.now += 0.1
    assert backoff.failed() <= 1.0


def test_the_first_failure_may_be_followed_by_no_wait() -> None:
    """Given a backoff that begins at once, there is no wait after the first failure, and the waits grow from the second
    on; after a success that lasts, there is none again.
    """
    clock = TurnedClock()
    backoff = Backoff(clock, first=1.0, cap=8.0, at_once=True)
    for _ in range(2):
        assert (backoff.failed(), backoff.remaining()) == (0.0, 0.0)
        waits = []
        for _ in range(5):
            backoff.succeeded()
            waits.append(backoff.failed())
            assert backoff.remaining() == pytest.approx(waits[-1])
        assert 0.5 <= waits[0] <= 1.0
        assert 4.0 <= waits[-1] <= 8.0
        backoff.succeeded()
        clock.now += STABLE_AFTER


def test_it_knows_since_when_it_fails() -> None:
    """Given several failures, the time of the first is kept until a success."""
    clock = TurnedClock(100.0)
    backoff = Backoff(clock, first=1.0, cap=5.0)
    backoff.failed()
    clock.now = 150.0
    backoff.failed()
    assert backoff.failing_since == 100.0

    backoff.succeeded()
    assert backoff.failing_since == 150.0


def test_thousands_of_failures_do_not_overflow() -> None:
    """Given a broker that is away for days, the wait stays at the cap."""
    backoff = Backoff(TurnedClock(), first=0.5, cap=10.0)

    assert all(backoff.failed() <= 10.0 for _ in range(5000))


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 7.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 7.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_four_times_in_its_time(environment: dict[str, str], interval: float | None) -> None:
    """Given what systemd says of its watchdog, the interval is a quarter; None if it is not for this process."""
    assert watchdog_interval(environment, 42) == interval


def test_systemd_is_told_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a notification socket, each message arrives; a status once, a sign of life once an interval."""
    path = tmp_path / "notify"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    clock = TurnedClock()
    systemd = Systemd({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, clock)

    systemd.ready()
    systemd.status("consuming")
    systemd.status("consuming")
    systemd.progress()
    systemd.progress()
    clock.now += 1.0
    systemd.progress()
    systemd.reloading()
    systemd.stopping()

    messages = [listener.recv(1000).decode() for _ in range(6)]
    listener.close()
    assert messages[:4] == ["READY=1", "STATUS=consuming", "WATCHDOG=1", "WATCHDOG=1"]
    assert messages[4].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert messages[5] == "STOPPING=1"


def test_without_systemd_nothing_is_said() -> None:
    """Given no notification socket, every call is a no-op."""
    systemd = Systemd({"WATCHDOG_USEC": "4000000"}, TurnedClock())

    systemd.ready()
    systemd.progress()
    systemd.stopping()

    assert systemd._notifier is None
