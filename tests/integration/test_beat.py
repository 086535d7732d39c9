"""Schedules of a real `celery beat`, with real workers and instances, on each broker.

What is found, and how long after the due time, is printed (`-s`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.schedules.model import Judgement, ScheduleState, Source
from ha_monitor.store.reader import StoreReader
from tests.support.beats import CeleryBeat
from tests.support.django_beat import SCHEDULER, environment, write_entries
from tests.support.instances import Fleet, Instance
from tests.support.process import wait_for_value, wait_until
from tests.support.workers import CeleryWorker

EVERY, GRACE = 4.0, 6.0
DEPLOYED_WITHIN = 20.0
"""Grace where what is watched is a deploy: a worker must have started in it, and have told its settings."""
KINDS = ("schedule-", "beat-", "learned-")
SETTLED = ("tests.support.settled", "2")
HASTY = ("tests.support.hasty",)


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
        self,
        folder: Path,
        broker_url: str,
        store_url: str,
        *,
        grace: float = GRACE,
        source: Source = Source.CONF,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """:param source: that of the schedules that are looked at."""
        graces = {name: {"grace": grace} for name in ("add", "echo", "decode")}
        env = {"HA_MONITOR_SCHEDULES": json.dumps(graces), **(env or {})}
        self.fleet = Fleet(folder, broker_url, store_url, size=2, env=env)
        self._source = source
        self._reader = StoreReader(self.fleet.config.store, self.fleet.node_id)
        self._reader.connect()
        self.told: list[tuple[str, str, float]] = []
        """What was found, and the seconds from the due time, or from what was done, until the line."""
        self._first: list[dict[str, Any]] = []
        """The lines of a schedule that was missed before the other one of the same beat."""

    def start(self, launcher: Sequence[str] = SETTLED) -> None:
        for instance in self.fleet.instances:
            if not instance.running:
                instance.start(launcher=launcher)
        self.fleet.wait_until_consuming()

    def judged(self) -> dict[str, Judgement]:
        """Those that the source tells: of the others only a grace is configured."""
        found = self._reader.schedules.judgements()
        return {one.definition.name: one for one in found if one.definition.source is self._source}

    def wait_for(self, state: ScheduleState, *names: str) -> None:
        """Wait until all schedules, which are these, are in a state."""

        def reached() -> bool:
            found = self.judged()
            return set(found) == set(names) and all(one.state is state for one in found.values())

        wait_until(reached, 120, f"{state} of {names}: {self.judged()}", 0.2)

    def lines(self, event: str) -> list[dict[str, Any]]:
        wanted = KINDS
        return [line for line in self.fleet.said(event) if str(line.get("kind", "")).startswith(wanted)]

    def opened(self, *but: str) -> list[tuple[str, str]]:
        """Kind and key of all incidents about schedules that opened so far. :param but: kinds that are left out."""
        return [(line["kind"], line["key"]) for line in self._opened(but)]

    def _opened(self, but: Sequence[str]) -> list[dict[str, Any]]:
        lines = self.lines("incident-opened")
        return [line for line in lines if line["kind"] not in but and line not in self._first]

    def open_ones(self) -> set[tuple[str, str]]:
        """The incidents about schedules that fire, or will if they are seen again."""
        found = self._reader.incidents.incidents()
        return {(one.kind, one.key) for one in found if one.is_open and one.kind.startswith(KINDS)}

    def wait_for_incident(self, what: str, kind: str, since: float) -> dict[str, Any]:
        """Wait for one line more that such an incident opened, and none of another kind.

        :param since: when what it tells of began.
        """
        before = len(self._opened(()))
        (line, *others) = wait_until(lambda: self._opened(())[before:], 120, f"{kind} after {what}", 0.1)
        assert line["kind"] == kind, line
        assert others == []
        self.told.append((what, kind, time.time() - since))
        return line

    def wait_for_silence(self, what: str, since: float, *but: str) -> dict[str, Any]:
        """Wait for one line more that a beat of two schedules is silent, and none of another kind; except that one of
        them may be missed first: the beat of a busy machine may send them a second apart, and then a look may come
        between their due times.

        :param since: when what it tells of began.
        :param but: kinds that may open as well.
        """
        before = len(self._opened(but))

        def opened() -> list[dict[str, Any]]:
            lines = self._opened(but)[before:]
            return lines if any(line["kind"] != "schedule-missed" for line in lines) else []

        *first, line = wait_until(opened, 120, f"beat-silent after {what}", 0.1)
        assert line["kind"] == "beat-silent", line
        assert line["size"] == 2
        assert len(first) <= 1, first
        self._first += first
        self.told.append((what, "beat-silent", time.time() - since))
        return line

    def wait_until_over(self) -> None:
        """Wait until no incident about schedules is open, and all have been told."""

        def over() -> bool:
            return not self.open_ones() and len(self.lines("incident-opened")) == len(self.lines("incident-resolved"))

        wait_until(over, 120, f"the end of {self.open_ones()}", 0.1)

    def wait_until_judged(self, until: float) -> None:
        """Wait until it is told what was due until then."""

        def judged() -> bool:
            coverage = self._reader.schedules.coverage()
            return coverage is not None and coverage.until >= until

        wait_until(judged, until - time.time() + 60, "what was due is judged", 0.2)

    def print_told(self) -> None:
        for what, kind, seconds in self.told:
            sys.stdout.write(f"{what:16} {kind:18} {seconds:5.1f} s\n")

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
    when that is over; and not when it moves to another host, where it has no file of what it has sent.
    """
    settings = scheduled("add", "echo")
    seen = watched(stack, tmp_path, broker, store_url)
    seen.start()
    worker(stack, broker, settings)
    beat = stack.enter_context(CeleryBeat(broker, settings))
    seen.wait_for(ScheduleState.ON_TIME, "add", "echo")
    assert {one.definition.timetable for one in seen.judged().values()} == {"every 4s"}

    beat.kill()
    seen.wait_for_silence("killed", time.time())
    beat.start()
    seen.wait_until_over()

    beat.freeze()
    seen.wait_for_silence("frozen", time.time())
    beat.thaw()
    seen.wait_until_over()

    doubled = [("schedule-doubled", "add"), ("schedule-doubled", "echo")]
    with CeleryBeat(broker, settings):
        began = time.time()
        wait_for_value(lambda: sorted(seen.opened("beat-silent")), doubled, 120, "two beats", 0.1)
        seen.told.append(("started twice", "schedule-doubled", time.time() - began))
    seen.wait_until_over()

    before = seen.opened()
    moved = CeleryBeat(broker, settings).load()
    stack.callback(moved.close)
    beat.wait_for_round()
    beat.stop()
    moved.start()
    moved.wait_for_round()
    seen.wait_until_judged(time.time() + 2 * (EVERY + GRACE))
    assert (seen.opened(), seen.open_ones()) == (before, set())
    seen.told.append(("moved", "nothing", 0.0))
    seen.print_told()


def test_a_deploy_and_a_monitor_that_is_away_are_no_incident(
    broker: str, store_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Given an entry that a deploy takes away and one that it adds, the new one is watched and nothing is told of what
    did not run; nor is it of due times over which the monitor was away. What a leader leaves that dies at the due time,
    the next one tells.
    """
    settings, new = scheduled("add", "echo"), scheduled("echo", "decode")
    seen = watched(stack, tmp_path, broker, store_url, grace=DEPLOYED_WITHIN)
    seen.start()
    first = worker(stack, broker, settings)
    old = stack.enter_context(CeleryBeat(broker, settings))
    seen.wait_for(ScheduleState.ON_TIME, "add", "echo")

    first.stop()
    worker(stack, broker, new, "other")
    beat = CeleryBeat(broker, new).load()
    stack.callback(beat.close)
    old.wait_for_round()
    old.stop()
    beat.start()
    wait_for_value(lambda: set(seen.judged()), {"echo", "decode"}, 120, "the schedules of the deploy", 0.2)
    wait_until(lambda: seen.judged()["decode"].last is not None, 60, "a run of the new one", 0.2)
    seen.wait_until_judged(time.time() + EVERY + DEPLOYED_WITHIN)
    # The new one fails, and that is told.
    assert seen.opened() == [("schedule-failed", "decode")]

    beat.wait_for_round()
    for instance in seen.fleet.instances:
        instance.stop()
    beat.stop()
    beat.load()
    time.sleep(EVERY + 1.5 * DEPLOYED_WITHIN)  # that due times pass of which nothing is seen
    beat.start()
    seen.start()
    beat.wait_for_round()
    seen.wait_until_judged(time.time() + EVERY + DEPLOYED_WITHIN)
    assert seen.opened("schedule-failed") == []

    beat.kill()
    due = time.time() + EVERY
    wait_until(lambda: time.time() > due, 30, "the due time", 0.1)
    seen.leader.kill()
    line = seen.wait_for_silence("leader killed", due, "schedule-failed")
    assert seen.opened("schedule-failed") == [("beat-silent", line["key"])]
    seen.told.append(("monitor away", "nothing", 0.0))
    seen.print_told()


def test_two_beats_that_share_a_lock_are_one(
    redis_broker_url: str, result_url: str, store_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Given two beats of celery-redbeat, whose schedule no worker has, it is read from their Redis; when the one that
    sends is killed and the other one takes over, nothing is told; when that one is killed, too, the beat is silent.
    """
    quick = {
        "redbeat_redis_url": result_url,
        # It holds its lock for five of these loops of 300 s otherwise, for which nobody sends after a crash.
        "redbeat_lock_timeout": 3,
        "beat_max_loop_interval": 1,
        # Without an entry of Celery's own, for results that do not expire by themselves.
        "result_expires": None,
    }
    settings, args = scheduled("add", "echo") | quick, ("-S", "redbeat.RedBeatScheduler")
    env = {"HA_MONITOR_REDBEAT_URL": result_url}
    seen = watched(stack, tmp_path, redis_broker_url, store_url, grace=2 * GRACE, source=Source.REDBEAT, env=env)
    seen.start()
    first, second = (CeleryBeat(redis_broker_url, settings, args=args).load() for _ in range(2))
    for beat in (first, second):
        stack.callback(beat.close)
    first.start()
    first.wait_for_round()
    second.start()
    worker(stack, redis_broker_url, {})
    seen.wait_for(ScheduleState.ON_TIME, "add", "echo")
    assert {(one.definition.task, one.definition.timetable) for one in seen.judged().values()} == {
        ("tests.add", "every 4s"),
        ("tests.echo", "every 4s"),
    }

    first.kill()
    second.wait_for_round()
    seen.wait_until_judged(time.time() + EVERY + 2 * GRACE)
    assert (seen.opened(), seen.open_ones()) == ([], set())
    seen.told.append(("one killed", "nothing", 0.0))

    second.kill()
    seen.wait_for_silence("both killed", time.time())
    seen.print_told()


def test_the_beat_of_a_database_is_watched_by_what_is_configured(
    broker_url: str, store_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Given a beat of django-celery-beat, whose schedule is in a database and told by no worker, what the configuration
    has of it is watched, by its period and by its crontab in a time zone; when beat is killed that is told, until it is
    back.
    """
    write_entries(
        tmp_path,
        [
            {"name": "import", "task": "tests.echo", "every": int(EVERY), "args": ["import"]},
            {"name": "report", "task": "tests.add", "minute": "*", "timezone": "Asia/Kolkata", "args": [1, 2]},
        ],
    )
    own = {
        "import": {"task": "tests.echo", "every": f"{EVERY:.0f}s", "grace": GRACE},
        # So long that it is not what is missing first: it comes once a minute only.
        "report": {"task": "tests.add", "cron": "* * * * *", "timezone": "Asia/Kolkata", "grace": 600},
    }
    env = {"HA_MONITOR_SCHEDULES": json.dumps(own)}
    seen = watched(stack, tmp_path, broker_url, store_url, source=Source.TOML, env=env)
    seen.start()
    worker(stack, broker_url, {})
    beat = CeleryBeat(broker_url, {}, args=("-S", SCHEDULER), tasks=["tests.echo"], env=environment(tmp_path))
    stack.enter_context(beat)

    def is_on_time() -> bool:
        found = seen.judged().get("import")
        return found is not None and found.state is ScheduleState.ON_TIME

    wait_until(is_on_time, 120, "a run of what is due every few seconds", 0.2)
    assert seen.opened() == []
    beat.kill()
    line = seen.wait_for_incident("killed", "schedule-missed", time.time())
    assert line["key"] == "import"
    beat.start()
    seen.wait_until_over()

    seen.wait_for(ScheduleState.ON_TIME, "import", "report")
    assert {(one.definition.task, one.definition.timetable) for one in seen.judged().values()} == {
        ("tests.echo", "every 4s"),
        ("tests.add", "* * * * *"),
    }
    seen.print_told()


def test_a_beat_whose_schedule_nobody_tells_is_learned_and_its_silence_is_a_warning(
    broker: str, store_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Given a beat with two tasks of which no worker knows the schedule, and a monitor that learns in seconds, both are
    learned; when beat is killed, each is warned of, also by the next leader, until beat is back.
    """
    settings = scheduled("add", "echo")
    seen = watched(stack, tmp_path, broker, store_url, source=Source.LEARNED)
    seen.start(HASTY)
    worker(stack, broker, {})
    beat = stack.enter_context(CeleryBeat(broker, settings))
    seen.wait_for(ScheduleState.ON_TIME, "tests.add", "tests.echo")
    assert {one.definition.timetable for one in seen.judged().values()} <= {"every 4s", "every 3.9s", "every 4.1s"}
    beat.wait_for_round()
    assert seen.opened() == []

    beat.kill()
    killed = time.time()
    seen.leader.kill()
    tasks = [("learned-missed", "tests.add"), ("learned-missed", "tests.echo")]
    wait_for_value(lambda: sorted(seen.opened()), tasks, 180, "the warnings", 0.1)
    seen.told.append(("killed", "learned-missed", time.time() - killed))
    assert {line["severity"] for line in seen.lines("incident-opened")} == {"warn"}
    beat.start()
    seen.wait_until_over()
    assert sorted(seen.opened()) == tasks
    seen.print_told()
