"""Sentinels are asked side by side: one that hangs, lags, refuses or does not know costs no connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis.exceptions

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.store import sentinel as module
from ha_monitor.store.sentinel import RETRY_AFTER, Sentinels, SentinelWatch
from ha_monitor.store.sentinel_url import Address, SentinelUrl
from ha_monitor.store.store import RedisStore
from tests.support.process import wait_for_value, wait_until
from tests.support.threads import no_thread_left
from tests.unit.builders import TurnedClock

S1, S2, S3 = ("s1", 26379), ("s2", 26379), ("s3", 26379)
OLD, NEW = ("old", 6379), ("new", 6379)
URL = SentinelUrl((S1, S2, S3), "main", {}, {})
LONG = 600.0
"""Seconds that no test waits for."""

Says = Callable[[], Address | None]


class Scripted(Sentinels):
    """Sentinels that do what they are told."""

    def __init__(self, timeout: float, *says: Says) -> None:
        super().__init__(URL, timeout, SystemClock())
        self.says = dict(zip((S1, S2, S3), says, strict=True))
        self.asked: list[Address] = []

    def _ask(self, sentinel: Address) -> Address | None:
        self.asked.append(sentinel)
        return self.says[sentinel]()


class Hanging:
    """A sentinel that says nothing until it is released."""

    def __init__(self, address: Address = OLD) -> None:
        self.released = threading.Event()
        self._address = address

    def __call__(self) -> Address:
        self.released.wait(LONG)
        return self._address


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    found = Hanging()
    yield found
    found.released.set()


def refusing(error: Exception) -> Says:
    def refuse() -> Address:
        raise error

    return refuse


def test_one_that_hangs_is_not_waited_for(hanging: Hanging) -> None:
    """Given three sentinels of which one hangs, the other two decide, and the one that hangs is not asked anew while it
    owes an answer.
    """
    sentinels = Scripted(LONG, hanging, lambda: NEW, lambda: NEW)

    assert [sentinels.find() for _ in range(3)] == [NEW] * 3
    assert sentinels.asked.count(S1) == 1
    hanging.released.set()


def test_each_attempt_of_a_store_to_connect_knows_what_the_one_before_asked(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given sentinels that hang, no attempt to connect asks one that still owes an answer to the one before."""
    asked: list[Address] = []

    def ask(_: Sentinels, sentinel: Address) -> Address:
        asked.append(sentinel)
        return hanging()

    monkeypatch.setattr(Sentinels, "_ask", ask)
    settings = StoreSettings(url="sentinel://s1:26379,s2:26379/main", timeout=0.1)
    store = RedisStore(settings, "tests", SystemClock())

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            store.dial()

    assert sorted(asked) == [S1, S2]


def test_the_only_one_that_answers_decides_soon(hanging: Hanging) -> None:
    """Given three sentinels of which two hang, the answer of the third is taken without their time-outs."""
    assert Scripted(LONG, hanging, hanging, lambda: NEW).find() == NEW


def test_all_that_hang_are_waited_for_once(hanging: Hanging) -> None:
    """Given three sentinels that hang, the time-out of one is the time-out of all, and the text says so of each."""
    with pytest.raises(StoreUnavailable) as caught:
        Scripted(0.05, hanging, hanging, hanging).find()

    assert str(caught.value) == "Redis: no sentinel names the primary of main: " + "; ".join(
        f"s{number}:26379: no answer within 0.05 s" for number in (1, 2, 3)
    )
    assert not caught.value.lasting


def test_one_that_is_behind_is_outvoted() -> None:
    """Given a sentinel that answers first and names the old primary, what the other two name is taken."""
    first = threading.Event()

    def behind() -> Address:
        first.set()
        return OLD

    def after() -> Address:
        first.wait(LONG)
        return NEW

    assert Scripted(LONG, behind, after, after).find() == NEW


def test_the_one_that_answered_first_is_asked_first_again() -> None:
    """Given that only the last sentinel answered, it is the first one to be asked the next time, which without threads
    is the only one.
    """
    down = refusing(ConnectionRefusedError())
    sentinels = Scripted(LONG, down, down, lambda: NEW)
    sentinels.find()
    assert sentinels.order == (S3, S1, S2)
    sentinels.asked.clear()
    with no_thread_left():
        assert sentinels.find() == NEW

    assert sentinels.asked == [S3]


def test_without_a_thread_one_is_asked_at_each_attempt() -> None:
    """Given a system without a thread to give, an attempt asks one sentinel, and the next attempt another one."""
    down = refusing(redis.exceptions.TimeoutError("Timeout connecting to server"))
    sentinels = Scripted(LONG, down, down, lambda: NEW)
    with no_thread_left():
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="s3:26379: not asked yet, as no thread can be started"):
                sentinels.find()
        assert sentinels.find() == NEW

    assert sentinels.asked == [S1, S2, S3]


@pytest.mark.parametrize(
    ("says", "reason", "lasting"),
    [
        (lambda: None, "it does not know main", True),
        (
            refusing(redis.exceptions.AuthenticationError("Authentication required.")),
            "it requires a password: set sentinel_password, and sentinel_username if it has users, in store.url",
            True,
        ),
        (
            refusing(redis.exceptions.AuthenticationError("invalid username-password pair or user is disabled.")),
            "sentinel_username or sentinel_password in store.url is wrong",
            True,
        ),
        (
            refusing(redis.exceptions.NoPermissionError("User m has no permissions to run the 'sentinel' command")),
            "its user lacks rights; grant it: +client|setname +sentinel|get-master-addr-by-name",
            True,
        ),
        (refusing(ConnectionRefusedError(111, "Connection refused")), "Connection refused", False),
    ],
)
def test_why_none_names_a_primary(says: Says, reason: str, lasting: bool) -> None:
    """Given sentinels that all refuse, the one line says why, and what to do; and whether waiting may help."""
    with pytest.raises(StoreUnavailable) as caught:
        Scripted(LONG, says, says, says).find()

    assert f"s2:26379: {reason}; s3:26379: {reason}" in str(caught.value)
    assert caught.value.lasting is lasting


class Connected:
    """A connection to a sentinel that answers each question at once."""

    def __init__(self) -> None:
        self.closed = False

    def send_command(self, *command: str) -> None: ...

    def can_read(self, timeout: float) -> bool:
        return True

    def read_response(self) -> Sequence[bytes]:
        return [b"new", b"6379"]

    def disconnect(self) -> None:
        self.closed = True


def slow_to_connect(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, Connected, SentinelWatch]:
    """A watch whose connection is made only when that is let happen, and both."""
    released, connection = threading.Event(), Connected()

    def connect(*_: object) -> Connected:
        released.wait(LONG)
        return connection

    monkeypatch.setattr(module, "connection_to_sentinel", connect)
    return released, connection, SentinelWatch(URL, LONG, TurnedClock())


def test_the_watch_waits_for_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a sentinel that takes its time to accept a connection, the loop goes on, and hears the answer later."""
    released, connection, watch = slow_to_connect(monkeypatch)

    assert [watch.primary() for _ in range(5)] == [None] * 5
    released.set()
    wait_for_value(watch.primary, NEW, 30, "the answer")
    watch.close()
    assert connection.closed


def test_a_connection_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a watch that is closed while it connects, the connection does not stay open."""
    released, connection, watch = slow_to_connect(monkeypatch)
    watch.primary()
    watch.close()
    released.set()

    wait_until(lambda: connection.closed, 30, "the end of the connection")


def test_the_watch_asks_another_one_some_seconds_after_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given sentinels that cannot be reached, nothing is known, and each is tried some seconds after the other."""
    tried: list[Address] = []

    def connect(_url: SentinelUrl, sentinel: Address, _timeout: float) -> Connected:
        tried.append(sentinel)
        raise ConnectionRefusedError

    monkeypatch.setattr(module, "connection_to_sentinel", connect)
    clock = TurnedClock()
    watch = SentinelWatch(URL, LONG, clock)
    for expected in ([S1], [S1, S2], [S1, S2, S3], [S1, S2, S3, S1]):
        wait_until(lambda: watch.primary() is None and watch._connecting is None, 30, "the failure")
        assert [watch.primary() for _ in range(3)] == [None] * 3
        assert tried == expected
        clock.now += RETRY_AFTER
