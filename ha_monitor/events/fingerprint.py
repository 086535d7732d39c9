"""The fingerprint of an error: the exception's class, and the place in the application where it was raised.

The errors of one task with the same fingerprint form a group. Anybody may have written the text of an error, so
everything here takes time linear in the length of the text, whatever it contains, and returns short texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

VERSION = "v1"
"""Version of the rule. A changed rule makes other groups, so it needs a new version."""
MAX_CLASS = 100
MAX_PLACE = 200
UNKNOWN_CLASS = "UnknownException"
_MAX_MESSAGE = 500
"""Characters of a message that are used if there is no traceback."""
_MAX_PATH = 1000

_HEADERS = ("Traceback (most recent call last):\n", "  + Exception Group Traceback (most recent call last):\n")
_NEXT = re.compile(
    r"\n\n(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n\n(?=Traceback \(|  \+ Exception Group )"
)
"""Stands between the text of an exception and that of the one that was raised because of it, or while handling it."""
_RAISED = re.compile(r"\n(?=[^ \n])")
"""The line break before the line with the class, which is the first line that is not indented. What follows is the
message, whatever it looks like."""
_RAISED_GROUP = re.compile(r"\n  \| (?=[^ \n])")
"""The same in an exception group. The exceptions of the group follow that line."""
_CLASS = re.compile(r"[\w.<>]{1,300}(?=:|\n|\Z)")
_REPR = re.compile(r"[\w.]{1,300}+(?=\()")
_RETRY = re.compile(r"Retry\(Retry\(\.\.\.\), ")
"""Precedes the exception in the text of a retry, if the worker runs tasks in threads."""
_FRAME_MARK = '  File "'
_FRAME = re.compile(r'  File "(?P<path>[^"\n]*+)", line \d++, in (?P<function>[^\n]*+)')
_STANDARD = re.compile(r"[/\\]lib(?:64)?[/\\]python\d\.\d++t?[/\\]|[/\\]python\d++[/\\]lib[/\\]|\A<", re.IGNORECASE)
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]", re.IGNORECASE)
_CELERY = re.compile(r"[/\\](?:celery|billiard|kombu|vine)[/\\]")
_VARYING_PATH = re.compile(r"[0-9a-f]{8,}+|\d{4,}+", re.IGNORECASE)
"""Parts of a path that change from release to release, such as the time of the release."""
_VARYING = re.compile(
    r"(?P<url>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,20}+://[^\s'\"<>]++)"
    r"|(?P<email>(?<![\w.+-])[\w.+-]{1,64}+@[\w.-]++)"
    r"|(?P<uuid>(?<![0-9a-f])[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(?![0-9a-f]))"
    r"|(?P<time>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d++)?)?(?:Z|[+-]\d\d:?\d\d)?)?)"
    r"|(?P<address>0x[0-9a-f]++|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d++)?"
    r"|(?<![0-9a-f:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}(?![0-9a-f:]))"
    r"|(?P<hex>(?<![0-9a-z])(?=[a-f]*+\d)[0-9a-f]{8,}+(?![0-9a-z]))"
    r"|(?P<number>\d++(?:\.\d++)?)",
    re.IGNORECASE,
)


class Fingerprint(NamedTuple):
    """What the errors of a group have in common, apart from the name of the task."""

    error_class: str
    """The exception's class, without its module."""
    place: str
    """Such as `shop/tasks.py:charge`; without a traceback: the message, as `steady` returns it."""

    @property
    def digest(self) -> str:
        """A short hash of the fingerprint, with the version of the rule, such as `v1:0f3c52a9be`."""
        text = f"{self.error_class}\n{self.place}"
        return f"{VERSION}:{blake2b(text.encode('utf-8', 'replace'), digest_size=5).hexdigest()}"


def fingerprint_of(exception: str, traceback: str | None, *, of_retry: bool = False) -> Fingerprint:
    """The fingerprint of an error.

    :param exception: the `repr` of the exception, redacted.
    :param traceback: the redacted traceback, or its end; None if there is none.
    :param of_retry: whether the traceback ends with Celery's own exception, which requests the retry.
    """
    parts = list(_parts(traceback)) if traceback else []
    if (retry := _RETRY.match(exception)) is not None:
        exception = exception[retry.end() :]
    raised = parts[-1].error_class if parts and not of_retry else ""
    error_class = raised or _class_in(exception) or UNKNOWN_CLASS
    place = _place(traceback, parts) if traceback else ""
    return Fingerprint(error_class[:MAX_CLASS], place[:MAX_PLACE] or steady(exception)[:MAX_PLACE])


def steady(message: str) -> str:
    """The beginning of a message, with each part that varies, such as a number or a URL, replaced by its kind."""
    return _VARYING.sub(lambda match: f"<{match.lastgroup}>", message[:_MAX_MESSAGE])


class _Part(NamedTuple):
    """The part of a traceback that is about one exception of a chain."""

    begin: int
    """Where the frames begin."""
    end: int
    error_class: str


def _parts(text: str) -> Iterator[_Part]:
    begin = 0
    for match in _NEXT.finditer(text):
        if (part := _part(text, begin, match.start())) is not None:
            yield part
        begin = match.end()
    if (part := _part(text, begin, len(text))) is not None:
        yield part


def _part(text: str, begin: int, end: int) -> _Part | None:
    header = next((header for header in _HEADERS if text.startswith(header, begin)), "")
    raised = _RAISED_GROUP if header == _HEADERS[1] else _RAISED
    # The header's line break belongs to what follows. Without a header, the beginning of the traceback is cut off, and
    # the first line may be incomplete.
    begin += max(0, len(header) - 1)
    found = raised.search(text, begin, end)
    if found is None:
        return _Part(begin, end, "")
    line = _CLASS.match(text, found.end(), end) if header else None
    return _Part(begin, found.start() + 1, line[0].rpartition(".")[2] if line else "")


def _class_in(exception: str) -> str:
    found = _REPR.match(exception)
    return found[0].rpartition(".")[2] if found else ""


def _place(text: str, parts: list[_Part]) -> str:
    """The last frame in the application's code; if all frames are in libraries, the last one outside of Celery."""
    of_library = last = None
    for part in reversed(parts):
        at = part.end
        while (at := text.rfind(_FRAME_MARK, part.begin, at)) >= 0:
            is_line = at == part.begin or text[at - 1] == "\n" or text[at - 5 : at] == "\n  | "
            frame = _FRAME.match(text, at, part.end) if is_line else None
            if frame is None:
                continue
            path = frame["path"][-_MAX_PATH:]
            last = last or frame
            if _STANDARD.search(path) and not _INSTALLED.search(path):
                continue
            if not _INSTALLED.search(path):
                return _shown(frame)
            if of_library is None and not _CELERY.search(path):
                of_library = frame
    found = of_library or last
    return _shown(found) if found else ""


def _shown(frame: re.Match[str]) -> str:
    path = frame["path"][-_MAX_PATH:].replace("\\", "/")
    module = "/".join(path.rsplit("/", 2)[-2:])
    return f"{_VARYING_PATH.sub('#', module)[-MAX_PLACE // 2 :]}:{frame['function'][: MAX_PLACE // 2]}"
