"""Threads beside the loop: one that cannot start, or dies, is told and tried again, and ends nothing else."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from ha_monitor import threads
from ha_monitor.broker import control
from ha_monitor.broker.control import WorkerBroadcast
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker
from ha_monitor.errors import BrokerBlocked, BrokerUnavailable
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.store.results import Candidates
from ha_monitor.threads import RETRY_AFTER, CallThread, ServiceThread, ThreadUnavailable
from tests.support.process import wait_for_value, wait_until
from tests.support.reports import NoReports, RecordedReports
from tests.support.threads import no_thread_left, plain_threads
from tests.unit.builders import TurnedClock

PACKAGE = Path(threads.__file__).parent
REFUSED = ("broadcast", "can't start new thread")


def test_a_thread_that_cannot_start_is_told_once_and_tried_again_after_a_pause() -> None:
    """Given a system without a thread to give, it is asked every ten seconds, and that is told once; when it has one
    again, the work begins.
    """
    clock = TurnedClock()
    told: list[tuple[str, str]] = []
    began = threading.Event()
    thread = ServiceThread(plain_threads(clock, told), "http", began.set)

    with no_thread_left() as tried:
        for _ in range(5):
            thread.ensure_running()
        assert tried == ["http"]
        clock.now += RETRY_AFTER
        thread.ensure_running()
        assert tried == ["http", "http"]
    clock.now += RETRY_AFTER
    thread.ensure_running()

    assert began.wait(30)
    assert told == [("http", "can't start new thread")]


def test_a_thread_that_dies_is_told_and_begun_anew_and_one_that_is_done_is_not() -> None:
    """Given work that raises at first and then returns, it is done twice, not more."""
    clock = TurnedClock()
    told: list[tuple[str, str]] = []
    runs: list[threading.Thread] = []

    def work() -> None:
        runs.append(threading.current_thread())
        if len(runs) == 1:
            raise OSError("no descriptor\nis left")

    thread = ServiceThread(plain_threads(clock, told), "surveyor", work)
    thread.ensure_running()
    wait_for_value(lambda: told, [("surveyor", "OSError: no descriptor is left")], 30, "the line")
    thread.join(30)
    thread.ensure_running()
    assert len(runs) == 1
    for _ in range(3):
        clock.now += RETRY_AFTER
        thread.ensure_running()
        thread.join(30)

    assert len(runs) == 2
    assert len(told) == 1


def test_calls_aside_fail_without_a_thread_and_work_with_one() -> None:
    """Given no thread, a call is not made and its future says so; the same object works once there is one."""
    clock, made = TurnedClock(), []
    thread = CallThread(plain_threads(clock), "handlers")

    with no_thread_left():
        refused = thread.submit(lambda: made.append("first"))
    clock.now += RETRY_AFTER

    assert thread.submit(lambda: 42).result(30) == 42
    with pytest.raises(ThreadUnavailable, match="handlers cannot be started: can't start new thread"):
        refused.result(0)
    assert made == []


def test_a_broadcast_that_could_not_be_sent_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a connection while there was no thread, its workers are reached once there is one, and once only."""
    clock = TurnedClock()
    told: list[tuple[str, str]] = []
    reached: list[str] = []
    monkeypatch.setattr(control, "broadcast_to_workers", lambda url, _settings, _hold: reached.append(url))
    monkeypatch.setattr(control, "any_worker_answers", lambda _url, _settings: True)
    broadcast = WorkerBroadcast(plain_threads(clock, told), Broker(), clock, NoReports())

    with no_thread_left():
        broadcast.send("amqp://one")
        broadcast.retry()
    clock.now += RETRY_AFTER
    broadcast.retry()
    wait_for_value(lambda: reached, ["amqp://one"], 30, "the broadcast")
    for _ in range(3):
        broadcast.retry()
    broadcast.send("amqp://two").result(30)

    assert reached == ["amqp://one", "amqp://two"]
    assert told == [REFUSED]


def test_one_broadcast_at_a_time_however_often_the_connection_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that takes its time, and ten connections meanwhile, there is one thread, and of the ten only the
    latest is reached.
    """
    release, reached = threading.Event(), []

    def slowly(url: str, _settings: Broker, _hold: object) -> None:
        reached.append((url, threading.current_thread()))
        release.wait(30)

    monkeypatch.setattr(control, "broadcast_to_workers", slowly)
    monkeypatch.setattr(control, "any_worker_answers", lambda _url, _settings: True)
    broadcast = WorkerBroadcast(plain_threads(), Broker(), SystemClock(), NoReports())
    broadcast.send("amqp://first")
    wait_for_value(lambda: len(reached), 1, 30, "the first broadcast")
    last = [broadcast.send(f"amqp://{number}") for number in range(10)][-1]
    release.set()
    last.result(30)

    assert [url for url, _ in reached] == ["amqp://first", "amqp://9"]
    assert len({thread for _, thread in reached}) == 1


def test_a_failure_is_told_once_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given workers that cannot be asked, as without a right, it is told at each connection, and not each time that
    they are asked again; nothing is known then, which holds nobody up."""

    def refused(_url: str, _settings: Broker, _hold: object) -> None:
        raise BrokerUnavailable("refused")

    monkeypatch.setattr(control, "broadcast_to_workers", refused)
    clock, reports = TurnedClock(), RecordedReports()
    broadcast = WorkerBroadcast(plain_threads(), Broker(), clock, reports)
    for connection in (1, 2):
        broadcast.send("amqp://one").result(30)
        for _ in range(3):
            clock.now += 1
            # It is not repeated while one is under way.
            wait_until(lambda: broadcast.ask_again() or broadcast.asked_at == clock.now, 30, "the next attempt", 0.001)
        assert reports.failures == ["refused"] * connection
    assert not broadcast.is_blocked
    # One more request may be under way, and would otherwise go to what the next test has in place of the broker.
    broadcast.send("amqp://one").result(30)


def test_an_alarm_that_begins_while_answers_are_awaited_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that blocks the connection on which it is seen whether workers answer, the request for heartbeats
    is repeated, which tells of the alarm, and no failure is told."""
    requests: list[str] = []

    def blocked(_url: str, _settings: Broker) -> bool:
        raise BrokerBlocked("an alarm")

    monkeypatch.setattr(control, "broadcast_to_workers", lambda url, _settings, _hold: requests.append(url))
    monkeypatch.setattr(control, "any_worker_answers", blocked)
    broadcast = WorkerBroadcast(plain_threads(), Broker(), SystemClock(), NoReports())
    broadcast.send("amqp://one").result(30)
    broadcast.retry()
    wait_for_value(lambda: len(requests), 2, 30, "another request")
    broadcast.retry()

    assert requests == ["amqp://one"] * 2


def test_a_question_without_a_thread_is_an_answer_with_a_problem() -> None:
    """Given no thread to ask workers in, the duty hears why, and can ask again."""
    clock = TurnedClock()
    investigator = Investigator(lambda _ids, _workers: pytest.fail("nobody asks"), None, clock, plain_threads(clock))

    with no_thread_left():
        investigator.ask(Candidates(5000, []))
    findings = investigator.take()

    assert findings is not None
    assert findings.problem == "the thread investigator cannot be started: can't start new thread"
    assert not investigator.busy


def test_threads_are_started_in_one_place_and_the_unit_has_room_for_all() -> None:
    """Given the sources of what runs as a service, no other module makes a thread; the names that are given to threads
    are those that the documentation counts, and the unit allows for several times as many.
    """
    starts, names = [], set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "demo" not in path.parts:
            starts += [path.name] * len(re.findall(r"threading\.Thread\(|ThreadPoolExecutor|to_thread|executor", text))
            names |= set(re.findall(r'(?:ServiceThread|threads\.calls|_threads\.start)\([^()]*?"([a-z]+)"', text))
    unit = (PACKAGE / "units/ha-monitor@.service").read_text(encoding="utf-8")

    assert starts == ["threads.py"]
    assert names == set(re.findall(r"`([a-z]+)`", threads.__doc__ or ""))
    found = re.search(r"^TasksMax=(\d+)$", unit, re.MULTILINE)
    assert found is not None and int(found[1]) >= 4 * (len(names) + 1)
