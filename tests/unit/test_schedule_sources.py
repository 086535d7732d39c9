"""Where definitions of schedules are from: what workers answer, and what RedBeat keeps."""

from __future__ import annotations

import json
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ha_monitor.schedules import redbeat, toml
from ha_monitor.schedules.arguments import arguments_of, arguments_of_event
from ha_monitor.schedules.confs import definitions_in, definitions_of
from ha_monitor.schedules.model import MAX_SCHEDULES, MAX_TEXT, Definition, Source
from ha_monitor.schedules.sources import merged
from ha_monitor.schedules.texts import translated, zone_name

CONFS = json.loads((Path(__file__).parents[1] / "support" / "celery_confs.json").read_text())
"""What workers of six versions of Celery answered to `conf`, by how their application is configured."""
VERSIONS = sorted(CONFS)


def confs(version: str, application: str) -> dict[str, Definition]:
    return definitions_in(CONFS[version][application])


def answer(**entries: object) -> dict[str, object]:
    return {"beat_schedule": entries, "timezone": "Europe/Berlin"}


@pytest.mark.parametrize("version", VERSIONS)
def test_all_kinds_of_schedules_are_read(version: str) -> None:
    """Given the answer of a real worker, of each version of Celery from 5.2 to 5.7, whatever the order of the fields in
    its crontabs, then all that it can say is read, and what it cannot say is named.
    """
    found = confs(version, "plain")

    assert {name: one.timetable for name, one in found.items()} == {
        "number": "every 30s",
        "integer": "every 30s",
        "timedelta": "every 26h",
        "timedelta-fraction": "every 2.5s",
        "schedule": "every 100.2s",  # Celery rounds it: 1.67 minutes
        "schedule-small": "<freq: now>",
        "crontab": "*/15 8-18 * * mon-fri",
        "crontab-ints": "30 2 * * *",
        "crontab-lists": "0,30 1,2 1,2,3,4,5,6,7 * 1,2",
        "crontab-spaces": "0,30 * * 1,2 *",
        "refresh-api-token": "every 1m",
        "expires-td": "every 1m",
        "expires-dt": "every 1m",
        "relative": "every 1h",
        "nosched": "",
        "added": "every 10s",
        "t.x()": "* 7 * * *",
    }
    assert {name: one.problem for name, one in found.items() if one.problem} == {
        "schedule-small": "its period is less than a second, which Celery does not report",
        "nosched": "it has no schedule",
    }
    assert {one.zone for one in found.values()} == {"Europe/Berlin"}
    assert {name: one.expires for name, one in found.items() if one.expires} == {
        **{"added": 5.0, "expires-td": 300.0, "refresh-api-token": 60.5}
    }
    assert found["refresh-api-token"].queue == "q1"
    assert (found["added"].task, found["added"].source) == ("t.x", Source.CONF)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("application", "zone"),
    [("old", "Asia/Tokyo"), ("namespaced", "Asia/Tokyo"), ("old-object", "Asia/Tokyo"), ("tzobj", "Europe/Paris")],
)
def test_settings_are_found_under_all_their_names(version: str, application: str, zone: str) -> None:
    """Given an application with names of settings of before Celery 4, with a namespace as with Django, or with a time
    zone that is an object, then its schedule and zone are found.
    """
    assert [one.zone for one in confs(version, application).values()] == [zone]


@pytest.mark.parametrize(
    ("settings_", "zone"),
    [
        ({}, "UTC"),
        ({"enable_utc": False}, ""),
        ({"enable_utc": False, "timezone": "Asia/Tokyo"}, "Asia/Tokyo"),
        ({"timezone": 5}, ""),
        ({"timezone": "<DstTzInfo 'Europe/Paris' LMT+0:09:00 STD>"}, "Europe/Paris"),
    ],
)
def test_the_time_zone_is_that_of_the_application(settings_: dict[str, object], zone: str) -> None:
    """Given settings about time, then the zone is what Celery makes of them; that of a host is not known, and a crontab
    cannot be judged then.
    """
    definition = definitions_in({"beat_schedule": {"a": {"task": "t", "schedule": 5}}} | settings_)["a"]

    assert (definition.zone, definition.problem) == (zone, "")


def test_a_crontab_in_the_zone_of_a_host_cannot_be_judged() -> None:
    """Given a crontab in an application that goes by the local time of its hosts, then it is said that this is not
    known."""
    entry = {"task": "t", "schedule": "<crontab: 0 2 * * * (m/h/dM/MY/d)>"}

    assert definitions_in({"beat_schedule": {"a": entry}, "enable_utc": False})["a"].problem == (
        "its time zone is not known"
    )


@pytest.mark.parametrize(
    ("told", "timetable", "zone"),
    [
        ("<crontab: 0 4\n         * *\n          * (m/h/d/dM/MY), Asia/Tokyo>\n        ", "0 4 * * *", "Asia/Tokyo"),
        ("<clocked: 2026-11-28 02:00:00+00:00>", "once 2026-11-28T02:00:00+00:00", None),
        ("<solar: sunset at latitude -37.81753, longitude: 144.96715>", "sunset at -37.81753, 144.96715", None),
        ("<freq: 10.00 seconds>", "every 10s", None),
        ("<freq: 1.00 second>", "every 1s", None),
        ("<freq: 1.50 hours>", "every 90m", None),
        ("<freq: 2.00 days>", "every 2d", None),
        ("3 days, 0:00:00", "every 3d", None),
    ],
)
def test_the_texts_of_extensions_are_read(told: str, timetable: str, zone: str | None) -> None:
    """Given what django-celery-beat and Celery write of a schedule, then it is read, with its own zone if it has."""
    assert translated(told) == (timetable, zone, "")


@pytest.mark.parametrize(
    "told",
    [
        *(float("nan"), float("inf"), -1, 0, [], {}, "", "\x1b[2J", "<rrule: freq: 7, dtstart: 2026-01-01>"),
        *(
            "<crontab: * * * * (m/h/dM/MY/d)>",
            "<crontab: * * * * * (m/h/dM/MY/x)>",
            "<crontab: [0 * * * * (m/h/d/d/d)>",
        ),
        *(
            "<crontab: " + "* " * 800 + "(m/h/dM/MY/d)>",
            "<crontab: range(5, 5) * * * * (m/h/dM/MY/d)>",
            "x" * 1_000_000,
        ),
    ],
)
def test_what_cannot_be_read_is_shown_as_it_is(told: object) -> None:
    """Given anything else, then its text is shown, without what a terminal would obey and not at any length, and it is
    said that it cannot be read."""
    timetable, zone, problem = translated(told)

    assert (zone, problem) == (None, "its schedule cannot be read")
    assert len(timetable) <= MAX_TEXT
    assert timetable.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("task", "schedule", "args", "kwargs", "options", "enabled")


@pytest.mark.thorough
@settings(max_examples=75)
@given(
    st.dictionaries(st.sampled_from(["beat_schedule", "CELERY_BEAT_SCHEDULE", "timezone", "enable_utc"]), JSON)
    | st.dictionaries(st.text(max_size=5), st.dictionaries(st.sampled_from(NAMES), JSON)).map(
        lambda entries: {"beat_schedule": entries}
    )
    | JSON
)
def test_no_answer_breaks_the_reading(told: Any) -> None:
    """Given any answer at all, then it is read without an error, into definitions that are bounded."""
    for one in definitions_of({"a": told, "b": answer(x={"task": "t", "schedule": 5})}):
        assert max(map(len, (one.name, one.task, one.timetable, one.zone))) <= MAX_TEXT
    for one in redbeat.definitions_of({"redbeat:x": {"definition": json.dumps(told)}}, "UTC"):
        assert max(map(len, (one.name, one.task, one.timetable, one.zone))) <= MAX_TEXT


def test_a_huge_schedule_is_bounded() -> None:
    """Given an application with ten thousand entries, then the first thousand are watched."""
    entries = {f"{number:05}": {"task": "t", "schedule": 5} for number in range(10_000)}

    assert len(definitions_of({"w": answer(**entries)})) == MAX_SCHEDULES


def test_workers_that_differ_are_shown_and_do_not_alarm() -> None:
    """Given workers of which one has another version of the code, then most of them say what is shown; of what is
    not in all of them it is said, and nobody is alarmed by it. Workers without any schedule have no say.
    """
    old = answer(kept={"task": "t", "schedule": 5}, removed={"task": "t", "schedule": 5})
    new = answer(kept={"task": "t", "schedule": 6}, added={"task": "t", "schedule": 5})
    answers = {"a": new, "b": new, "c": old, "d": {"timezone": "UTC"}, "e": None}

    found = {one.name: (one.timetable, one.differs, one.is_disputed) for one in definitions_of(answers)}

    assert found == {
        "added": ("every 5s", "only 2 of 3 workers have it", True),
        "kept": ("every 6s", "1 of 3 workers have another one", True),
        "removed": ("every 5s", "only 1 of 3 workers have it", True),
    }
    assert [one.differs for one in definitions_of({"a": new, "b": new})] == ["", ""]


def test_a_database_may_say_otherwise() -> None:
    """Given an application whose beat reads its schedule from Django's database, then that is said."""
    told = answer(a={"task": "t", "schedule": 5}) | {
        "beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler"
    }

    assert definitions_in(told)["a"].differs == "django-celery-beat may have another one in its database"


@pytest.mark.parametrize(
    ("args", "kwargs", "told", "told_kwargs", "same"),
    [
        ([], {}, "()", "{}", True),
        ([], {}, "[]", "{}", True),
        (None, None, "()", None, True),
        ([1, "x"], {"n": None}, "(1, 'x')", "{'n': None}", True),
        ([1, "x"], {}, "[1, 'x']", "{}", True),
        ([[1, 2]], {}, "((1, 2),)", "{}", True),
        ([1], {}, "(1,)", "{}", True),
        ([1], {}, "(2,)", "{}", False),
        ([], {"a": 1}, "()", "{'a': 2}", False),
    ],
)
def test_arguments_are_compared(args: Any, kwargs: Any, told: str, told_kwargs: str | None, *, same: bool) -> None:
    """Given arguments in a configuration and the text of them in an event, then they are found the same or not."""
    assert (arguments_of(args, kwargs) == arguments_of_event(told, told_kwargs)) is same


def test_arguments_that_are_not_whole_are_not_compared() -> None:
    """Given secrets that Celery masked, texts that were cut, and values that JSON does not know, then nothing is
    said of them."""
    assert arguments_of([], {"password": "********"}) is None
    assert arguments_of([10**400], {}) is None
    assert arguments_of([object()], {}) is None
    assert arguments_of_event("(1, …", "{}") is None
    assert arguments_of_event(None, None) is None
    deep: Any = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    assert arguments_of(deep, {}) is None


REDBEAT = {
    "redbeat:nightly": {
        "definition": json.dumps(
            {
                "name": "nightly",
                "task": "t.report",
                "args": [1],
                "kwargs": {},
                "options": {"queue": "q", "expires": 60},
                "schedule": {
                    **{"__type__": "crontab", "minute": 30, "hour": "2"},
                    **{"day_of_week": [1, 2], "day_of_month": "*", "month_of_year": "*"},
                },
                "enabled": True,
            }
        ),
        "meta": json.dumps(
            {
                "last_run_at": {
                    **{"__type__": "datetime", "year": 2026, "month": 11, "day": 27, "hour": 2, "minute": 30},
                    **{"second": 0, "microsecond": 250000, "timezone": "UTC"},
                },
                "total_run_count": 5,
            }
        ),
    },
    "redbeat:often": {
        "definition": json.dumps(
            {
                "name": "often",
                "task": "t.often",
                "schedule": {"__type__": "interval", "every": 30.0, "relative": False},
                "enabled": False,
            }
        )
    },
    "redbeat:other": {"definition": json.dumps({"name": "other", "task": "t", "schedule": {"__type__": "lunar"}})},
    "redbeat:broken": {"definition": "{"},
}


def test_redbeats_entries_are_read() -> None:
    """Given what RedBeat 2.4 keeps in Redis, then its entries are read, and which of them are paused."""
    found = redbeat.definitions_of(REDBEAT, "Europe/Berlin")

    assert [(one.name, one.task, one.timetable, one.is_enabled, one.problem) for one in found] == [
        ("nightly", "t.report", "30 2 * * 1,2", True, ""),
        ("often", "t.often", "every 30s", False, ""),
        ("other", "t", "<lunar>", True, "its schedule cannot be read"),
    ]
    assert (found[0].queue, found[0].expires, found[0].source) == ("q", 60.0, Source.REDBEAT)
    assert found[0].arguments == arguments_of([1], {})


RULE = (
    '{"__type__": "rrule", "freq": 2, "interval": 1, "wkst": null, "count": null, "bysetpos": null, "bymonth": null, '
    '"bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": [{"__type__": "weekday", '
    '"wkday": 0}, {"__type__": "weekday", "wkday": 4}], "byhour": [2, 14], "byminute": null, "bysecond": null, '
    '"dtstart": 1793498400, "dtstart_tz": 0, "until": 1798761600, "until_tz": 0}'
)
"""As RedBeat 2.4.2 keeps `rrule("WEEKLY", byweekday=(MO, FR), byhour=[2, 14], dtstart=…, until=…)`."""
RULE_TEXT = (
    "<rrule: freq: 3, dtstart: 2026-11-01 02:00:00+00:00, interval: 2, wkst: None, count: None, until: None, "
    "bysetpos: None, bymonth: None, bymonthday: None, byyearday: None, byeaster: None, byweekno: None, "
    "byweekday: (MO, FR(+1)), byhour: [2, 14], byminute: None, bysecond: None>"
)
"""As it tells another one: what a worker answers to `conf`."""
NOT_READ = "rrule is not supported: set its cron or every in [schedules]"


def test_a_rule_of_redbeat_is_named_with_what_to_do() -> None:
    """Given a rule (`rrule`) of RedBeat, in Redis or in the answer of a worker, it is shown with all that is set in it,
    and it is said that it is not read and what to do; done so, it is watched under its name.
    """
    kept = {"redbeat:payout": {"definition": f'{{"name": "payout", "task": "t.pay", "schedule": {RULE}}}'}}
    found = redbeat.definitions_of(kept, "UTC")

    assert [(one.name, one.task, one.timetable, one.problem) for one in found] == [
        (
            *("payout", "t.pay"),
            "rrule weekly, dtstart 2026-11-01T02:00:00+00:00, until 2027-01-01T00:00:00+00:00, byweekday 0,4, "
            "byhour 2,14",
            NOT_READ,
        )
    ]
    assert translated(RULE_TEXT) == (
        "rrule daily, dtstart 2026-11-01 02:00:00+00:00, interval 2, byweekday (MO, FR(+1)), byhour [2, 14]",
        None,
        NOT_READ,
    )
    done = toml.definition_of("payout", task="t.pay", cron="0 2,14 * * mon,fri")
    assert [(one.name, one.timetable, one.source, one.problem) for one in merged(found, [done])] == [
        ("payout", "0 2,14 * * mon,fri", Source.TOML, "")
    ]
    assert tomllib.loads(toml.written(found)) == {"schedules": {"payout": {"task": "t.pay"}}}


def test_the_packages_themselves_write_these_texts() -> None:
    """Given what celery-redbeat and django-celery-beat write now, a rule is kept and told as above, and a
    crontab with a time zone of its own is read.
    """
    decoder, rules = pytest.importorskip("redbeat.decoder"), pytest.importorskip("redbeat.schedules")
    crontabs = pytest.importorskip("django_celery_beat.tzcrontab")
    days = pytest.importorskip("dateutil.rrule")
    begin, end = datetime(2026, 11, 1, 2, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    weekly = rules.rrule("WEEKLY", begin, byweekday=(days.MO, days.FR), byhour=[2, 14], until=end)
    daily = rules.rrule("DAILY", begin, 2, byweekday=(days.MO, days.FR(1)), byhour=[2, 14])
    crontab = crontabs.TzAwareCrontab("*/15", "8-18", "mon-fri", tz=ZoneInfo("Asia/Tokyo"))

    assert json.dumps(weekly, cls=decoder.RedBeatJSONEncoder) == RULE
    assert repr(daily) == RULE_TEXT
    assert translated(repr(crontab)) == ("*/15 8-18 * * mon-fri", "Asia/Tokyo", "")


@pytest.mark.parametrize(
    "told",
    [
        *({}, {"freq": 9}, {"freq": "\x1b[2J"}, {"freq": 3, "byhour": "\x1b[2J"}, {"freq": 3, "dtstart": 1e400}),
        *({"freq": 3, "until": 10**30}, {"freq": [3]}, {"freq": True}, {"freq": 3, "byhour": [[], {}, None] * 50}),
        {"freq": 3, "byhour": list(range(10_000))},
    ],
)
def test_no_rule_breaks_the_reading(told: dict[str, object]) -> None:
    """Given a rule with anything in it, it is shown within bounds, without what a terminal would obey."""
    entry = json.dumps({"name": "x", "task": "t", "schedule": {"__type__": "rrule", **told}})
    (one,) = redbeat.definitions_of({"redbeat:x": {"definition": entry}}, "UTC")

    assert one.problem in (NOT_READ, "its schedule cannot be read")
    assert len(one.timetable) <= MAX_TEXT
    assert one.timetable.isprintable()


def test_the_names_of_zones_are_read() -> None:
    """Given the texts that objects of time zones have, then their names are known."""
    assert zone_name("zoneinfo.ZoneInfo(key='Asia/Tokyo')") == "Asia/Tokyo"
    assert zone_name("datetime.timezone.utc") == "UTC"
    assert zone_name(None) is None
    assert zone_name("x" * 1000) is None


def test_the_configuration_is_read() -> None:
    """Given a table with a crontab, and one with a period, then they are definitions of it."""
    nightly = toml.definition_of(
        "nightly report", task="t.report", cron="0  2 * * *", timezone="Asia/Tokyo", grace="10m", must_end_within=7200
    )

    assert (nightly.timetable, nightly.zone, nightly.grace) == ("0 2 * * *", "Asia/Tokyo", 600.0)
    assert (nightly.must_end_within, nightly.source, nightly.problem) == (7200.0, Source.TOML, "")
    assert toml.definition_of("a", task="t", every=90).timetable == "every 90s"
    assert toml.definition_of("a", task="t", cron="0 2 * * *").zone == "UTC"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"cron": "0 2 * * *"}, "task: expected the name"),
        ({"task": "t", "cron": "0 2 * * *", "every": "5m"}, "cron: expected either cron or every"),
        ({"task": "t", "cron": "0 25 * * *"}, "cron: hour: expected numbers from 0 to 23"),
        ({"task": "t", "cron": ""}, "cron: expected a crontab"),
        ({"task": "t", "every": "soon"}, "every: expected a duration"),
        ({"task": "t", "every": 0}, "every: expected a duration"),
        ({"task": "t", "every": float("nan")}, "every: expected a duration"),
        ({"task": "t", "every": 5, "timezone": "Mars/Base"}, "timezone: expected the name of a time zone"),
        ({"grace": -1}, "grace: expected a duration above 0 and up to 30d"),
        ({"must_end_within": "9999d"}, "must_end_within: expected a duration above 0 and up to 366d"),
        ({"task": "x" * 201}, "task: expected at most 200 characters"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_said(values: dict[str, Any], expected: str) -> None:
    """Given a table with a mistake, then the text names the key, and what was expected."""
    with pytest.raises(ValueError, match=expected):
        toml.definition_of("a", **values)


def test_what_is_known_is_written_for_editing() -> None:
    """Given definitions of all kinds, with names that are hostile, then they are TOML, which reads back as the same."""
    told = definitions_in(CONFS["5.7.0"]["plain"])
    hostile = 'a"]\n[store]\x1b[2J\\ \ud800 \u202e 夜'
    definitions = [
        *told.values(),
        toml.definition_of(hostile, task=hostile, every="90s", grace="5m", must_end_within="2h"),
        definitions_in(answer(b={"task": "t", "schedule": "<clocked: 2026-11-28 02:00:00+00:00>"}))["b"],
    ]

    text = toml.written(definitions)

    assert all(line.isprintable() for line in text.splitlines())
    tables = tomllib.loads(text)["schedules"]
    assert len(tables) == len(definitions)
    again = {
        name: toml.definition_of(name, **table) for name, table in tables.items() if "cron" in table or "every" in table
    }
    readable = [one for one in told.values() if not one.problem]
    assert {one.name: (one.task, one.timetable) for one in readable}.items() <= {
        name: (one.task, one.timetable) for name, one in again.items()
    }.items()
    assert again[hostile.replace("\ud800", "\ufffd")].must_end_within == 7200
    assert "# once 2026-11-28T02:00:00+00:00: can be defined only in the application" in text


def test_the_best_source_says_when() -> None:
    """Given one schedule from several sources, then RedBeat, which beat itself goes by, comes before the configuration
    of the application, and that before this program's own, which adds its grace; that they differ is shown.
    """
    conf = definitions_in(answer(a={"task": "t", "schedule": 60}, b={"task": "t", "schedule": 60}))
    own = toml.definition_of("a", task="t", every=90, grace=7, must_end_within=9)
    beat = replace(conf["a"], source=Source.REDBEAT, timetable="every 2m", is_enabled=False)

    assert merged([own], conf.values()) == [
        replace(conf["a"], grace=7.0, must_end_within=9.0, differs="toml says 'every 90s' of task 't'"),
        conf["b"],
    ]
    first = merged(conf.values(), [own], [beat])[0]
    assert (first.timetable, first.source, first.is_enabled, first.grace) == ("every 2m", Source.REDBEAT, False, 7.0)


def test_a_table_may_add_to_what_workers_tell() -> None:
    """Given a table without a time, then it adds to the entry of that name; without one it is said that nothing tells
    it. One with another name for the same task at the same times is the same schedule; what cannot be read is taken
    from the table.
    """
    conf = definitions_in(answer(a={"task": "t", "schedule": 60}, b={"task": "u", "schedule": "<x>"}))
    added = toml.definition_of("a", must_end_within=9)
    other = toml.definition_of("mine", task="t", every=60, timezone="Europe/Berlin", grace=5)
    read = toml.definition_of("b", task="u", every=30)

    assert [one.must_end_within for one in merged(conf.values(), [added])] == [9.0, None]
    assert [(one.name, one.grace) for one in merged(conf.values(), [other])] == [("a", 5.0), ("b", None)]
    assert [(one.timetable, one.problem) for one in merged(conf.values(), [read])][1] == ("every 30s", "")
    assert [one.problem for one in merged([added])] == ["neither cron nor every is set, and no worker defines it"]


def test_two_applications_may_have_the_same_names() -> None:
    """Given two applications with an entry of the same name, then each is watched, under its application."""
    one = definitions_in(answer(a={"task": "t", "schedule": 60}), app="shop")
    two = definitions_in(answer(a={"task": "t", "schedule": 60}), app="stock")

    assert [each.name for each in merged(one.values(), two.values())] == ["shop/a", "stock/a"]
