"""When the leader surveys the task queues, what it asks about, and which surveys count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ha_monitor.broker.survey import Survey, TaskQueue
from ha_monitor.config.schema import Config, Metrics
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.metrics.surveyor import FIRST_LOOK, Surveyor
from ha_monitor.metrics.telemetry import SURVEY_TIME, Telemetry
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.results import Watched
from tests.support.threads import plain_threads
from tests.unit.builders import TurnedClock

CONFIG = Config(metrics=Metrics(survey_interval=15.0, queues=["configured"]))
MAIL = TaskQueue("mail", 5, 1, 1, 1)
WATCHED = Watched([], 1, 0, 0, 0, [], ["consumed lately"])


class Bed:
    """A surveyor, what it asked about, and what it is answered."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.telemetry = Telemetry(CONFIG, self.clock, Stats())
        self.asked: list[tuple[list[str], list[str]]] = []
        self.queues: list[TaskQueue] = [MAIL]
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens while the broker is asked."""
        self.failures: list[str] = []
        threads = plain_threads(self.clock, [])
        self.surveyor = Surveyor(CONFIG, self.telemetry, self.failures.append, threads, gate=self)

    def unless_blocked(self, ask: Callable[[], Survey]) -> Survey:
        assert isinstance(ask, partial)
        _, known, waiting = ask.args
        self.asked.append((list(known), list(waiting)))
        self.clock.now += 2
        self.meanwhile()
        return Survey(self.queues, {})

    def lead(self, *, followed: bool = True) -> None:
        self.telemetry.leads(self.clock.now + 1000, followed=followed)

    def look(self) -> None:
        """What this leader knows after its first looks at workers and incidents."""
        self.telemetry.watched(WATCHED)
        self.telemetry.waiting_queues = ["misspelt"]

    def lead_and_look(self) -> None:
        self.lead()
        self.look()


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_a_leader_surveys_once_it_knows_which_queues_there_are(bed: Bed) -> None:
    """Given an instance that becomes the leader, it asks nothing before it has looked at workers and at incidents: the
    survey would lack what only these know. Then it asks about all of it, and about the configured queues.
    """
    assert bed.surveyor.step() == FIRST_LOOK
    bed.lead()
    assert bed.surveyor.step() == FIRST_LOOK
    bed.telemetry.watched(WATCHED)
    assert bed.surveyor.step() == FIRST_LOOK
    assert bed.asked == []

    bed.telemetry.waiting_queues = ["misspelt"]

    assert bed.surveyor.step() == CONFIG.metrics.survey_interval
    assert bed.asked == [(["consumed lately", "configured"], ["misspelt"])]
    assert bed.telemetry.queues() == [MAIL]


def test_who_leads_again_after_another_asks_about_what_it_has_seen_since(bed: Bed) -> None:
    """Given a leader that was frozen while another one led, what it saw before counts no longer: neither its survey,
    nor the queues that it knew."""
    bed.lead_and_look()
    bed.surveyor.step()
    bed.lead(followed=False)
    assert bed.telemetry.queues() == [MAIL]

    bed.lead()

    assert bed.telemetry.queues() is None
    assert bed.surveyor.step() == FIRST_LOOK


@pytest.mark.parametrize("is_told", [True, False], ids=["lost and got again", "frozen meanwhile"])
def test_a_survey_that_began_before_the_instance_led_does_not_count(bed: Bed, *, is_told: bool) -> None:
    """Given a survey during which another instance leads for a while, its result does not count; the next one does."""

    def change_leaders() -> None:
        if is_told:
            bed.telemetry.does_not_lead()
        bed.lead_and_look()

    bed.lead_and_look()
    bed.meanwhile = change_leaders
    bed.surveyor.step()
    assert bed.telemetry.queues() is None

    bed.meanwhile = lambda: None
    bed.surveyor.step()

    assert bed.telemetry.queues() == [MAIL]


def test_a_survey_that_finds_nothing_is_one_until_it_is_old(bed: Bed) -> None:
    """Given a survey that finds no queue, there are none; once it is too old, nothing is known of the queues."""
    bed.queues = []
    bed.lead_and_look()
    bed.surveyor.step()
    assert bed.telemetry.queues() == []

    bed.clock.now += 3 * CONFIG.metrics.survey_interval + SURVEY_TIME

    assert bed.telemetry.queues() is None


def test_surveys_that_fail_in_a_row_are_told_once(bed: Bed) -> None:
    """Given a broker that is away for two surveys, one line says so; after a survey, the next failure is told again."""

    def fail() -> None:
        raise BrokerUnavailable("no answer")

    bed.lead_and_look()
    bed.meanwhile = fail
    bed.surveyor.step()
    bed.surveyor.step()
    assert bed.failures == ["no answer"]

    bed.meanwhile = lambda: None
    bed.surveyor.step()
    bed.meanwhile = fail
    bed.surveyor.step()

    assert bed.failures == ["no answer", "no answer"]
