"""Long texts of a body are truncated while it arrives: the event stays, in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.broker.envelope import MAX_ENVELOPE, MAX_LARGE_ENVELOPE, read_envelope
from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.decode import Batch, Message
from ha_monitor.events.facts import MAX_TRACEBACK, BadEvent
from ha_monitor.events.long_texts import MAX_HEAD, MAX_TAIL, TextTruncator, truncated
from tests.support.corpus import MEGABYTE, envelopes
from tests.unit.builders import TIME, decode, event
from tests.unit.test_decode import payload

LONG = MAX_HEAD + MAX_TAIL + 1
LINES = 'Traceback (most recent call last):\n  File "/a.py", line 3, in pay\n    pay(1)\n'


def undecodable(size: int) -> str:
    """What Celery puts into the event of a task that failed so; it takes five times the size in the body."""
    try:
        (b"\xff" * size).decode()
    except UnicodeDecodeError as error:
        return repr(error)
    raise AssertionError


def truncated_body(body: bytes, piece: int = 131_064) -> bytes:
    texts = TextTruncator()
    for start in range(0, len(body), piece):
        texts.add(body[start : start + piece])
    return texts.finish()


def in_json(text: str) -> str:
    """A text that comes out of a body of which it is all."""
    return str(json.loads(truncated_body(json.dumps(text).encode())))


def fields_of(batch: Batch, uuid: str) -> dict[str, Any]:
    return dict(payload(batch.tasks[uuid][0][4])["fields"])


@pytest.mark.thorough
def test_the_texts_of_as_many_failures_as_celery_sends_at_once_fit() -> None:
    """Given 24 failures with an exception and a traceback of megabytes each, in a body of more than 100 MB, all events
    are there, with the beginning of the exception and the end of the traceback."""
    exception, traceback = undecodable(450_000), LINES * 30_000 + "UnicodeDecodeError: that is why\n"
    failures = [
        event("task-failed", uuid=f"u{n}", at=TIME + n, exception=exception, traceback=traceback) for n in range(24)
    ]
    body = json.dumps([*failures, event("task-started", uuid="good")]).encode()
    assert len(body) > 100 * MEGABYTE

    batch = decode(truncated_body(body))

    assert (batch.event_count, batch.rejected_count) == (25, 0)
    for n in range(24):
        fields = fields_of(batch, f"u{n}")
        assert fields["exception"].startswith("UnicodeDecodeError('utf-8', b'\\xff\\xff")
        assert fields["traceback"].endswith("in pay\n    pay(1)\nUnicodeDecodeError: that is why\n")
        assert len(fields["traceback"]) == MAX_TRACEBACK


def test_what_is_not_long_stays_as_it_is() -> None:
    """Given texts up to the limit, escapes, and numbers, every byte stays."""
    body = json.dumps(["x" * (LONG - 1), '\\"\\' * 5000, {"\u0444": [1.5, None]}, "\\", "\U0001f600"]).encode()

    assert truncated_body(body) == body


@pytest.mark.parametrize("char", ["x", '"', "\\", "\n", "\u0444", "\U0001f600", "\\ud83d", '\\"'])
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("ascii", [True, False])
def test_no_character_and_no_escape_is_cut(char: str, before: int, ascii: bool) -> None:
    """Given a long text of any characters, what is kept of it is JSON, and its characters are those of the text."""
    text = "x" * before + char * LONG
    kept = json.loads(truncated_body(json.dumps(text, ensure_ascii=ascii).encode()))

    head, tail = kept.split("…\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert MAX_HEAD / 12 - 1 <= len(head) <= MAX_HEAD


def test_the_end_begins_with_a_line() -> None:
    """Given a secret whose key is left out, its value is, too; only whole lines are kept of the end."""
    end = "word hunter2-and-more\nlast line"
    text = "x" * LONG + "pass" + end

    assert in_json(text).endswith("x…\nlast line")
    assert truncated(b"head", b"hunter2") == b"head\\u2026\\n"
    assert truncated(b"head", rb"hunter2\\n is no line end\\\n but this") == rb"head\u2026\n but this"


def test_a_text_without_lines_keeps_its_beginning() -> None:
    """Given a long text without a line end, as an exception has, the beginning is kept."""
    kept = in_json("secret " * LONG)

    assert kept.startswith("secret secret")
    assert kept.endswith("…\n")


PARTS = st.lists(
    st.sampled_from(['"', "\\", "\\\\", '\\"', "\\n", "\\u0444", "é", "x" * 20_000, "y\\n" * 8000, "[", ",", "\n"]),
    max_size=40,
)


@pytest.mark.thorough
@settings(max_examples=75)
@given(PARTS, st.integers(1, 70_000))
def test_the_pieces_do_not_matter(parts: list[str], piece: int) -> None:
    """Given any bytes in any pieces, the same comes out; what was JSON is JSON."""
    body = "".join(parts).encode()
    if len(body) // piece > 5000:
        piece = len(body) // 5000
    whole = truncated_body(body, MEGABYTE)
    text = json.dumps(["".join(parts), *parts]).encode()

    assert truncated_body(body, piece) == whole
    assert len(json.loads(truncated_body(text, max(piece, len(text) // 5000)))) == len(parts) + 1


@pytest.mark.parametrize("byte", [b'"",', b"1,", b"[", b'"' + b"x" * 4000 + b'",'])
def test_what_is_no_long_text_is_refused(byte: bytes) -> None:
    """Given a body that is large without long texts, it is refused, and no more of it is kept than a body may have."""
    texts = TextTruncator()
    tracemalloc.start()
    try:
        for _ in range(400):
            texts.add(byte * (100_000 // len(byte)))
        with pytest.raises(BadEvent, match="bytes is larger than 4194304 even without its long texts"):
            texts.finish()
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BODY
    finally:
        tracemalloc.stop()


def envelope(content: bytes, **changes: Any) -> bytes:
    """As kombu publishes it to Redis."""
    good = json.loads(envelopes()["good"])
    return json.dumps(good | {"body": b64encode(content).decode()} | changes).encode()


def test_a_large_body_in_an_envelope_is_truncated() -> None:
    """Given a failure with 20 MB of text on a Redis broker, it is there, and is never held decoded."""
    body = json.dumps([event("task-failed", exception=undecodable(4_000_000)), event("task-started")]).encode()
    large = envelope(body)

    tracemalloc.start()
    try:
        message = read_envelope(large)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()
    batch = decode(message)

    assert (message.fault, batch.event_count, batch.rejected_count) == ("", 2, 0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"content-type": "application/x-python-serialize"}, "is larger than"),
        ({"headers": {"compression": "application/x-gzip"}}, "is larger than"),
        ({"properties": {}}, "is larger than"),
        ({"headers": {"x": "y" * 100_000}}, "is larger than"),
        ({"content-type": 5}, "content-type must be a text, not int"),
        ({"body": "A" * (MAX_ENVELOPE + 1)}, "body is not base64"),
        ({"body": "%" * MAX_ENVELOPE}, "is larger than"),
    ],
)
def test_a_large_envelope_of_another_kind_is_refused(changes: dict[str, Any], fault: str) -> None:
    """Given a large envelope whose texts cannot be told from the rest, or that is wrong, its fault is told."""
    message = read_envelope(envelope(b'"' + b"x" * MAX_ENVELOPE + b'"', **changes))

    assert fault in message.fault
    assert decode(message).rejected_count == 1


def test_the_largest_envelope_is_limited() -> None:
    """Given an envelope that is larger than any, it is not looked at."""
    assert read_envelope(b" " * (MAX_LARGE_ENVELOPE + 1)) == Message(
        b"", "", "", fault=f"envelope of {MAX_LARGE_ENVELOPE + 1} bytes is larger than {MAX_LARGE_ENVELOPE}"
    )
