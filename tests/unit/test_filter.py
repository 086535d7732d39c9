"""The language in which tasks are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.errors import UsageError
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import FIELDS
from ha_monitor.query.language import Filter, Pattern, parse_filter, split_values
from ha_monitor.text.visible import visible
from tests.unit.asked import NOW, task


def holds(word: str, **changes: Any) -> bool:
    return parse_filter([word], NOW).holds(task(**changes), NOW)


@pytest.mark.parametrize(
    ("word", "changes", "expected"),
    [
        ("state=FAILURE", {"state": State.FAILURE}, True),
        ("state=failure,rejected", {"state": State.REJECTED}, True),
        ("state=open", {"state": State.RECEIVED}, True),
        ("state=open", {"state": State.SUCCESS}, False),
        ("state!=open", {"state": State.SUCCESS}, True),
        ("name=shop.*", {"name": "shop.pay"}, True),
        ("name=shop.*", {"name": "shopping.pay"}, False),
        ("name=*pay,*book", {"name": "shop.book"}, True),
        ("name!=shop.*", {"name": None}, True),
        ("name=", {"name": None}, True),
        (r"name=a\*b\,c", {"name": "a*b,c"}, True),
        (r"name=a\*b\,c", {"name": "axb,c"}, False),
        (r"name=C:\x", {"name": r"C:\x"}, True),
        ("exception~no money", {"exception": "ValueError('no money')"}, True),
        ("exception~no, money", {"exception": "no money"}, False),
        ("exception!~money", {"exception": "KeyError('x')"}, True),
        ("exception~x", {"exception": None}, False),
        ("arg~order-17", {"kwargs": "{'id': 'order-17'}"}, True),
        ("arg~order-17", {"args": "('order-17',)"}, True),
        ("arg!~order-17", {"args": "('order-17',)", "kwargs": "{}"}, False),
        ("retries>1", {"retries": 2}, True),
        ("retries>=2", {"retries": 2}, True),
        ("retries<2", {"retries": 2}, False),
        ("retries=1,2", {"retries": 2}, True),
        ("retries!=1,2", {"retries": 2}, False),
        ("runtime>5s", {"runtime": 5.5}, True),
        ("runtime>5s", {"runtime": None}, False),
        ("runtime<5s", {"runtime": None}, False),
        ("runtime<=1m", {"runtime": 60.0}, True),
        # One that runs has run until now.
        ("runtime>10m", {"state": State.STARTED, "at": NOW - 700}, True),
        ("queue_time>10m", {"state": State.SENT, "at": NOW - 700}, True),
        ("queue_time>10m", {"state": State.SENT, "at": NOW - 700, "eta": NOW - 60}, False),
        ("queue_time>1s", {"queue_time": 2.0}, True),
        ("reconciled=yes", {"reconciled": True}, True),
        ("incomplete=yes", {"complete": False}, True),
        ("incomplete=no", {"complete": False}, False),
        ("since=-1h", {"at": NOW - 3700}, False),
        # It was sent before, and ended since.
        ("since=-1h", {"at": NOW - 3602}, True),
        ("until=-1h", {"at": NOW - 3700}, True),
        ("until=-1h", {"at": NOW - 60}, False),
        ("root=r1", {"root_id": "r1"}, True),
        ("parent=p1", {"parent_id": "p1"}, True),
        ("worker=celery@a,celery@b", {"worker": "celery@b"}, True),
        ("queue=celery", {}, True),
        ("runs>0", {"runs": 1}, True),
        ("task_id=t*", {"task_id": "t17"}, True),
    ],
)
def test_a_condition(word: str, changes: dict[str, Any], expected: bool) -> None:
    """Given a word and a task, the task is among those asked for or is not."""
    assert holds(word, **changes) is expected


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stat=FAILURE", "stat: unknown field, did you mean state? The fields are state, name, queue,"),
        ("zzzzz=1", "zzzzz: unknown field. The fields are state, name"),
        ("=1", "no name: unknown field. The fields are state, name"),
        (
            "state=FAILED",
            "state=FAILED: unknown state, did you mean FAILURE? Expected SENT, RECEIVED, STARTED, RETRY, ",
        ),
        ("state=opne", "state=opne: unknown state, did you mean open? Expected SENT, "),
        ("state=x", "state=x: unknown state. Expected SENT, "),
        ("state~FAIL", "state~FAIL: state is a state; it takes = !="),
        ("name>a", "name>a: name is a text; it takes = != ~ !~"),
        # What a shell leaves of an unquoted runtime>5s.
        ("runtime", "runtime: expected runtime>5s; in a shell, > and < must be quoted, as in 'runtime>5s'"),
        ("FAILURE", "FAILURE: expected FIELD=VALUE, such as state=FAILURE, name='shop.*' or 'runtime>5s'"),
        ("runtime>soon", "runtime>soon: expected a duration such as 90s"),
        ("runtime>1s,2s", "runtime>1s,2s: expected one value"),
        ("retries=two", "retries=two: expected a whole number"),
        ("retries=" + "9" * 5000, "expected a whole number"),
        ("reconciled=maybe", "reconciled=maybe: expected yes or no"),
        ("since=soon", "since=soon: expected a time such as -1h, 02:00"),
        ("since>-1h", "since>-1h: since is a time; it takes ="),
    ],
)
def test_what_means_nothing_is_said(word: str, said: str) -> None:
    """Given a word that means nothing, the error says which, and what would mean something."""
    with pytest.raises(UsageError) as error:
        parse_filter([word], NOW)

    assert said in str(error.value)
    assert len(str(error.value)) < 400


def test_all_conditions_must_hold() -> None:
    """Given several words, a task must be as each of them says."""
    asked = parse_filter(["state=FAILURE", "name=shop.*"], NOW)

    assert asked.holds(task(state=State.FAILURE), NOW)
    assert not asked.holds(task(state=State.FAILURE, name="mail.send"), NOW)
    assert not asked.holds(task(), NOW)


def test_what_a_filter_narrows() -> None:
    """Given a filter, it says which states, texts and times can be among what is asked for, and which alone can."""
    asked = parse_filter(["state=open", "state!=SENT", "task_id=a,b", "task_id=b,c", "since=-2h", "since=-1h"], NOW)

    assert asked.states == {State.RECEIVED, State.STARTED, State.RETRY, State.UNKNOWN}
    assert asked.exact("task_id") == {"b"}
    assert asked.exact("name") is None
    assert parse_filter(["name=a*,b"], NOW).exact("name") is None
    assert asked.since == NOW - 3600
    assert (asked.until, Filter().since) == (None, None)
    assert parse_filter(["name=a*,b", "name!=ab"], NOW).may_have("name", "ac")
    assert not parse_filter(["name=a*,b", "name!=ab"], NOW).may_have("name", "ab")


@settings(max_examples=50)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_words_are_a_filter_or_one_line(words: list[str]) -> None:
    """Given any words at all, they are a filter that any task passes or not, or the error is one line that a terminal
    can show."""
    try:
        asked = parse_filter(words, NOW)
    except UsageError as error:
        assert visible(str(error)) == str(error)
    else:
        assert asked.holds(task(), NOW) in (True, False)


@settings(max_examples=50)
@given(st.binary(max_size=60), st.sampled_from(sorted(FIELDS)), st.sampled_from(["=", "!=", "~", "!~", ">", "<="]))
def test_any_bytes_are_a_value_or_one_line(value: bytes, field: str, operator: str) -> None:
    """Given any bytes behind a field, as a shell hands them over, the same."""
    try:
        asked = parse_filter([field + operator + value.decode("utf-8", "surrogateescape")], NOW)
    except UsageError as error:
        assert visible(str(error)) == str(error)
    else:
        assert asked.holds(task(), NOW) in (True, False)


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab*,\\", max_size=6), min_size=1, max_size=4))
def test_whatever_is_escaped_is_meant(texts: list[str]) -> None:
    """Given texts with commas, `*` and backslashes that are all escaped, they are the values."""
    escaped = ["".join("\\" + one if one in "*,\\" else one for one in text) for text in texts]

    assert split_values(",".join(escaped)) == [(text,) for text in texts]


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=4), st.text(alphabet="ab", max_size=8))
def test_a_pattern_is_what_a_regular_expression_says(parts: list[str], text: str) -> None:
    """Given a pattern and a text, they match as they would with `.*` between the parts."""
    import re

    expected = re.fullmatch(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None

    assert Pattern(tuple(parts)).matches(text) is expected


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_a_part_of_a_text_is_found_as_it_is(text: str) -> None:
    """Given any text behind `~`, a task with it is found, whatever stands around it."""
    assert holds(f"exception~{text}", exception=f"<{text}>")
    assert not holds(f"exception!~{text}", exception=f"<{text}>")


def test_times_between_which_nothing_can_be_are_refused() -> None:
    """Given a beginning that is later than the end, nothing is asked."""
    with pytest.raises(UsageError, match="since is later than until"):
        parse_filter(["since=-1h", "until=-2h"], 1_000_000.0)
