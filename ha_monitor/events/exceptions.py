"""Unwraps an exception that a worker has wrapped in another one before it sent the event."""

from __future__ import annotations

import re
from typing import Any

_WRAPPER = "ExceptionWithTraceback("
"""Celery 5.7 sends the text of billiard's wrapper if the process of a task was killed, exited, or was stopped at the
hard time limit."""
_MAX_LENGTH = 10_000
"""Maximum characters of a message: more than is kept later."""
_FRAME = re.compile(r"\n[ ]++File ")
_LAST_LINE = re.compile(r"\n(?![ ])(?P<path>[\w.<>]++)(?>(?:: (?P<message>[\s\S]*+))?)")


def unwrapped(exception: Any, traceback: Any) -> Any:
    """The text of the exception itself. If the given text is the wrapper's, it is taken from the traceback's end."""
    if type(exception) is not str or not exception.startswith(_WRAPPER) or type(traceback) is not str:
        return exception
    frame = 0
    for match in _FRAME.finditer(traceback):
        frame = match.end()
    line = _LAST_LINE.search(traceback.rstrip(), frame)
    if line is None:
        return exception
    name, message = line["path"].rpartition(".")[2], (line["message"] or "")[:_MAX_LENGTH]
    if message.startswith(f"{name}("):
        return message  # for billiard's exceptions, `str` already has this form
    return f"{name}({message!r})" if message else f"{name}()"
