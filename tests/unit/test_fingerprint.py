"""What the errors of one kind have in common, and nothing that differs from one to the next."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.events.error_group import group_id
from ha_monitor.events.facts import MAX_TRACEBACK
from ha_monitor.events.fingerprint import MAX_CLASS, MAX_PLACE, Fingerprint, fingerprint_of, steady
from tests.support.recording import read_stream

HEADER = "Traceback (most recent call last):\n"
CELERY = (
    '  File "/srv/venv/lib/python3.11/site-packages/celery/app/trace.py", line 564, in trace_task\n'
    "    R = retval = fun(*args, **kwargs)\n"
)
OWN = '  File "/srv/app/shop/tasks.py", line 38, in charge\n    gateway.pay(order)\n'
LIBRARY = '  File "/srv/venv/lib/python3.11/site-packages/requests/adapters.py", line 700, in send\n    raise x\n'
STANDARD = '  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode\n    raise x from None\n'
RETRYING = '  File "/srv/venv/lib/python3.11/site-packages/celery/app/task.py", line 963, in retry\n    raise ret\n'
BECAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
MEANWHILE = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
PLACE = "shop/tasks.py:charge"
MESSAGES = st.text(alphabet=st.sampled_from('ab 1\n"|+:.(é' + "\u2028\r"), max_size=300) | st.sampled_from(
    [
        OWN,
        "x\n" + OWN,
        "x\n" + STANDARD + "Other: y",
        "a\n\n" + HEADER + OWN.replace("charge", "other"),
        "\n\nValueError: x",
    ]
)


def raised(exception: BaseException) -> str:
    try:
        raise exception
    except BaseException as error:
        return "".join(traceback.format_exception(error))


def fingerprint(text: str, exception: str = "ValueError('x')") -> Fingerprint:
    return fingerprint_of(exception, text)


@pytest.mark.thorough
def test_the_failures_of_the_recorded_stream_are_of_few_kinds() -> None:
    """Given a thousand failures with a hundred texts, of two pools, they are of the three kinds that the tasks raise,
    also those that Celery wraps; and the retries are of a fourth."""
    names: dict[str, str] = {}
    found: Counter[tuple[str, str | None, str]] = Counter()
    texts = set()
    for event in (event for message in read_stream() for event in message.events):
        if "name" in event:
            names[event["uuid"]] = event["name"]
        if event["type"] in ("task-failed", "task-retried"):
            error = fingerprint_of(event["exception"], event["traceback"], of_retry=event["type"] == "task-retried")
            found[event["type"], names.get(event["uuid"]), error.error_class] += 1
            if event["type"] == "task-failed":
                texts.add(event["exception"])

    assert len(texts) > 100
    assert found == {
        ("task-failed", "tests.fail", "KeyError"): 732,
        ("task-failed", "tests.reject", "Reject"): 177,
        ("task-failed", "tests.login", "PermissionError"): 93,
        ("task-retried", "tests.flaky", "ValueError"): 1277,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + CELERY + OWN + "KeyError: 'x'\n", ("KeyError", PLACE)),
        (HEADER + OWN + LIBRARY + STANDARD + "shop.errors.Declined: no\n", ("Declined", PLACE)),
        (HEADER + OWN + "shop.f.<locals>.Bad\n", ("Bad", PLACE)),
        # All of the application is installed as a library.
        (HEADER + CELERY + LIBRARY + STANDARD + RETRYING + "OSError: x", ("OSError", "requests/adapters.py:send")),
        (HEADER + CELERY + "OSError: x", ("OSError", "app/trace.py:trace_task")),
        # Several exceptions: the last tells the class, and its own code the place, if it has any.
        (HEADER + STANDARD + "KeyError: 1" + BECAUSE + HEADER + OWN + "OSError: x", ("OSError", PLACE)),
        (HEADER + OWN + "KeyError: 1" + MEANWHILE + HEADER + STANDARD + "OSError: x", ("OSError", PLACE)),
        # A message may look like anything.
        (HEADER + OWN + "OSError: two\n" + OWN.replace("charge", "other"), ("OSError", PLACE)),
        (HEADER + OWN + "OSError: two\n" + HEADER + STANDARD + "KeyError: 1", ("OSError", PLACE)),
        (HEADER + OWN + "OSError: \n\n\nKeyError: 1\n", ("OSError", PLACE)),
        (HEADER + OWN + '  File "<string>", line 1\n    x = = 1\n        ^\nSyntaxError: no\n', ("SyntaxError", PLACE)),
        (HEADER + OWN + "  [Previous line repeated 973 more times]\nRecursionError: x", ("RecursionError", PLACE)),
        (HEADER + '  File "C:\\shop\\tasks.py", line 3, in charge\nOSError: x', ("OSError", PLACE)),
        (HEADER + OWN + '  File "C:\\Python311\\Lib\\json\\decoder.py", line 3, in f\nOSError: x', ("OSError", PLACE)),
        (HEADER + OWN + '  File "<frozen importlib._bootstrap>", line 3, in f\nOSError: x', ("OSError", PLACE)),
        # The time of a release is no difference.
        (HEADER + '  File "/srv/20261126/tasks.py", line 3, in charge\nOSError: x', ("OSError", "#/tasks.py:charge")),
        # The beginning is cut off; what is left of it tells no class.
        ("app/tasks.py\", line 1, in other\n    f()\n" + OWN + "OSError: x", ("ValueError", PLACE)),
        ("no: traceback", ("ValueError", "ValueError('x')")),
        ("", ("ValueError", "ValueError('x')")),
    ],
)  # fmt: skip
def test_class_and_place_are_those_of_the_traceback(text: str, expected: tuple[str, str]) -> None:
    """Given a traceback, the class is that of its last exception, and the place the last of the application's own."""
    assert fingerprint(text) == expected


def test_a_real_traceback_is_read() -> None:
    """Given what Python itself writes, the class and the place are found: of a cause, of a message of several lines, of
    a syntax error, and of a group of exceptions, in whichever order these are."""

    def caused() -> str:
        try:
            json.loads("{")
        except ValueError as error:
            cause = RuntimeError(f"two\n{OWN}\nlines")
            cause.__cause__ = error
            return raised(cause)
        return ""

    def invalid() -> str:
        try:
            compile("x = = 1", "<string>", "exec")
        except SyntaxError as error:
            return "".join(traceback.format_exception(error))
        return ""

    group = [raised(ExceptionGroup("some", [*(x for x in order)])) for order in _orders()]

    assert fingerprint(caused()) == ("RuntimeError", "unit/test_fingerprint.py:raised")
    assert fingerprint(invalid()) == ("SyntaxError", "unit/test_fingerprint.py:invalid")
    assert {fingerprint(text) for text in group} == {("ExceptionGroup", "unit/test_fingerprint.py:raised")}


def _orders() -> list[list[Exception]]:
    made: list[Exception] = []
    for kind in (KeyError, OSError):
        try:
            raise kind("inner")
        except Exception as error:
            made.append(error)
    return [made, made[::-1]]


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        ("ValueError('x')", "ValueError"),
        ("shop.errors.Declined('x')", "Declined"),
        ("Retry(Retry(...), ValueError('not yet (0)'), 0)", "ValueError"),
        ("no repr at all", "UnknownException"),
        ("", "UnknownException"),
    ],
)
def test_a_retry_is_of_the_kind_of_its_exception(exception: str, expected: str) -> None:
    """Given a retry, whose traceback ends with Celery's own exception, it is of the exception it was retried for."""
    text = HEADER + CELERY + OWN + RETRYING + "celery.exceptions.Retry: Retry in 0s: ValueError('not yet (0)')\n"

    assert fingerprint_of(exception, text, of_retry=True) == (expected, PLACE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("E('order 17 of a@b.example')", "E('order 4711 of somebody.else+x@mail.example.com')"),
        ("E('0f8fad5b-d9cb-469f-a165-70867728950e')", "E('7c9e6679-7425-40de-944b-e07fc1f90ae7')"),
        ("E(<Foo object at 0x7f3a10>)", "E(<Foo object at 0xdeadbeef>)"),
        ("E('since 2026-11-26T22:41:38.123Z')", "E('since 2025-01-02 03:04:05+01:00')"),
        ("E('10.0.0.1:5432 refused')", "E('192.168.100.200:6379 refused')"),
        ("E('no route to fe80::1:2:3')", "E('no route to 2001:db8:0:1:1:1:1:1')"),
        ("E('https://a.example/x?y=1 is gone')", "E('http://user@other.example:8080/ is gone')"),
        ("E('commit 3f2a90c1d')", "E('commit 00ff00ff00ff')"),
        ("E('took 1.5 s')", "E('took 200 s')"),
    ],
)
def test_without_a_traceback_what_varies_makes_no_difference(one: str, other: str) -> None:
    """Given two texts that differ in a number, an id, an address or a time, they are of one kind; others are not."""
    assert fingerprint_of(one, None) == fingerprint_of(other, None)
    assert fingerprint_of(one, None) != fingerprint_of(one.replace("E(", "F("), None)
    assert fingerprint_of("E('decade of added facade')", None) != fingerprint_of("E('other words')", None)


@settings(max_examples=50)
@given(MESSAGES, MESSAGES, st.integers(0, 3), st.booleans())
def test_the_message_makes_no_difference(one: str, other: str, chained: int, is_cause: bool) -> None:
    """Given a traceback of any number of exceptions, its kind does not depend on what they say."""
    between = BECAUSE if is_cause else MEANWHILE

    def text(message: str) -> str:
        first = f"{HEADER}{STANDARD}KeyError: {message}{between}" * chained
        return f"{first}{HEADER}{CELERY}{OWN}{LIBRARY}ValueError: {message}"

    assert fingerprint(text(one)) == fingerprint(text(other)) == ("ValueError", PLACE)


@settings(max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            [HEADER, OWN, STANDARD, BECAUSE, "  + Exception Group " + HEADER, '  File "', "  | ", "\n", '"', "x"]
        )
        | st.text(max_size=5)
    ).map("".join),
    st.text(max_size=50),
)
def test_any_text_has_a_short_fingerprint(text: str, exception: str) -> None:
    """Given any texts, there is a fingerprint, which is short and always the same."""
    found = fingerprint_of(exception, text)

    assert found == fingerprint_of(exception, text)
    assert 0 < len(found.error_class) <= MAX_CLASS and len(found.place) <= MAX_PLACE
    assert len(found.digest) == 13 and found.digest.startswith("v1:")
    assert len(group_id(exception, found.digest)) == 10


def seconds(act: Callable[[], object]) -> float:
    """CPU time of three calls, the least of a few."""
    taken = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(3):
            act()
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize(
    "piece",
    [
        "\n", " ", "\n\n", STANDARD, '  File "', '\n  File "', '  File "/lib/python3', MEANWHILE + HEADER, HEADER,
        'x"\n', "  | ", "\n  | ", "a:", "a.", '  File "/', "é", "\nA",
    ],
)  # fmt: skip
def test_the_time_is_linear_in_the_length(piece: str) -> None:
    """Given a text of any pieces, four times as much of it takes about four times as long, not sixteen times."""
    short, long = (HEADER + piece * (size // len(piece)) for size in (MAX_TRACEBACK // 4, MAX_TRACEBACK))

    def is_linear() -> bool:
        return seconds(lambda: fingerprint(long)) < 8 * seconds(lambda: fingerprint(short)) + 3e-5

    assert any(is_linear() for _ in range(5))


@pytest.mark.parametrize("piece", ["a", "a.", "a:", "::", "1-", "a@", "1.", "a://", "abcdef", "0a", "-"])
def test_a_message_of_any_length_takes_a_bounded_time(piece: str) -> None:
    """Given a message, only its beginning is looked at."""
    assert steady(piece * 5000) == steady(piece * 10_000)


def test_errors_of_two_tasks_are_two_groups() -> None:
    """Given one fingerprint, the groups of two tasks differ, and that of a task without a name has an id, too."""
    digest = fingerprint("").digest

    assert len({group_id("a", digest), group_id("b", digest), group_id(None, digest)}) == 3
