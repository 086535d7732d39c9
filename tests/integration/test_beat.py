"""Schedules of a real `celery beat`, with real workers and instances, on each broker.

What is found, and how long after the due time, is printed (`-s`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.schedules.model import Judgement, ScheduleState, Source
from ha_monitor.store.reader import StoreReader
from tests.support.beats import CeleryBeat
from tests.support.instances import Fleet, Instance
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker

EVERY, GRACE = 4.0, 6.0
SETTLED = ("tests.support.settled", "2")


def scheduled(*names: str) -> dict[str, Any]:
    """The settings of an application whose beat runs tasks of these names every few seconds."""
    return {
        "beat_schedule": {
            name: {"task": f"tests.{name}", "schedule": EVERY, "args": [1, 2] if name == "add" else [name]}
            for name in names
        }
    }


class Watched:
    """A fleet, an application with one worker, and what is said of its schedules."""

    def __init__(
        self, folder: Path, broker_url: str, store_url: str, *, size: int = 2, env: dict[str, str] | None = None
    ) -> None:
        graces = {name: {"grace": GRACE} for name in ("add", "echo", "decode")}
        env = {"HA_MONITOR_SCHEDULES": json.dumps(graces), **(env or {})}
        self.fleet = Fleet(folder, broker_url, store_url, size=size, env=env)
        self._reader = StoreReader(self.fleet.config.store, self.fleet.node_id)
        self._reader.connect()
        self.told: list[tuple[str, str, float]] = []
        """What was found, and the seconds from the due time, or from what was done, until the line."""

    def start(self) -> None:
        for instance in self.fleet.instances:
            if not instance.running:
                instance.start(launcher=SETTLED)
        self.fleet.wait_until_consuming()

    def judged(self) -> dict[str, Judgement]:
        """Those that a worker knows: of the others only a grace is configured."""
        found = self._reader.schedules.judgements()
        return {one.definition.name: one for one in found if one.definition.source is Source.CONF}

    def wait_for(self, state: ScheduleState, *names: str) -> None:
        """Wait until all schedules, which are these, are in a state."""

        def reached() -> bool:
            found = self.judged()
            return set(found) == set(names) and all(one.state is state for one in found.values())

        wait_until(reached, 120, f"{state} of {names}: {self.judged()}", 0.2)

    def lines(self, event: str) -> list[dict[str, Any]]:
        wanted = ("schedule-", "beat-")
        return [line for line in self.fleet.said(event) if str(line.get("kind", "")).startswith(wanted)]

    def open_ones(self) -> set[tuple[str, str]]:
        """The incidents about schedules that fire."""
        found = self._reader.incidents.incidents()
        return {(one.kind, one.key) for one in found if one.is_open and one.kind.startswith(("schedule-", "beat-"))}

    def wait_for_incident(self, what: str, kind: str, since: float) -> dict[str, Any]:
        """Wait for one line more that such an incident opened. :param since: when what it tells of began."""
        before = len(self.lines("incident-opened"))
        (line, *others) = wait_until(lambda: self.lines("incident-opened")[before:], 120, f"{kind} after {what}", 0.1)
        assert line["kind"] == kind, line
        assert others == []
        self.told.append((what, kind, time.time() - since))
        return line

    def wait_until_over(self) -> None:
        """Wait until no incident about schedules is open."""
        wait_until(lambda: not self.open_ones(), 120, f"the end of {self.open_ones()}", 0.1)

    @property
    def leader(self) -> Instance:
        (token,) = {one.who["instance"] for one in self.fleet.entries() if one.leads and one.lease_left > 0}
        return next(one for one in self.fleet.instances if one.name == token)

    def close(self) -> None:
        self._reader.close()


@pytest.fixture(params=["RabbitMQ", "Redis"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker."""
    return str(request.getfixturevalue("broker_url" if request.param == "RabbitMQ" else "redis_broker_url"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def watched(stack: ExitStack, folder: Path, broker: str, store_url: str, **more: Any) -> Watched:
    found = Watched(folder, broker, store_url, **more)
    stack.callback(found.close)
    stack.enter_context(found.fleet)
    return found


def worker(stack: ExitStack, broker: str, settings: dict[str, Any], name: str = "worker") -> CeleryWorker:
    env = {"TESTS_SETTINGS": json.dumps(settings)}
    return stack.enter_context(CeleryWorker(broker, name, pool="threads", send_sent_event=True, env=env))


def test_what_becomes_of_a_beat_is_told(broker: str, store_url: str, tmp_path: Path, stack: ExitStack) -> None:
    """Given a beat with two schedules, it is told of within grace when it was killed, is frozen, or is there twice, and
    when that is over; and not when it moves to another host.
    """
    settings = scheduled("add", "echo")
    seen = watched(stack, tmp_path, broker, store_url)
    seen.start()
    worker(stack, broker, settings)
    beat = stack.enter_context(CeleryBeat(broker, settings))
    seen.wait_for(ScheduleState.ON_TIME, "add", "echo")
    assert {one.definition.timetable for one in seen.judged().values()} == {"every 4s"}

    beat.kill()
    line = seen.wait_for_incident("killed", "beat-silent", time.time())
    assert line["size"] == 2
    beat.start()
    seen.wait_until_over()

    beat.freeze()
    seen.wait_for_incident("frozen", "beat-silent", time.time())
    beat.thaw()
    seen.wait_until_over()

    with CeleryBeat(broker, settings):
        began = time.time()
        wait_until(lambda: {kind for kind, _ in seen.open_ones()} == {"schedule-doubled"}, 120, "two beats", 0.1)
        seen.told.append(("started twice", "schedule-doubled", time.time() - began))
    seen.wait_until_over()

    before = len(seen.lines("incident-opened"))
    beat.stop()
    with CeleryBeat(broker, settings):
        time.sleep(3 * (EVERY + GRACE))  # that nothing is told needs time in which it could be
        assert seen.lines("incident-opened")[before:] == []
        seen.told.append(("moved", "nothing", 0.0))
    for what, kind, seconds in seen.told:
        sys.stdout.write(f"{what:16} {kind:18} {seconds:5.1f} s\n")


def test_a_deploy_and_a_monitor_that_is_away_are_no_incident(
    broker: str, store_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Given an entry that a deploy takes away and one that it adds, the new one is watched and nothing is told; and so
    it is of due times over which the monitor was away. What a leader leaves that dies at the due time, the next one
    tells.
    """
    settings = scheduled("add", "echo")
    seen = watched(stack, tmp_path, broker, store_url)
    seen.start()
    first = worker(stack, broker, settings)
    beat = stack.enter_context(CeleryBeat(broker, settings))
    seen.wait_for(ScheduleState.ON_TIME, "add", "echo")

    first.stop()
    beat.stop()
    new = scheduled("echo", "decode")
    worker(stack, broker, new, "other")
    beat.start(new)
    wait_until(lambda: set(seen.judged()) == {"echo", "decode"}, 120, "the schedules of the deploy", 0.2)
    wait_until(lambda: seen.judged()["decode"].last is not None, 60, "a run of the new one", 0.2)
    assert seen.lines("incident-opened") == [line for line in seen.lines("incident-opened") if line["key"] == "decode"]

    before = len(seen.lines("incident-opened"))
    for instance in seen.fleet.instances:
        instance.stop()
    beat.stop()
    time.sleep(3 * EVERY + GRACE)
    beat.start()
    seen.start()
    time.sleep(3 * (EVERY + GRACE))
    assert [line for line in seen.lines("incident-opened")[before:] if line["kind"] != "schedule-failed"] == []

    beat.kill()
    due = max(one.next_due or 0.0 for one in seen.judged().values())
    wait_until(lambda: time.time() > due, 30, "the due time", 0.1)
    seen.leader.kill()
    line = seen.wait_for_incident("leader killed", "beat-silent", due)
    assert line["size"] == 2
    for what, kind, seconds in seen.told:
        sys.stdout.write(f"{what:16} {kind:18} {seconds:5.1f} s\n")
