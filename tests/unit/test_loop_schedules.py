"""Schedules as the leader's loop looks at them, with store and broker in memory and a simulated clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from ha_monitor.clock import Clock
from ha_monitor.config.schedules import ScheduleSettings
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerBlocked, BrokerUnavailable, StoreUnavailable
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.pipeline.schedules import RETRY_AFTER, SETTLED_AFTER
from ha_monitor.schedules import learned
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import SETTLING_TIME, Judgement, ScheduleState, Source
from ha_monitor.store.incidents import Phase
from ha_monitor.store.memory.incidents import MemoryReader
from ha_monitor.threads import CallThread
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import event
from tests.unit.loop_bed import Bed, Instance, live
from tests.unit.test_loop_incidents import CONFIG, AtOnce, beat, lines, phases

EVERY = 60.0
SETTLED = SETTLING_TIME + 2 * EVERY


class AskingAtOnce(ConnectingAtOnce):
    """What a test sees does not depend on how long a look or a question takes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)

    def calls(self, name: str) -> CallThread:
        return AtOnce() if name in ("incidents", "schedules") else super().calls(name)


class Fleet:
    """An application whose beat sends tasks, its workers, and the instances that watch it."""

    def __init__(
        self, bed: Bed, *, tasks: Sequence[str] = ("shop.report",), every: float = EVERY, told: bool = True
    ) -> None:
        """:param told: whether workers know what beat runs, and not only beat does."""
        self.bed = bed
        self.every = every
        self.told = told
        self.conf: Any = {
            "timezone": "UTC",
            "beat_schedule": {f"{task} often": {"task": task, "schedule": every} for task in tasks},
        }
        self.worker = "celery@a"
        """The one that lives."""
        self.beats = 1
        """How many of them send tasks."""
        self.state = "task-succeeded"
        """How tasks end."""
        self.runs = 0
        self.asked: list[Sequence[str]] = []
        self.trouble: Exception | None = None
        self.answering = True
        self.silent: set[str] = set()
        """Workers that do not answer."""
        self._next = bed.clock.now

    def confs(self, workers: Sequence[str]) -> Mapping[str, object]:
        self.asked.append(list(workers))
        if self.trouble is not None:
            raise self.trouble
        conf = self.conf if self.told else {"timezone": "UTC"}
        return {name: conf for name in workers if self.answering and name not in self.silent}

    def instance(self, name: str = "1", config: Config = CONFIG) -> Instance:
        threads = AskingAtOnce(self.bed.clock)
        detector = IncidentDetector(MemoryReader(self.bed.server), threads)
        return Instance(
            self.bed,
            name,
            config=config,
            detector=detector,
            discovery=ScheduleDiscovery(self.confs, None, threads),
            threads=threads,
        )

    def live(self, seconds: float, *instances: Instance) -> None:
        """Let time pass, in which worker and beat do their work."""
        clock = self.bed.clock
        until = clock.now + seconds
        while clock.now < until:
            if clock.now >= self._next:
                self._next += self.every
                for _ in range(self.beats):
                    self.send()
            beat(self.bed, self.worker)
            if instances:
                live(2.0, *instances)
            else:
                clock.now += 2.0

    def send(self) -> None:
        """What beat does when a schedule is due, and the worker with it."""
        for entry in self.conf["beat_schedule"].values():
            self.runs += 1
            uuid, now, task = f"run-{self.runs}", self.bed.clock.time(), entry["task"]
            kinds = ("task-sent", "task-received", "task-started", self.state)
            for number, kind in enumerate(kinds):
                known = {"name": task} if kind in ("task-sent", "task-received") else {}
                sender = "gen1@host" if kind == "task-sent" else "celery@a"
                self.bed.publish(event(kind, at=now + number / 1000, uuid=uuid, hostname=sender, **known))

    def learn(self) -> None:
        """Let it be known that what beat runs has run for more than a week."""
        now = self.bed.clock.time()
        for entry in self.conf["beat_schedule"].values():
            habit = Habit(entry["task"], now - 10 * 86400, now - 1, (self.every,) * 20)
            self.bed.server.schedules.habits[entry["task"]] = habit

    @property
    def judged(self) -> dict[str, Judgement]:
        return self.bed.server.schedules.judgements

    @property
    def states(self) -> dict[str, ScheduleState]:
        return {name: one.state for name, one in self.judged.items()}


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(Bed())


def test_a_schedule_is_known_from_a_worker_and_its_runs_are_seen(fleet: Fleet) -> None:
    """Given a worker that tells the schedule of beat, what ran when it was due is kept with how late it was."""
    one = fleet.instance()
    fleet.live(4 * EVERY, one)

    assert fleet.states == {"shop.report often": ScheduleState.ON_TIME}
    (found,) = fleet.judged.values()
    assert (found.definition.timetable, found.definition.source) == ("every 1m", Source.CONF)
    assert found.last is not None
    assert found.last.run is not None
    assert found.last.run.state == "SUCCESS"
    assert len(found.history.occurrences) >= 3
    assert all(abs(due.delay or 0.0) < 3 for due in found.history.occurrences[1:])
    assert found.next_due is not None
    assert 0 <= found.next_due - fleet.bed.clock.time() <= EVERY
    assert lines(one) == []


@pytest.mark.thorough
def test_a_schedule_that_does_not_run_is_told_within_its_grace_and_again_when_it_runs(fleet: Fleet) -> None:
    """Given one schedule whose beat stops, its incident opens once, within grace and some looks, and ends with a
    run.
    """
    one = fleet.instance()
    fleet.live(SETTLED, one)
    assert lines(one) == []
    fleet.beats = 0
    due = next(iter(fleet.judged.values())).next_due
    assert due is not None
    while not lines(one):
        fleet.live(2, one)
        assert fleet.bed.clock.time() < due + 120

    assert fleet.bed.clock.time() - due < 30 + 3 * 5 + 10
    (line,) = one.said("incident-opened")
    assert line["kind"] == "schedule-missed"
    assert line["severity"] == "page"
    assert line["summary"] == "shop.report often did not run when it was due, 1 time in a row: shop.report, every 1m"
    assert line["command"] == "ha-monitor schedules 'shop.report often'"
    assert abs(datetime.fromisoformat(line["since"]).timestamp() - due) < 3
    fleet.live(10 * EVERY, one)
    assert len(lines(one)) == 1
    assert next(iter(fleet.judged.values())).missed >= 9
    fleet.beats = 1
    fleet.live(2 * EVERY, one)

    assert [line[0] for line in lines(one)] == ["incident-opened", "incident-resolved"]
    assert fleet.states == {"shop.report often": ScheduleState.ON_TIME}


@pytest.mark.thorough
def test_a_silent_beat_is_one_incident_and_not_one_for_each_schedule(fleet: Fleet) -> None:
    """Given a beat with several schedules that dies, one incident opens in place of all of theirs, and ends."""
    fleet = Fleet(Bed(), tasks=["a.one", "a.two", "a.three"])
    one = fleet.instance()
    fleet.live(SETTLED, one)
    fleet.beats = 0
    fleet.live(4 * EVERY, one)

    assert phases(fleet.bed) == {("beat-silent", "beat"): Phase.FIRING}
    (line,) = one.said("incident-opened")
    assert line["summary"] == (
        "nothing comes from beat: all that was due, 3 of 3 schedules, did not run: a.one often, a.three often and "
        "a.two often"
    )
    assert line["size"] == 3
    fleet.beats = 1
    fleet.live(2 * EVERY, one)
    assert [line[0] for line in lines(one)] == ["incident-opened", "incident-resolved"]


@pytest.mark.thorough
def test_two_beats_are_found(fleet: Fleet) -> None:
    """Given a second beat, the schedule is told of as doubled, until the second is gone."""
    one = fleet.instance()
    fleet.live(SETTLED, one)
    fleet.beats = 2
    fleet.live(6 * EVERY, one)

    assert phases(fleet.bed) == {("schedule-doubled", "shop.report often"): Phase.FIRING}
    fleet.beats = 1
    fleet.live(8 * EVERY, one)
    assert phases(fleet.bed) == {("schedule-doubled", "shop.report often"): Phase.RESOLVED}


def test_a_run_that_fails_is_a_warning_until_one_succeeds(fleet: Fleet) -> None:
    """Given a schedule whose run fails, its own incident says so, until a later one succeeds."""
    one = fleet.instance()
    fleet.live(SETTLED, one)
    fleet.state = "task-failed"
    fleet.live(2 * EVERY, one)
    assert phases(fleet.bed)["schedule-failed", "shop.report often"] is Phase.FIRING
    fleet.state = "task-succeeded"
    fleet.live(3 * EVERY, one)

    assert phases(fleet.bed)["schedule-failed", "shop.report often"] is Phase.RESOLVED


def test_a_monitor_that_was_down_over_a_due_time_tells_nothing(fleet: Fleet) -> None:
    """Given a monitor that was away while beat did not run, nothing is said to be missed of that time."""
    one = fleet.instance()
    fleet.live(SETTLED, one)
    fleet.beats = 0
    fleet.live(5 * EVERY)
    fleet.beats = 1
    again = fleet.instance("2")
    fleet.live(6 * EVERY, again)

    assert [line for line in lines(one, again) if "often" in line[1]] == []
    assert fleet.states == {"shop.report often": ScheduleState.ON_TIME}
    (found,) = fleet.judged.values()
    assert found.history.missed_total == 0
    coverage = fleet.bed.server.schedules.coverage
    assert coverage is not None
    assert len(coverage.gaps) == 1


def test_a_leader_that_dies_at_the_due_time_leaves_it_to_the_next(fleet: Fleet) -> None:
    """Given two instances, and a leader that dies when a run does not come, the other tells of it, once."""
    one, two = fleet.instance(), fleet.instance("2")
    fleet.live(SETTLED, one, two)
    leader, other = (one, two) if one.telemetry.is_leader() else (two, one)
    fleet.beats = 0
    fleet.live(EVERY + 10, leader, other)
    fleet.live(3 * EVERY, other)

    told = [line for line in lines(one, two) if "often" in line[1]]
    assert told == [("incident-opened", "shop.report often", False)]
    coverage = fleet.bed.server.schedules.coverage
    assert coverage is not None
    assert coverage.gaps == ()


@pytest.mark.thorough
def test_nothing_is_born_while_the_broker_is_away(fleet: Fleet) -> None:
    """Given a broker that is gone for a while, in which nothing ran, no schedule is said to have missed it."""
    one = fleet.instance()
    fleet.live(SETTLED, one)
    fleet.beats = 0
    fleet.bed.broker_trouble.away = BrokerUnavailable("away")
    fleet.live(4 * EVERY, one)
    fleet.bed.broker_trouble.away = None
    fleet.beats = 1
    fleet.live(4 * EVERY, one)

    assert [line for line in lines(one) if "often" in line[1]] == []
    assert fleet.states == {"shop.report often": ScheduleState.ON_TIME}


def test_a_schedule_that_a_new_version_drops_is_gone(fleet: Fleet) -> None:
    """Given a worker that comes with other settings, it is asked, and what it does not know any more is not watched."""
    one = fleet.instance()
    fleet.live(3 * EVERY, one)
    fleet.conf = {"timezone": "UTC", "beat_schedule": {"other": {"task": "shop.other", "schedule": EVERY}}}
    for _ in range(10):
        beat(fleet.bed, "celery@b")
        fleet.live(2, one)

    assert fleet.asked[-1] == ["celery@a", "celery@b"]
    assert list(fleet.states) == ["other"]


def test_a_worker_that_is_started_again_under_its_name_is_asked_at_once(fleet: Fleet) -> None:
    """Given a worker that a deploy replaces within a heartbeat by one of the same name, it is asked in seconds what it
    knows, and once; one that only goes on is not.
    """
    one = fleet.instance()
    fleet.live(3 * EVERY, one)
    before = len(fleet.asked)
    fleet.live(EVERY, one)
    assert len(fleet.asked) == before
    fleet.conf = {"timezone": "UTC", "beat_schedule": {"other": {"task": "shop.other", "schedule": EVERY}}}
    restarted = fleet.bed.clock.time()
    fleet.bed.publish(event("worker-online", at=restarted, hostname="celery@a", pid=4712))
    fleet.live(2 * SETTLED_AFTER, one)
    assert fleet.asked[before:] == [["celery@a"]]
    fleet.live(EVERY, one)

    assert list(fleet.states) == ["other"]
    assert len(fleet.asked) == before + 1


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (BrokerUnavailable("access to exchange 'celery.pidbox' refused"), "access to exchange 'celery.pidbox' refused"),
        (KeyError("amqp://bob:hunter2@rabbit//"), "KeyError: 'amqp://bob:***@rabbit//'"),
    ],
    ids=["of the broker", "unforeseen"],
)
def test_workers_that_may_not_be_asked_are_told_of_once_and_the_configuration_remains(
    fleet: Fleet, trouble: Exception, said: str
) -> None:
    """Given a broker that forbids to ask, or a library that raises what nobody foresaw, one line says so, without
    passwords, what is known stays, and the configured schedules count.
    """
    own = {"nightly": ScheduleSettings(task="shop.report", every="1m")}
    one = fleet.instance(config=msgspec.structs.replace(CONFIG, schedules=own))
    fleet.trouble = trouble
    fleet.live(4 * EVERY, one)

    assert [line["reason"] for line in one.said("schedules-not-read")] == [said]
    assert fleet.states == {"nightly": ScheduleState.ON_TIME}
    assert fleet.bed.server.schedules.sources[Source.CONF].problem == said
    assert len(fleet.asked) >= 3


def test_a_worker_that_does_not_answer_takes_nothing_away(fleet: Fleet) -> None:
    """Given workers that are too busy to answer, what was known of the schedules stays, and the line says so."""
    one = fleet.instance()
    fleet.live(3 * EVERY, one)
    fleet.answering = False
    fleet.live(660, one)

    assert list(fleet.states) == ["shop.report often"]
    assert [line["reason"] for line in one.said("schedules-not-read")] == [
        "the only worker asked for its settings did not answer"
    ]
    assert fleet.bed.server.schedules.sources[Source.CONF].read_at > 0


def test_what_only_a_worker_that_is_gone_may_have_is_forgotten_at_once(fleet: Fleet) -> None:
    """Given a worker that was killed, and one with other settings that takes its place, nothing is forgotten while the
    first may still be there, and seconds after it is lost its schedules are.
    """
    one = fleet.instance()
    fleet.live(3 * EVERY, one)
    heard = fleet.bed.clock.time()
    fleet.conf = {"timezone": "UTC", "beat_schedule": {"other": {"task": "shop.other", "schedule": EVERY}}}
    fleet.silent = {"celery@a"}
    fleet.worker = "celery@b"
    fleet.live(3 * SETTLED_AFTER, one)
    assert fleet.asked[-1] == ["celery@a", "celery@b"]
    assert set(fleet.states) == {"shop.report often", "other"}
    while not one.said("worker-lost"):
        fleet.live(2, one)
    assert fleet.bed.clock.time() - heard < RETRY_AFTER
    fleet.live(2 * SETTLED_AFTER, one)

    assert fleet.asked[-1] == ["celery@b"]
    assert set(fleet.states) == {"other"}


def test_a_worker_that_does_not_answer_is_asked_once_more_soon_and_then_seldom(fleet: Fleet) -> None:
    """Given two workers one of which does not answer, it is asked again after a minute, in case it was only busy; one
    that never answers does not have all be asked each minute.
    """
    one = fleet.instance()
    fleet.live(3 * EVERY, one)
    fleet.silent = {"celery@b"}
    before = len(fleet.asked)
    for _ in range(2):
        for _ in range(int(2 * RETRY_AFTER / 4)):
            beat(fleet.bed, "celery@b")
            fleet.live(4, one)
        assert len(fleet.asked) == before + 2


def test_an_alarm_of_the_broker_is_nothing_new(fleet: Fleet) -> None:
    """Given a broker with an alarm, of which another line tells, nobody is asked, and no line repeats it."""
    one = fleet.instance()
    fleet.trouble = BrokerBlocked("alarm")
    fleet.live(EVERY, one)
    fleet.trouble = None
    fleet.live(2 * EVERY, one)

    assert one.said("schedules-not-read") == []
    assert list(fleet.states) == ["shop.report often"]


def test_what_a_lost_reply_wrote_is_written_once_more(fleet: Fleet) -> None:
    """Given a store whose reply does not come, what is kept of schedules is complete in the end."""
    one = fleet.instance()
    fleet.bed.store_trouble.at("after schedules", *(StoreUnavailable("gone") for _ in range(2)))
    fleet.live(4 * EVERY, one)

    assert fleet.states == {"shop.report often": ScheduleState.ON_TIME}


HALVES = {"beat_schedule": {"\ud800": {"task": "\ud800", "schedule": "\udfff", "options": {"queue": "\ud800"}}}}


@pytest.mark.parametrize(
    "conf", [None, [], {"beat_schedule": None}, {"beat_schedule": {"\x1b[31m": {"task": 7}}}, 7, HALVES]
)
def test_hostile_settings_harm_nothing(fleet: Fleet, conf: Any) -> None:
    """Given a worker that answers with anything, the loop goes on, and other incidents are judged."""
    fleet.conf = conf
    fleet.beats = 0
    one = fleet.instance()
    fleet.live(EVERY, one)

    assert one.said("incidents-not-judged") == []
    assert all(state is ScheduleState.NOT_KNOWN for state in fleet.states.values())


def learned_fleet(bed: Bed | None = None) -> Fleet:
    """One whose beat sends a task every five minutes that is known by habit only."""
    fleet = Fleet(bed or Bed(), every=300.0, told=False)
    fleet.learn()
    return fleet


@pytest.mark.thorough
def test_what_was_learned_and_does_not_run_is_a_warning_and_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a task that nobody tells of and that ran every five minutes for days, its silence is a warning, once, that
    says how it is known; after a time (which is short here) that is over, and the task is forgotten.
    """
    monkeypatch.setattr(learned, "MIN_WARNING", 1200.0)
    fleet = learned_fleet()
    one = fleet.instance()
    fleet.live(SETTLING_TIME + 900, one)
    assert fleet.states == {"shop.report": ScheduleState.ON_TIME}
    assert fleet.judged["shop.report"].definition.source is Source.LEARNED
    assert lines(one) == []
    fleet.beats = 0
    fleet.live(300 + 600 + 100, one)

    (line,) = one.said("incident-opened")
    assert (line["kind"], line["key"], line["severity"]) == ("learned-missed", "shop.report", "warn")
    assert line["summary"] == (
        "shop.report ran every 5m, but no longer does; no source says that it should: 20 of the last 20 times between "
        "runs were about this. Unless it is confirmed (ha-monitor schedules --learned), it is forgotten after 20m"
    )
    assert line["command"] == "ha-monitor schedules shop.report"
    fleet.live(1300, one)
    assert [found[0] for found in lines(one)] == ["incident-opened", "incident-resolved"]
    assert fleet.states == {}
    fleet.beats = 1
    fleet.live(1200, one)
    assert fleet.states == {}


@pytest.mark.thorough
def test_what_was_learned_and_runs_again_is_over_and_must_prove_itself() -> None:
    """Given a learned task that comes back after it was missed, the warning is over, and it is not watched until it has
    run for days again.
    """
    fleet = learned_fleet()
    one = fleet.instance()
    fleet.live(SETTLING_TIME + 900, one)
    fleet.beats = 0
    fleet.live(1200, one)
    fleet.beats = 1
    fleet.live(700, one)

    assert [found[0] for found in lines(one)] == ["incident-opened", "incident-resolved"]
    assert fleet.states == {}
    assert fleet.bed.server.schedules.habits["shop.report"].since > fleet.bed.clock.time() - 710


@pytest.mark.thorough
def test_what_a_worker_tells_is_not_learned_and_what_it_told_is_not_either() -> None:
    """Given a learned task that a worker tells of, and then does not any more, it is watched as told, and then not at
    all: a deploy that takes it away leads to no warning.
    """
    fleet = learned_fleet()
    fleet.told = True
    one = fleet.instance()
    fleet.live(SETTLING_TIME, one)
    assert list(fleet.states) == ["shop.report often"]
    fleet.told, fleet.beats = False, 0
    fleet.bed.publish(event("worker-online", at=fleet.bed.clock.time(), hostname="celery@a", pid=4712))
    fleet.conf = {"timezone": "UTC", "beat_schedule": {"other": {"task": "shop.other", "schedule": 300}}}
    fleet.told = True
    fleet.live(1500, one)

    assert list(fleet.states) == ["other"]
    assert [found for found in lines(one) if found[1] != "other"] == []
    assert fleet.bed.server.schedules.habits["shop.report"].intervals == ()


@pytest.mark.thorough
def test_a_monitor_that_was_down_does_not_warn_of_what_was_learned() -> None:
    """Given a learned task that did not run while no instance listened, nothing is told of it, and it stays learned."""
    fleet = learned_fleet()
    one = fleet.instance()
    fleet.live(SETTLING_TIME + 900, one)
    fleet.beats = 0
    fleet.live(3000)
    fleet.beats = 1
    again = fleet.instance("2")
    fleet.live(1500, again)

    assert [found for found in lines(one, again) if found[1] == "shop.report"] == []
    assert fleet.states == {"shop.report": ScheduleState.ON_TIME}


@pytest.mark.thorough
def test_what_was_learned_passes_to_the_next_leader() -> None:
    """Given a leader that dies while a learned task is missing, the next one warns of it, once."""
    fleet = learned_fleet()
    one, two = fleet.instance(), fleet.instance("2")
    fleet.live(SETTLING_TIME + 900, one, two)
    leader, other = (one, two) if one.telemetry.is_leader() else (two, one)
    fleet.beats = 0
    fleet.live(600, leader, other)
    fleet.live(600, other)

    told = [found for found in lines(one, two) if found[1] == "shop.report"]
    assert told == [("incident-opened", "shop.report", False)]
