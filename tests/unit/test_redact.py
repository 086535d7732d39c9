"""Secrets in arguments, results and exceptions: found in the text, however it is nested or cut."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.events.redact import Redactor, first_values

redactor = Redactor(DEFAULT_REDACTED, 1024)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{'password': 'hunter2', 'user': 'ann'}", "{'password': ***, 'user': 'ann'}"),
        ('{"password": "hunter2"}', '{"password": ***}'),
        ("{'PassWord': b'hunter2'}", "{'PassWord': ***}"),
        ("{'old_password_2': 'hunter2'}", "{'old_password_2': ***}"),
        ("{'password': None, 'n': 1}", "{'password': ***, 'n': 1}"),
        ("{'password': 'it\\'s hunter2', 'n': 1}", "{'password': ***, 'n': 1}"),
        ("{'tokens': ['a', 'b'], 'n': 1}", "{'tokens': ***, 'n': 1}"),
        ("{'token': {'a': ('b', [1])}, 'n': 1}", "{'token': ***, 'n': 1}"),
        ("{'a': {'b': {'secret': 'x'}}}", "{'a': {'b': {'secret': ***}}}"),
        ("{'secret': Secret('x, y'), 'n': 1}", "{'secret': ***, 'n': 1}"),
        ("{'a': '{\"password\": \"hunter2\"}'}", "{'a': '{\"password\": ***}'}"),
        ('{"a": "{\\"password\\": \\"hunter2\\"}"}', '{"a": "{\\"password\\": ***}"}'),
        ("login(user='ann', password='hunter2')", "login(user='ann', password=***)"),
        ("KeyError: password=hunter2, user=ann", "KeyError: password=***, user=ann"),
        ("GET /?api_key=abc&page=2", "GET /?api_key=***&page=2"),
        ("Authorization: Bearer abc\nHost: x", "Authorization: ***\nHost: x"),
        ("{'password': 'hunt...", "{'password': ***"),
        ("{'password': ['a', 'hun...", "{'password': ***"),
        ("{'passw...", "{'passw..."),
        ("the password is wrong", "the password is wrong"),
        ("{'user': 'password'}", "{'user': 'password'}"),
    ],
)
def test_the_value_of_a_secret_key_is_hidden(text: str, shown: str) -> None:
    """Given the text of a Python or JSON value, the values of secret keys are replaced and the rest stays."""
    assert redactor.text(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"password": ["a", {"b": 1}], "n": 1}, {"password": "***", "n": 1}),
        ({"a": [{"my_token": "x", "text": "secret=y"}]}, {"a": [{"my_token": "***", "text": "secret=***"}]}),
        ({"note": "x" * 2000}, {"note": "x" * 1023 + "…"}),
        ([None, True, 1.5], [None, True, 1.5]),
    ],
)
def test_a_json_value_is_redacted_at_every_depth(value: Any, shown: Any) -> None:
    """Given the fields of a custom event, secret keys are hidden and texts redacted and cut, however nested."""
    assert redactor.value(value) == shown


def test_deep_values_are_cut_off() -> None:
    """Given a value nested beyond reason, what is too deep is left out."""
    value: Any = "bottom"
    for _ in range(100):
        value = [value]

    assert str(redactor.value(value)) == "[[[[[[[['…']]]]]]]]"


def test_what_is_nested_too_deeply_takes_no_room() -> None:
    """Given a value with many others too deep in it, those after it are kept, as many as may be."""
    deep: Any = [1] * 100
    for _ in range(7):
        deep = [deep]
    data = {"deep": deep, "kept": ["a", "b"], "last": 1}

    assert redactor.value(first_values(data, 13)) == {"deep": [[[[[[["…"]]]]]]], "kept": ["a", "b"], "last": 1}
    assert redactor.value(first_values(data, 12)) == {"deep": [[[[[[["…"]]]]]]], "kept": ["a", "b"]}


def test_a_text_is_cut_after_it_was_redacted() -> None:
    """Given a secret that crosses the place of the cut, no part of it stays."""
    text = "x" * 1000 + "{'password': '" + "s" * 5000 + "'}"

    assert redactor.text(text) == "x" * 1000 + "{'password': ***}"
    assert redactor.text("x" * 1018 + " password='hunter2'") == "x" * 1018 + " pass…"


def test_the_end_of_a_text_is_redacted_too() -> None:
    """Given a traceback, its end is kept, without the secret whose key is just before it."""
    assert redactor.tail("a" * 100 + "password='" + "s" * 15 + "' end", 20) == "aaaapassword=*** end"


def test_with_no_keys_nothing_is_hidden() -> None:
    """Given an empty log.redact, texts are only cut."""
    plain = Redactor([], 16)

    assert plain.text("password=hunter2") == "password=hunter2"
    assert plain.value({"password": "hunter2"}) == {"password": "hunter2"}
    assert plain.text("x" * 17) == "x" * 15 + "…"


@pytest.mark.parametrize(
    "text", ["x" * 4_000_000 + " token=1", "token" * 800_000, "token" + " " * 4_000_000, "token='" + "a" * 4_000_000]
)
def test_no_text_takes_long(text: str) -> None:
    """Given a text made to take a search engine's time, it takes a moment."""
    whole = Redactor(DEFAULT_REDACTED, 65536)
    begun = time.monotonic()

    assert len(whole.text(text)) <= 65536
    assert len(whole.tail(text, 16384)) <= 16384
    assert time.monotonic() - begun < 60  # without the bounds it takes hours
