"""Schedules on the pages, for programs, and in what is said of problems."""

from __future__ import annotations

import json
import re
from functools import cache
from html import unescape
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import msgspec
import pytest

from ha_monitor.cli.main import main
from ha_monitor.config.schema import Config
from ha_monitor.schedules.model import Run, ScheduleState, Source
from ha_monitor.store.schedules import Coverage, KnownSource, ScheduleChanges
from ha_monitor.web.description import description
from ha_monitor.web.endpoints import BY_NAME
from ha_monitor.web.formatting import UNKNOWN
from ha_monitor.web.page import NotFound
from ha_monitor.web.pages.schedule import MEANINGS
from ha_monitor.web.parameters import parse
from ha_monitor.web.rendering import Renderer
from ha_monitor.web.routes import NAMED, PAGES
from ha_monitor.web.static_files import StaticFiles
from ha_monitor.web.view import View
from tests.unit.asked import NOW, Asked, KeptIncidents, Reader, incident, instance, serve
from tests.unit.builders import TurnedClock
from tests.unit.test_schedules_command import COVERED, DAY, MISSED, READ, due, schedule

HOSTILE = "<script>alert(1)</script>\"'>&{{7*7}}\x1b[31m\u202e/*,\\ ?#"
WELL = schedule("hourly")
KEPT = ScheduleChanges([WELL, MISSED], sources=READ, coverage=COVERED)
ANSWERS = [((), ""), (("nightly*",), "name=nightly*"), (("-n", "1", "-r"), "limit=1&reverse=yes")]


def view(changes: ScheduleChanges = KEPT, **more: Any) -> View:
    """What a page sees of a store with some schedules."""
    reader: Any = Reader(Asked(), schedules=changes, **more)
    return View(reader, Config(), TurnedClock(NOW))


@cache
def renderer() -> Renderer:
    """One for all pages: it compiles each template once."""
    return Renderer("shop", "", StaticFiles())


def shown(noun: str, of: View, name: str = "", query: str = "") -> str:
    """A page as it is sent."""
    row = BY_NAME.get((noun, bool(name)))
    asked = parse(query, name, () if row is None else row.parameters)
    page = (NAMED if name else PAGES)[noun](of, asked)
    return renderer().html(page, asked, f"/{noun}/{name}", NOW).decode()


def text(html: str) -> str:
    """What a person reads, on one line."""
    without = re.sub(r"</?(a|code|span|time|wbr)\b[^>]*>", "", html[html.index("<main") :])
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", without)).split())


def rows(html: str) -> list[str]:
    """The rows of the tables, as they are read."""
    return [text(f"<main>{row}") for row in re.findall(r"<tr data-key.*?</tr>", html, re.DOTALL)]


@pytest.mark.parametrize(("words", "query"), ANSWERS)
def test_programs_get_what_the_command_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], query: str
) -> None:
    """Given the same question, the interface for programs answers what the command does with -o json."""
    serve(monkeypatch, schedules=KEPT)
    endpoint = BY_NAME["schedules", False]

    main(["schedules", *words, "-o", "json"])
    answer = endpoint.ask(view(), parse(query, "", endpoint.parameters))

    said = json.loads(capsys.readouterr().out)
    assert msgspec.json.decode(msgspec.json.encode(answer)) == said
    assert said["items"]


def test_the_answer_about_one_is_what_its_description_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a name as it is, programs get that schedule with its due times, as the command tells it and as it is
    described; no pattern is read in it, and of a name that there is not nothing is told."""
    serve(monkeypatch, schedules=KEPT)
    endpoint = BY_NAME["schedules", True]

    main(["schedules", "nightly report", "-o", "json"])
    answer = msgspec.to_builtins(endpoint.ask(view(), parse("", "nightly report", ())))

    assert answer == json.loads(capsys.readouterr().out)
    assert [one["state"] for one in answer["items"][0]["due_times"]] == ["missed", "on time"]
    described = description("/api/v1")
    schema = described["paths"]["/schedules/{name}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validate({**schema, "components": described["components"]}, answer)
    with pytest.raises(NotFound, match=r"^no schedule is known as nightly\*$"):
        endpoint.ask(view(), parse("", "nightly*", ()))


def test_the_list_shows_first_what_did_not_run() -> None:
    """Given schedules, the page has those first that did not run, with their state in words, and says how the same is
    asked on a terminal, where they are from, and that nothing is missing."""
    missed = schedule("nightly report", ScheduleState.MISSED, *(due(NOW - DAY), *[due(NOW - 60, None)] * 2))
    missed = msgspec.structs.replace(missed, history=msgspec.structs.replace(missed.history, missed=2))
    html = shown("schedules", view(ScheduleChanges([WELL, missed], sources=READ, coverage=COVERED)))

    assert rows(html) == [
        "nightly report shop.report 0 0 * * * 2026-11-24 05:54 07:54:03 missed 2 in a row conf",
        "hourly shop.report 0 0 * * * 04:54:04 07:54:03 on time conf",
    ]
    assert '<span class="bad">missed</span>' in html
    assert "Schedules · 1 missed · 1 on time" in text(html)
    assert text(html).endswith(
        "Searched: the schedules of the settings of the workers, read 3m20s ago; the configuration. Complete. "
        "The same on a terminal: ha-monitor schedules"
    )
    assert '<a href="/schedules" data-go="s" aria-current="page">Schedules</a>' in html


def test_the_list_is_narrowed_by_name() -> None:
    """Given a part of a name, only those are shown, and the command is the same; if there is none, that is said."""
    html = shown("schedules", view(), query="name=night*&reverse=yes")
    assert [row.split(" 0 0 ")[0] for row in rows(html)] == ["nightly report shop.report"]
    assert "ha-monitor schedules 'night*' -r" in text(html)
    assert "No schedule has such a name." in text(shown("schedules", view(), query="name=none"))
    assert "There are more: show up to 1,000" in text(shown("schedules", view(), query="limit=1"))


def test_what_the_list_may_lack_is_said() -> None:
    """Given workers that could not be asked, and a time in which no instance listened, the page says so; so it does if
    nothing is known at all."""
    refused = {Source.CONF: KnownSource((), NOW - 60, "access refused")}
    coverage = Coverage(NOW - 9 * DAY, NOW, ((NOW - 60, NOW - 50),))
    said = text(shown("schedules", view(ScheduleChanges([WELL], sources=refused, coverage=coverage))))
    assert (
        "May lack: schedules of the settings of the workers: access refused since 05:53:03; runs, since no instance "
        "listened between 05:53:03 and 05:53:13."
    ) in said
    nothing = text(shown("schedules", view(ScheduleChanges())))
    assert "No schedule is known" in nothing
    assert "May lack: schedules that the workers know: none was asked yet." in nothing
    unjudged = text(shown("schedules", view(ScheduleChanges(), instances=[instance(judged=0.0)])))
    assert "schedules: they are known only once the leader has listened for workers.lost_after." in unjudged


def test_one_schedule_says_why_and_what_came_of_its_due_times() -> None:
    """Given a schedule that did not run, its page says why it is in its state, and has its due times, the latest first,
    each with the run that came, how late it was and how it ended; a run leads to its task, the schedule to its name."""
    html = shown("schedules", view(), "nightly report")

    assert "nightly report missed why its grace is over, and nothing ran task shop.report" in text(html)
    assert "due 0 0 * * *, Europe/Berlin last 2026-11-24 05:54, 500 ms after it was due next 07:54:03" in text(html)
    first = f"run-{NOW - DAY:.0f}"
    assert rows(html) == [
        f"04:54:03 missed{f' {UNKNOWN}' * 4}",
        f"2026-11-24 05:54 on time {first} SUCCESS 500 ms 1.0 s",
    ]
    assert f'<a class="id" href="/tasks/{first}">' in html
    assert '<a href="/names/shop.report">' in html
    assert text(html).endswith("The same on a terminal: ha-monitor schedules 'nightly report'")
    with pytest.raises(NotFound, match="no schedule of the name gone is known"):
        shown("schedules", view(), "gone")


@pytest.mark.parametrize("state", ScheduleState)
def test_each_state_has_its_word_and_a_reason(state: ScheduleState) -> None:
    """Given a schedule in any state, its page says the state, and why: the closest that is known."""
    changes = ScheduleChanges([schedule("a", state), schedule("b", state, problem="nobody can say when it is due")])
    assert f"a {state.value} why {MEANINGS[state]}" in text(shown("schedules", view(changes), "a"))
    assert f"b {state.value} why nobody can say when it is due" in text(shown("schedules", view(changes), "b"))


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    """Given HTML, commands of terminals and marks for the direction of writing in all texts of a schedule, of its run
    and its source, both pages show them, nothing of them is obeyed, and links lead to the page of the name."""
    name = HOSTILE
    run = Run(task_id=HOSTILE, sent=NOW - 50, state=HOSTILE, producer=HOSTILE)
    occurrence = msgspec.structs.replace(due(NOW - 60), run=run, again=(run,))
    told = schedule(name, ScheduleState.DOUBLED, occurrence, app=HOSTILE, differs=HOSTILE, must_end_within=7.0)
    definition = msgspec.structs.replace(told.definition, task=HOSTILE, timetable=HOSTILE, zone=HOSTILE)
    told = msgspec.structs.replace(told, definition=definition, is_doubled=True)
    sources = {Source.CONF: KnownSource((), NOW - 60, HOSTILE)}
    kept = view(ScheduleChanges([told], sources=sources, coverage=COVERED))

    one, listed = shown("schedules", kept, name), shown("schedules", kept)
    for html in (one, listed):
        assert "<script>alert" not in html
        assert [mark for mark in html if not mark.isprintable() and mark != "\n"] == []
        assert "<script>alert(1)</script>\"'>&{{7*7}}" in text(html)
    assert f'href="/schedules/{quote(name, safe="")}"' in listed
    assert one.count(f'href="/tasks/{quote(HOSTILE, safe="")}"') == 2


@pytest.mark.parametrize(
    ("kind", "key", "summary", "link"),
    [
        (
            *("schedule-missed", "nightly report", "nightly report did not run when it was due: shop.report"),
            '<a href="/schedules/nightly%20report">nightly report</a> did not run',
        ),
        (
            *("beat-silent", "gen1@web", "nothing comes from the beat gen1@web: all that was due did not run"),
            '<a href="/schedules">nothing comes from the beat gen1@web</a>: all that was due',
        ),
        (
            *("poison-task", "shop.pay", "task 8d3b of shop.pay lost its worker 2 times while running: celery@a"),
            'task 8d3b of <a href="/names/shop.pay">shop.pay</a> lost its worker',
        ),
    ],
)
def test_problems_lead_to_schedules(kind: str, key: str, summary: str, link: str) -> None:
    """Given a schedule that did not run, a silent beat or a task that kills its workers, the sentence about it leads to
    what tells more of it."""
    html = shown("problems", view(incidents=KeptIncidents(incident(kind=kind, key=key, summary=summary, command=""))))
    assert link in html
