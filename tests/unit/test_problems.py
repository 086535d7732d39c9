"""`ha-monitor problems`, `silence` and `deploy`, as a person or a program calls them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ha_monitor.incidents.catalogue import KINDS
from ha_monitor.store.error_groups import GroupState
from ha_monitor.store.incidents import BEFORE, MAX_SILENCES, Incident, Mark, Notified, Phase, Severity, Silence
from ha_monitor.store.queries import Gap
from ha_monitor.store.reader import WorkerEntry
from ha_monitor.text.visible import columns
from ha_monitor.web.incidents import headline, sentences
from tests.unit.asked import NOW, KeptIncidents, group, incident, instance, serve
from tests.unit.test_asking import Call, at_terminal, call
from tests.unit.test_web_schedules import shown, text, view

__all__ = ["call"]
LATE = incident(
    "late",
    kind="queue-late",
    key="mail",
    phase=Phase.PENDING,
    since=NOW - 20,
    summary="1,204 tasks wait in queue mail, the oldest for more than 5 minutes",
    command="ha-monitor queues mail",
)
FAILING = incident("failing", kind="failing", key="shop.pay", severity=Severity.WARN, summary="2 of 20 runs failed")
OVER = incident("over", phase=Phase.RESOLVED, changed=NOW - 60)


def test_what_is_wrong_comes_worst_first_with_the_command_to_go_on_with(
    monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Given incidents, those that fire come first, of these those that wake somebody, and the exit status is 1."""
    told = {"alertmanager": Notified(NOW - 7800)}
    serve(monkeypatch, incidents=KeptIncidents(LATE, FAILING, OVER, incident(told=told)))

    status, out, err = call("problems", "--time", "utc")

    assert status == 1
    assert out == (
        "celery@app3 is lost with 4 tasks: 2 orphaned, 1 run again, 1 ended\n"
        "  worker-lost, page, since 2026-11-25T03:40:43, 2h13m ago\n"
        "  told: alertmanager 2h10m ago\n"
        "  ha-monitor workers celery@app3\n"
        "\n"
        "2 of 20 runs failed\n"
        "  failing, warn, since 2026-11-25T03:40:43, 2h13m ago\n"
        "  ha-monitor workers celery@app3\n"
        "\n"
        "1,204 tasks wait in queue mail, the oldest for more than 5 minutes\n"
        "  queue-late, pending, then page, since 2026-11-25T05:53:43, 20s ago\n"
        "  ha-monitor queues mail\n"
    )
    assert err.startswith("1 problem, 1 to look at, 1 pending. Searched: what 1 of 1 instance sees, ")


def test_none_says_why_that_can_be_believed(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given nothing wrong, who has looked is said, how late events are, and when it was judged."""
    serve(monkeypatch, incidents=KeptIncidents(OVER), instances=[instance("1"), instance("2", leads=False)])

    assert call("problems") == (
        0,
        "",
        "no problems. Searched: what 2 of 2 instances see, merged 15.0ms after it was sent, judged 3.0s ago. "
        "Complete.\n",
    )


def test_nothing_is_said_of_how_late_events_are_before_there_was_one(
    monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Given instances that have merged nothing yet, it is not claimed that they did so at once."""
    serve(monkeypatch, incidents=KeptIncidents(), instances=[instance("1", lag=0.0)])

    assert call("problems")[2] == "no problems. Searched: what 1 of 1 instance sees, judged 3.0s ago. Complete.\n"


@pytest.mark.parametrize(
    ("instances", "summary"),
    [
        ([], "no instance of the monitor runs: nobody can see problems"),
        ([instance(lease_left=-1.0)], "no instance of the monitor runs: nobody can see problems"),
        (
            [instance(state="waiting", leads=False)],
            "no instance of the monitor consumes Celery's events: nobody can see problems",
        ),
    ],
)
def test_a_monitor_that_does_not_look_is_the_first_problem(
    monkeypatch: pytest.MonkeyPatch, call: Call, instances: list[object], summary: str
) -> None:
    """Given no instance that consumes, nobody could write that down: whoever asks is told, never that all is well."""
    serve(monkeypatch, instances=instances)

    status, out, err = call("problems")

    assert (status, out.splitlines()[0]) == (1, summary)
    assert "what began or ended: nothing was judged since" in err or "problems: nothing is judged until" in err


def test_what_could_not_be_judged_is_said(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a leader that has not judged for two minutes, and lost events, the answer may lack something."""
    serve(
        monkeypatch,
        instances=[instance(judged=NOW - 120), instance("2", leads=False, judged=0.0)],
        gaps=[Gap("12 starts of celery@app3", NOW - 600, NOW - 500)],
    )

    document = json.loads(call("problems", "-o", "json")[1])

    assert (document["complete"], document["items"]) == (False, [])
    assert [gap["what"] for gap in document["gaps"]] == [
        "12 starts of celery@app3",
        "what began or ended: nothing was judged",
    ]


def test_none_is_not_none_where_nothing_was_judged(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a leader that still listens, no problem is listed, and the answer does not say that there is none: it says
    what it waits for."""
    serve(monkeypatch, instances=[instance(judged=0.0)])

    status, out, err = call("problems")

    assert (status, out) == (0, "")
    assert err.startswith("not judged at the moment. ")
    assert "nothing is judged until the leader has listened for workers.lost_after" in err


def test_a_silenced_one_is_listed_and_says_so(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given silences, by kind, by key and by a pattern, incidents say until when; those that are over do not count."""
    silences = [
        Silence("a", "worker-lost", "celery@*", NOW + 3600, NOW),
        Silence("b", "failing", "", NOW - 1, NOW - 9),
        Silence("c", "queue-late", "other", NOW + 60, NOW),
    ]
    serve(monkeypatch, incidents=KeptIncidents(incident(), FAILING, LATE, silences=silences))

    status, out, _ = call("problems", "-o", "jsonl")

    assert status == 1
    assert {one["kind"]: one["silenced_until"] for one in map(json.loads, out.splitlines())} == {
        "worker-lost": "2026-11-25T06:54:03.500000Z",
        "failing": None,
        "queue-late": None,
    }
    assert "  silenced until 2026-11-25T06:54:03\n" in call("problems", "--time", "utc")[1]


@pytest.mark.parametrize(
    ("pattern", "key", "covers"),
    [
        ("", "mail", True),
        ("ma*", "mail", True),
        ("mail", "mail2", False),
        ("what?", "what?", True),
        ("what?", "whats", False),
        ("q[1]", "q[1]", True),
        ("q[1]", "q1", False),
        ("[?]*", "[?] x", True),
    ],
)
def test_a_silence_covers_what_its_key_says(pattern: str, key: str, covers: bool) -> None:
    """Given a key, `*` stands for any text, and each other character for itself: nothing else is silenced."""
    silence = Silence("a", "queue-late", pattern, NOW + 60, NOW)

    assert silence.covers(incident(kind="queue-late", key=key)) is covers
    assert not silence.covers(incident(kind="no-consumer", key=key))


def test_the_forms_of_the_answer(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given -o ids, wide and tsv, --all, and -n, there is a row for each."""
    serve(monkeypatch, incidents=KeptIncidents(incident(), LATE, OVER))

    assert call("problems", "-o", "ids")[1] == "3f2a9c11d0e4\nlate\n"
    assert call("problems", "--all", "-o", "ids", "--no-legend") == (1, "3f2a9c11d0e4\nlate\nover\n", "")
    assert call("problems", "-n", "1", "-r", "-o", "ids")[1] == "late\n"
    assert call("problems", "-o", "wide")[1].splitlines()[1].split()[:2] == ["firing", "page"]
    assert call("problems", "-o", "tsv")[1].splitlines()[0].split("\t")[:3] == ["phase", "severity", "since"]


def test_what_was_over_before_the_last_hour_is_not_listed(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given an incident that is kept for longer, since a channel has not heard of its end, --all says nothing of it."""
    serve(monkeypatch, incidents=KeptIncidents(OVER, incident("old", phase=Phase.RESOLVED, changed=NOW - 3700)))

    assert call("problems", "--all", "-o", "ids", "--no-legend") == (0, "over\n", "")


def test_a_sentence_that_is_not_true_any_more_says_so(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given an incident of which nothing is seen any more, as of a name that is not run, and that is not over yet, the
    terminal, a page and a program learn since when; of one that is seen, and of one that is over, nothing is said.
    """
    quiet = incident("quiet", kind="failing", quiet_since=NOW - 20, summary="2 of 20 runs failed in 5 minutes")
    serve(monkeypatch, incidents=KeptIncidents(quiet))
    assert "\n  last seen 2026-11-25T05:53:43, over after 10m without\n" in call("problems", "--time", "utc")[1]
    (item,) = json.loads(call("problems", "-o", "json")[1])["items"]
    assert item["quiet_since"] == "2026-11-25T05:53:43.500000Z"
    (sentence,) = sentences([quiet], [quiet], NOW)
    assert sentence["quiet"]["text"] == "05:53:43"

    for other in (incident(), incident(phase=Phase.RESOLVED, changed=NOW - 60, quiet_since=NOW - 20)):
        serve(monkeypatch, incidents=KeptIncidents(other))
        assert "any more" not in call("problems", "--all")[1]
        assert sentences([other], [other], NOW)[0]["quiet"] is None


def test_what_changed_before_it_is_said(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given an incident that began after workers were started, its details say so."""
    serve(monkeypatch, incidents=KeptIncidents(incident(facts={BEFORE: "deploy v512, 4 min earlier"})))

    assert "  before it: deploy v512, 4 min earlier\n" in call("problems")[1]


@pytest.mark.parametrize(
    ("incidents", "words"),
    [
        ([incident(), LATE, OVER], "1 problem, 1 pending, 1 over within the last hour. Searched: "),
        ([incident(), incident("b"), FAILING], "2 problems, 1 to look at. Searched: "),
        ([LATE], "1 pending. Searched: "),
        ([incident()], "1 problem. Searched: "),
        ([OVER], "no problems, 1 over within the last hour. Searched: "),
    ],
)
def test_what_is_over_is_not_counted_as_a_problem(
    monkeypatch: pytest.MonkeyPatch, call: Call, incidents: list[Incident], words: str
) -> None:
    """Given --all, the last line tells what is wrong from what was, however few are listed, and what is wrong as the
    pages do.
    """
    serve(monkeypatch, incidents=KeptIncidents(*incidents))

    assert call("problems", "--all")[2].startswith(words)
    on_page = headline(incidents, NOW)["text"]
    if on_page:
        assert words.startswith(on_page)
        assert call("problems", "-n", "1")[2].startswith(on_page)


def test_only_what_is_pending_is_no_problem_yet(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given nothing that fires, the exit status is 0."""
    serve(monkeypatch, incidents=KeptIncidents(LATE))

    assert call("problems")[0] == 0


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.usefixtures("call")
def test_at_a_terminal_no_row_is_wider_than_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Given long sentences, they are wrapped."""
    summary = "celery@app3 is lost " + "and so are many others " * 20
    long = incident(summary=summary, cause="late", phase=Phase.PENDING)
    serve(monkeypatch, incidents=KeptIncidents(long, LATE))

    rows = re.sub(r"\x1b\[[0-9;]*m", "", at_terminal(monkeypatch, width, "problems")).split("\r\n")

    assert len(rows) > 8
    assert max(columns(row) for row in rows) <= width


def test_a_silence_is_added_replaced_listed_and_ended(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a kind and a duration, there is one silence, which the same command replaces and its id ends."""
    kept = KeptIncidents()
    serve(monkeypatch, incidents=kept)
    assert call("silence", "worker-lost=celery@a", "1h")[0] == 0
    status, out, err = call("silence", "worker-lost=celery@a", "2h", "--why", "hosts are updated")
    (one,) = kept.silences()

    assert (status, out) == (0, "")
    assert err.startswith("worker-lost=celery@a is silenced until ")
    assert err.endswith(f"ha-monitor silence --end {one.id} ends that\n")
    assert (one.kind, one.key, one.until, one.why) == ("worker-lost", "celery@a", NOW + 7200, "hosts are updated")
    assert call("silence", "--list", "-o", "ids")[1] == call("silence", "-o", "ids")[1] == f"{one.id}\n"
    assert call("silence", "--end", one.id[:4])[0] == 0
    assert kept.silences() == []
    assert call("silence", "--end", one.id)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["worker-lots", "1h"], f"worker-lots is no kind of incident; known are {', '.join(sorted(KINDS))}"),
        (["worker-lost"], "say for how long"),
        (["worker-lost", "soon"], "soon: expected a duration"),
        (["worker-lost", "0s"], "expected a duration above 0 and up to 30d"),
        (["worker-lost=", "1h"], "worker-lost= names no key; worker-lost alone is all of its incidents"),
        (["worker-lost=" + "x" * 201, "1h"], "expected at most 200 characters; in a key, * stands for any text"),
        (["worker-lost", "1h", "--why", "x" * 201], "expected at most 200 characters"),
        (["worker-lost", "31d"], "expected a duration above 0 and up to 30d"),
    ],
)
def test_a_silence_that_means_nothing(
    monkeypatch: pytest.MonkeyPatch, call: Call, arguments: list[str], said: str
) -> None:
    """Given an unknown kind or a wrong time, nothing is silenced."""
    kept = KeptIncidents()
    serve(monkeypatch, incidents=kept)

    status, _, err = call("silence", *arguments)

    assert (status, kept.silences()) == (64, [])
    assert said in err


def test_there_are_never_more_silences_than_are_kept(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a hundred, one more is refused."""
    many = [Silence(str(number), "failing", str(number), NOW + 9, NOW) for number in range(MAX_SILENCES)]
    serve(monkeypatch, incidents=KeptIncidents(silences=many))

    status, _, err = call("silence", "worker-lost", "1h")

    assert (status, err) == (
        1,
        "ha-monitor: there are 100 silences already; ha-monitor silence --list shows them\n",
    )


def test_an_error_says_since_which_deployment_it_is_new(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given marks, a group that is new since the last says so in the list, by itself and in JSON; others do not."""
    kept = KeptIncidents()
    groups = [group(state=GroupState.NEW, first=NOW + 1), group("1234567890")]
    serve(monkeypatch, incidents=kept, groups=groups)
    assert call("deploy", "mark", "v511")[0] == 0
    assert call("deploy", "mark", "v512")[2].startswith("marked v512 at ")

    assert call("deploy", "list", "-o", "ids")[1] == "v512\nv511\n"
    rows = call("errors")[1].splitlines()
    assert ["new since v512" in row for row in rows] == [False, True, False]
    assert ", new since v512, 0.0s ago" in call("errors", "0f3c")[1]
    found = map(json.loads, call("errors", "-o", "jsonl")[1].splitlines())
    assert [one["new_since"] for one in found] == ["v512", None]


def test_a_mark_without_a_label_is_named_by_its_time(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given no label, the time is the label; a long one is cut."""
    kept = KeptIncidents(marks=[Mark("v1", NOW - 100)])
    serve(monkeypatch, incidents=kept)
    call("deploy", "mark")
    call("deploy", "mark", "x" * 1000)

    assert [len(one.label) for one in kept.marks()] == [80, 16, 2]


def test_what_changed_in_the_last_hour_is_said_whether_anything_is_wrong_or_not(
    monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Given a deployment that was marked and a wave of restarts within the last hour, the last line says both, as do
    programs' answers; given neither, nothing is said, and programs get an empty list. Names that were heard of once
    are no workers, whatever they said."""
    marks = KeptIncidents(marks=[Mark("v\x1b512", NOW - 720), Mark("v511", NOW - 9000)])
    workers = [
        WorkerEntry(f"celery@app{number}", 1.0, {"pid": number}, "online", online=NOW - 700 + 60 * number)
        for number in range(3)
    ]
    made_up = [
        WorkerEntry(f"made@up{number}", 1.0, {"pid": number}, "online", online=NOW - 60, is_confirmed=False)
        for number in range(4)
    ]
    serve(monkeypatch, workers=[*workers, *made_up], incidents=marks)
    status, out, err = call("problems")
    document = json.loads(call("problems", "-o", "json")[1])

    wave = "3 of 3 workers started between 05:42 and 05:44 UTC"
    assert (status, out) == (0, "")
    assert err.endswith(f" Complete. Changed within the last hour: deploy v\\x1b512 12m0s ago; {wave}.\n")
    assert [(one["what"], one["since"], one["until"]) for one in document["changes"]] == [
        ("deploy v\x1b512", "2026-11-25T05:42:03.500000Z", "2026-11-25T05:42:03.500000Z"),
        (wave, "2026-11-25T05:42:23.500000Z", "2026-11-25T05:44:23.500000Z"),
    ]
    serve(monkeypatch, workers=workers[:1], incidents=KeptIncidents(marks=[Mark("v511", NOW - 9000)]))
    assert call("problems")[2].endswith(" Complete.\n")
    assert json.loads(call("problems", "-o", "json")[1])["changes"] == []


def test_the_page_says_what_changed_below_the_problems() -> None:
    """Given a deployment and a wave of restarts, the page of problems says them as the command does, and what is in the
    label of a deployment is no markup."""
    marks = KeptIncidents(marks=[Mark("<b>v512</b>", NOW - 720)])
    workers = [WorkerEntry(f"celery@app{one}", 1.0, {"pid": one}, "online", online=NOW - 700) for one in (1, 2)]

    html = shown("problems", view(workers=workers, incidents=marks))

    said = "Changed within the last hour: deploy <b>v512</b> at 05:42:03; 2 of 2 workers started at 05:42 UTC."
    assert said in text(html)
    assert "<b>v512" not in html
    assert "Changed within" not in shown("problems", view())


def test_the_overview_reads_the_workers_once() -> None:
    """Given a fleet, the first page, which needs its workers for four things, asks the store for them once."""
    of = view(workers=[WorkerEntry("celery@a", 1.0, {"active": 2}, "online")], instances=[instance()])
    reader: Any = of.reader

    html = shown("", of)

    assert "on 1 worker" in text(html)
    assert reader.workers_read == 1
