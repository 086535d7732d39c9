"""Tasks that run regularly, and have no schedule that is known."""

from __future__ import annotations

import tomllib

import pytest
from msgspec.structs import replace

from ha_monitor.cli.main import main
from ha_monitor.exit_status import ExitStatus
from ha_monitor.schedules.learned import learn
from ha_monitor.schedules.model import LONGEST_TEXT, Definition, History, Judgement, Run, ScheduleState, Source
from ha_monitor.schedules.toml import proposed
from ha_monitor.store.schedules import ScheduleChanges
from tests.unit.asked import NOW, serve, task


def runs(*times: float) -> list[Run]:
    return [Run(task_id=str(place), sent=at) for place, at in enumerate(times)]


def test_what_comes_regularly_is_learned() -> None:
    """Given ten runs of a task a day, but for some minutes, it is learned as daily."""
    learned = learn("t", runs(*(86400 * number + (number % 3) * 60 for number in range(10))))

    assert learned is not None
    assert (learned.task, learned.period, learned.times, learned.regular) == ("t", 86400.0, 9, 9)


@pytest.mark.parametrize(
    "some",
    [
        pytest.param(runs(*(60.0 * number for number in range(9))), id="too few"),
        pytest.param(runs(*(60.0 * number for number in range(8)), 500, 700, 710, 760), id="irregular"),
        pytest.param(runs(*(1.0 * number for number in range(100))), id="the load of an application"),
        pytest.param([replace(run, is_child=True) for run in runs(*range(0, 1200, 60))], id="other tasks send it"),
        pytest.param([replace(run, sent=None) for run in runs(*range(0, 1200, 60))], id="no time is known"),
        pytest.param(runs(*([5.0] * 20)), id="all at once"),
    ],
)
def test_what_does_not_come_regularly_is_not_learned(some: list[Run]) -> None:
    """Given too few runs, irregular or very frequent ones, or those that another task sends, nothing is learned."""
    assert learn("t", some) is None
    assert learn("t" * (LONGEST_TEXT + 1), runs(*range(0, 1200, 60))) is None


def test_what_is_proposed_is_a_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a task every ten minutes, now and then a bit later, one of which a schedule is known, and one that comes
    irregularly, the first is proposed, as the configuration takes it, and nothing else.
    """
    regular = [task(f"r{n}", at=NOW - 600 * n - (20 if n % 9 == 0 else 0), name='odd "name"') for n in range(40)]
    known = [task(f"k{n}", at=NOW - 300 * n, name="shop.known") for n in range(40)]
    wild = [task(f"w{n}", at=NOW - 37 * n * n, name="shop.wild") for n in range(40)]
    definition = Definition(name="known", task="shop.known", timetable="every 5m", source=Source.CONF)
    judgement = Judgement(definition, ScheduleState.ON_TIME, History("known", "every 5m", "", NOW))
    serve(monkeypatch, *regular, *known, *wild, schedules=ScheduleChanges([judgement]))

    assert main(["schedules", "--learned", "--fail-if-none"]) == ExitStatus.OK

    out, error = capsys.readouterr()
    assert tomllib.loads(out) == {"schedules": {'odd "name"': {"task": 'odd "name"', "every": "10m"}}}
    assert "39 of the last 39 times between runs" in out
    assert error.startswith("1 task runs regularly without a schedule that is known.")
    assert main(["schedules", "shop.*", "--learned", "--fail-if-none"]) == ExitStatus.FAILURE
    assert capsys.readouterr()[1].startswith("no task runs regularly")


def test_what_is_learned_is_written_in_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Given another form that is asked for, it is refused in one line."""
    assert main(["schedules", "--learned", "-o", "json"]) == ExitStatus.USAGE
    assert capsys.readouterr()[1] == "ha-monitor: --learned is written as toml, not as json\n"


def test_nothing_is_proposed_as_nothing() -> None:
    """Given nothing that comes regularly, the configuration stays as it is."""
    assert proposed([]) == ""
