"""What `ha-monitor check --online` says of the schedules of beat."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ha_monitor.check.findings import Finding, ok, warning
from ha_monitor.check.schedules import check_schedules, findings_of
from ha_monitor.config.schema import Config, StoreSettings
from ha_monitor.schedules.model import Definition, History, Judgement, ScheduleState, Source
from ha_monitor.store.schedules import KnownSource

READ = KnownSource(read_at=1_800_000_000.0)
NOBODY = KnownSource(problem="none of the 2 workers asked for their settings answered")
REFUSED = KnownSource(problem="redbeat.url: connection refused")


def judged(name: str, *, problem: str = "", differs: str = "") -> Judgement:
    found = Definition(
        name=name, task="shop.report", timetable="every 10m", source=Source.CONF, problem=problem, differs=differs
    )
    return Judgement(found, ScheduleState.ON_TIME, History(name, found.timetable, "", 1.0))


@pytest.mark.parametrize(
    ("sources", "judgements", "expected"),
    [
        ({Source.CONF: READ}, [judged("a")], [ok("schedules", "1 schedule of beat is watched")]),
        ({Source.CONF: READ}, [judged("a"), judged("b")], [ok("schedules", "2 schedules of beat are watched")]),
        ({Source.CONF: READ}, [], [ok("schedules", "0 schedules of beat are watched")]),
        # Those of the configuration are watched whoever is asked.
        ({}, [judged("a")], [ok("schedules", "1 schedule of beat is watched")]),
        (
            {Source.CONF: READ},
            [judged("a", problem="it names no task"), judged("b", differs="1 of 2 workers have another one")],
            [
                ok(
                    "schedules",
                    "2 schedules of beat are watched, 2 of them with something unclear: `ha-monitor schedules -o wide`",
                )
            ],
        ),
        (
            {Source.CONF: NOBODY},
            [judged("a")],
            [
                warning(
                    "schedules",
                    "the workers could not be asked for the schedule of beat: none of the 2 workers asked for "
                    "their settings answered; schedules in the configuration are watched all the same "
                    "(docs/schedules.md)",
                ),
                ok("schedules", "1 schedule of beat is watched"),
            ],
        ),
        (
            {Source.CONF: READ, Source.REDBEAT: REFUSED},
            [],
            [
                warning(
                    "schedules",
                    "RedBeat could not be asked for the schedule of beat: redbeat.url: connection refused; "
                    "correct redbeat.url and redbeat.prefix",
                ),
                ok("schedules", "0 schedules of beat are watched"),
            ],
        ),
    ],
    ids=["one", "two", "none", "configured", "unclear", "workers silent", "RedBeat away"],
)
@pytest.mark.parametrize("is_expected", [True, False])
def test_what_is_known_of_schedules_is_told(
    sources: Mapping[Source, KnownSource], judgements: list[Judgement], expected: list[Finding], is_expected: bool
) -> None:
    """Given what the instances know, one line says how many schedules are watched, and one of each source that could
    not be read why, and what to do; whatever the configuration has.
    """
    assert list(findings_of(sources, judgements, is_expected=is_expected)) == expected


@pytest.mark.parametrize(
    ("is_expected", "expected"),
    [(True, [ok("schedules", "no instance has looked at schedules yet")]), (False, [])],
)
def test_before_an_instance_has_looked_only_who_expects_schedules_is_told(
    is_expected: bool, expected: list[Finding]
) -> None:
    """Given a store in which nothing is known yet, that is said if the configuration has schedules, or names RedBeat;
    else nothing is.
    """
    assert list(findings_of({}, [], is_expected=is_expected)) == expected


def test_nothing_is_said_of_schedules_if_the_store_is_away() -> None:
    """Given a store that cannot be reached, which has a line of its own, there is none about schedules."""
    assert list(check_schedules(Config(store=StoreSettings(url="unix:///nonexistent/redis.sock")))) == []
