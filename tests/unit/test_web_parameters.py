"""The query of a request: what is asked, and what is refused before anything is."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from ha_monitor.errors import UsageError
from ha_monitor.query.language import parse_filter
from ha_monitor.text.patterns import quoted
from ha_monitor.web.endpoints import BY_NAME, ENDPOINTS
from ha_monitor.web.parameters import MAX_QUERY, MAX_VALUE, Parameters, parse, text_of

TASKS = BY_NAME["tasks", False].parameters


def asked(query: str, noun: str = "tasks", name: str = "") -> Parameters:
    return parse(query, name, BY_NAME[noun, bool(name)].parameters)


def test_a_filter_is_what_is_typed_in_a_shell() -> None:
    """Given a filter in one text or in several, with quotes, its words are those that a shell would pass on, and the
    times follow."""
    found = asked("filter=state%3DFAILURE+name%3D'shop.*'&filter=exception~%22no+such+key%22&since=-1h&until=")

    assert found.words == ["state=FAILURE", "name=shop.*", "exception~no such key", "since=-1h"]
    assert asked("").words == []


def test_what_is_left_out_has_its_default() -> None:
    """Given no query, or empty values, all has its default."""
    for query in ("", "limit=&reverse=&sort="):
        found = asked(query)
        assert (found.count(), found.flag("reverse"), found.text("sort")) == (50, False, "")
    assert asked("within=90s", "queues").seconds("within") == 90.0
    assert asked("", "queues").seconds("within") == 600.0


def test_the_same_question_with_other_values_is_a_url() -> None:
    """Given a question, links to others like it keep all of it but what they change, in one order."""
    found = asked("limit=20&filter=name%3Da%26b&sort=runtime")

    assert found.query() == "?filter=name%3Da%26b&limit=20&sort=runtime"
    assert found.query(sort=None, after="1.5:x y") == "?after=1.5%3Ax%20y&filter=name%3Da%26b&limit=20"
    assert asked("").query() == ""


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit = 0: expected a number from 1 to 1000"),
        ("limit=1001", "limit = 1001: expected a number from 1 to 1000"),
        ("limit=-1", "limit = -1: expected a number from 1 to 1000"),
        ("limit=%D9%A3", "limit = ٣: expected a number from 1 to 1000"),
        ("reverse=maybe", "reverse = maybe: expected yes or no"),
        ("bad=1", "bad: unknown parameter; it takes filter, since, until, sort, reverse, limit, after"),
        ("limit=1&limit=2", "limit: expected once"),
        ("filter='a", "'a: no closing quotation"),
        ("filter=%FF", "the query is not UTF-8"),
        ("filter=" + "x" * (MAX_VALUE + 1), f"filter: longer than {MAX_VALUE} characters"),
        ("x" * (MAX_QUERY + 1), f"the query is longer than {MAX_QUERY} characters"),
        ("&".join(f"p{number}=1" for number in range(40)), "the query has more than 32 parameters"),
        ("%1B[31m=1", "\\x1b[31m: unknown parameter; it takes filter, since, until, sort, reverse, limit, after"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(query: str, said: str) -> None:
    """Given parameters that are unknown, out of bounds, no text, or said twice, the error is one line that says which
    and what was expected, and no control character is in it."""
    with pytest.raises(UsageError) as found:
        parse(query, "", TASKS)

    assert str(found.value) == said


def test_names_in_paths_are_bounded() -> None:
    """Given names that nothing can have, nothing is asked."""
    with pytest.raises(UsageError, match="the name: longer than"):
        asked("", "queues", "x" * (MAX_VALUE + 1))
    assert asked("", "queues", "a/b c").name == "a/b c"


@pytest.mark.parametrize("name", ["\x1b]0;x\x07", "a\nb\tc\x00", "my queue", 'it\'s "x"', "a\\,*b", "\x7f\x9b", "#a;b"])
def test_whatever_is_in_a_name_the_links_to_it_are_understood(name: str) -> None:
    """Given a name out of an event, with control characters, blanks or quotes, it is the name in a path, and the filter
    that pages link to finds what has it, alone and beside other words.
    """
    assert asked("", "queues", name).name == name
    text = text_of(f"queue={quoted(name)}") + " state=SUCCESS"
    found = asked(f"filter={quote(text, safe='')}").words
    assert found == [f"queue={quoted(name)}", "state=SUCCESS"]
    assert parse_filter(found, 0.0).exact("queue") == {name}


def test_all_parameters_have_valid_defaults() -> None:
    """Given each question, its defaults are values that it takes."""
    for endpoint in ENDPOINTS:
        found = parse("&".join(f"{one.name}={one.default}" for one in endpoint.parameters), "", endpoint.parameters)
        assert found.known.keys() == {one.name for one in endpoint.parameters}
