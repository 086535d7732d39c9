"""The exception of a failure whose worker has wrapped it before it sent the event."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from ha_monitor.events.exceptions import unwrapped
from tests.unit.builders import TIME, UUID, decode, event
from tests.unit.test_decode import payload

FRAME = 'Traceback (most recent call last):\n  File "/pool.py", line 1267, in mark\n    raise X(\n    ^^^^^^^^\n'
KILLED = FRAME + "billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) Job: 0.\n"
STOPPED = FRAME + "billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n"
WRAPPED = "ExceptionWithTraceback()"


@pytest.mark.parametrize(
    ("exception", "trace", "expected"),
    [
        (WRAPPED, KILLED, "WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 0.')"),
        (WRAPPED, STOPPED, "TimeLimitExceeded(1,)"),
        (WRAPPED, FRAME + "KeyError\n", "KeyError()"),
        (WRAPPED, FRAME + "ValueError: two\nlines: and\n  a third", "ValueError('two\\nlines: and\\n  a third')"),
        (WRAPPED, 'Traceback:\n  File "a"\nOSError: first\n\nDuring …\n' + KILLED, "WorkerLostError('Worker exited"),
        (WRAPPED, FRAME + "__main__.f.<locals>.Bad: x", "Bad('x')"),
        ("ExceptionWithTraceback(KeyError('x'), '…')", FRAME + "KeyError: 'x'", "KeyError(\"'x'\")"),
        (WRAPPED, "\nValueError: no frame", "ValueError('no frame')"),
        # What cannot be known stays as it is.
        (WRAPPED, FRAME, WRAPPED),
        (WRAPPED, "", WRAPPED),
        (WRAPPED, None, WRAPPED),
        (WRAPPED, 5, WRAPPED),
        ("KeyError('x')", KILLED, "KeyError('x')"),
        (None, KILLED, None),
        ({"a": 1}, KILLED, {"a": 1}),
    ],
)
def test_the_exception_is_that_of_the_traceback(exception: Any, trace: Any, expected: Any) -> None:
    """Given the wrapper's text, the exception is what the last line of the traceback says; any other stays."""
    found = unwrapped(exception, trace)

    assert found == expected or (expected is not None and str(found).startswith(str(expected)))


def test_a_real_traceback_is_read() -> None:
    """Given a traceback that Python writes, with a cause, the last exception is found."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("second: 5") from error
    except RuntimeError as error:
        text = "".join(traceback.format_exception(error))

    assert unwrapped(WRAPPED, text) == "RuntimeError('second: 5')"


def test_the_line_and_the_count_have_the_class() -> None:
    """Given a failure with the wrapper's text and a secret in its message, line and count have the real class, and the
    secret is redacted."""
    trace = FRAME + "app.LoginError: refused password=hunter2 for bob"
    (fact,) = decode(event("task-failed", at=TIME, exception=WRAPPED, traceback=trace)).tasks[UUID]

    assert payload(fact[4])["fields"]["exception"].startswith("LoginError('refused password=***")
    assert fact[6].startswith("LoginError('refused password=***")
    assert "hunter2" not in repr(fact)
