"""Flags that go together, and those that do not: none is ignored without a word."""

from __future__ import annotations

import tomllib

import pytest

from ha_monitor.schedules.model import Definition, History, Judgement, ScheduleState, Source
from ha_monitor.store.schedules import ScheduleChanges
from tests.unit.asked import NOW, KeptIncidents, serve, task
from tests.unit.test_asking import Call, call, interrupted

__all__ = ["call"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["problems", "--watch", "--fail-if-any"], "argument --fail-if-any: not allowed with argument --watch"),
        (["tasks", "-f", "-r"], "tasks: --follow does not go together with --reverse"),
        (["tasks", "-f", "--sort", "runtime", "--watch"], "--follow does not go together with --sort, --watch"),
        (["tasks", "-f", "--fail-if-none"], "tasks: --follow does not go together with --fail-if-none"),
        (["schedules", "--learned", "--watch"], "schedules: --learned does not go together with --watch"),
        (["schedules", "-o", "toml", "--watch=5"], "schedules: -o toml does not go together with --watch"),
        (["silence", "worker-lost", "2h", "--list"], "silence: either --list, or worker-lost and for how long"),
        (["silence", "worker-lost", "2h", "-o", "json"], "a kind of incidents does not go together with --output"),
        (["silence", "worker-lost", "--end", "3f2a"], "silence: --end takes an id alone, without worker-lost"),
        (["silence", "--end", "3f2a", "--why", "x"], "silence: --end does not go together with --why"),
        (["silence", "--why", "x"], "silence: a list does not go together with --why"),
        (["deploy", "list", "v512"], "deploy: list takes no label, such as v512"),
        (["deploy", "mark", "v512", "-n", "3"], "deploy: mark does not go together with --limit"),
        (["dead-letters", "3f2a", "--drop", "-r", "--watch"], "--drop does not go together with --reverse, --watch"),
        (["dead-letters", "3f2a", "-n", "1"], "dead-letters: an id does not go together with --limit"),
        (["errors", "0f3c", "--since", "-1h"], "errors: the id of a group does not go together with --since"),
        (["errors", "0f3c", "--resolve", "--sort", "count"], "the id of a group does not go together with --sort"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """Given a flag that would be ignored beside what else was given, one line says so, and nothing is done."""
    kept = KeptIncidents()
    serve(monkeypatch, incidents=kept)

    status, out, err = call(*arguments)

    assert (status, out, err.count("\n")) == (64, "", 1)
    assert said in err
    assert (kept.silences(), kept.marks()) == ([], [])


def test_what_is_proposed_is_as_much_as_was_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two tasks that run regularly, -n and -r choose among them, and how many there are is said."""
    runs = [task(f"{name}{n}", at=NOW - 600 * n, name=name) for name in ("shop.a", "shop.b") for n in range(40)]
    serve(monkeypatch, *runs)

    _, first, said = call("schedules", "--learned", "-n", "1")
    _, last, _ = call("schedules", "--learned", "-n", "1", "-r")
    _, both, _ = call("schedules", "--learned")

    names = list(tomllib.loads(both)["schedules"])
    assert [list(tomllib.loads(one)["schedules"]) for one in (first, last)] == [names[:1], names[1:]]
    assert said == (
        "2 tasks run regularly without a schedule that is known, of which the first 1 are here (-n 0: all). "
        "Searched: the newest runs of each name.\n"
    )


def test_a_name_that_nothing_has_is_said_each_time(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given --watch and a name that nothing has, each look says so, until something has it."""
    flows = {"mail": None}
    asked = serve(monkeypatch, flows=flows)
    interrupted(monkeypatch, lambda: None, lambda: asked.flows.update({"mial": None}))

    status, out, err = call("queues", "mial", "--watch", "-o", "ids")

    assert (status, out) == (130, "mial\n")
    assert err.count("ha-monitor: mial: no queue has this name; ha-monitor queues lists them\n") == 2


def test_a_schedule_that_is_not_there_is_said_in_every_form(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a name that no schedule has, its configuration is empty, and standard error says why."""
    definition = Definition(name="known", task="shop.known", timetable="every 5m", source=Source.CONF)
    judgement = Judgement(definition, ScheduleState.ON_TIME, History("known", "every 5m", "", NOW))
    serve(monkeypatch, schedules=ScheduleChanges([judgement]))

    said = "ha-monitor: unheard: no schedule has this name; ha-monitor schedules lists them\n"
    assert call("schedules", "unheard", "-o", "toml") == (1, "", said)
    assert call("schedules", "known", "-o", "toml")[0] == 0
