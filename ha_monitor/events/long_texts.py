"""Truncates the long texts of a JSON body while it arrives, so that memory is bounded whatever the body's size.

Celery truncates arguments and results in its events, but neither exceptions nor tracebacks: the text of a
`UnicodeDecodeError` contains everything that was to be decoded, and may have any size.
"""

from __future__ import annotations

import re

from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.facts import BadEvent

MAX_HEAD = 16 * 1024
"""Bytes kept from the beginning of a long text: more than a line shows of an exception."""
MAX_TAIL = 48 * 1024
"""Bytes kept from its end: more than a line shows of a traceback. With both limits, the exceptions and tracebacks of
the 24 events that Celery sends at once fit into a body.
"""
_MARK = b"\\u2026\\n"
"""Replaces what is left out. It ends the line, so that a secret's value ends there, too."""
_WHOLE = re.compile(rb"(?>(?:[^\\]++|\\u(?![dD][89abAB][0-9a-fA-F]{2}\Z)[0-9a-fA-F]{4}|\\[^u])*)")
"""Matches text up to an incomplete escape, or up to the first half of a surrogate pair at the end."""
_LINE_END = re.compile(rb"(?<=[^\\])(?>(?:\\\\)*)\\n")
_PIECE = MAX_HEAD + MAX_TAIL - 1


class TextTruncator:
    """Takes a body piece by piece. The result does not depend on how the body is cut into pieces."""

    def __init__(self) -> None:
        self.byte_count = 0
        """Bytes taken."""
        self._kept = bytearray()
        self._rest = b""
        self._head = bytearray()
        """The beginning of a text that has not ended yet; all of it while it is not long."""
        self._tail: bytes | None = None
        """The end of that text; None while it is not long."""
        self._in_text = False

    @property
    def is_full(self) -> bool:
        """Whether what is kept is already too large, before the end of the body."""
        return len(self._kept) > MAX_BODY

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self.byte_count += len(data)
        for start in range(0, len(data), _PIECE):
            if self.is_full:
                return
            self._add(self._rest + data[start : start + _PIECE])

    def _add(self, data: bytes) -> None:
        """Take a piece that is too short to contain a whole long text."""
        # An escape that is cut off at the end is taken with the next piece.
        end = len(data) - (len(data) - len(data.rstrip(b"\\"))) % 2
        data, self._rest = data[:end], data[end:]
        # Once escaped backslashes and quotation marks are replaced, each quotation mark begins or ends a text.
        marks = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        start = 0
        if self._in_text:
            start = marks.find(b'"')
            if start < 0:
                self._take(data)
                return
            self._take(data[:start])
            self._end_text()
            start += 1
            self._kept += b'"'
        self._in_text = marks.count(b'"', start) % 2 == 1
        end = marks.rfind(b'"') + 1 if self._in_text else len(data)
        self._kept += data[start:end]
        if self._in_text:
            self._take(data[end:])

    def finish(self) -> bytes:
        """The body with its long texts truncated.

        :raises BadEvent: if it is still too large.
        """
        if self._in_text:  # the body is cut off, so it is not valid JSON
            self._end_text()
        kept = self._kept + self._rest
        if len(kept) > MAX_BODY:
            raise BadEvent(f"body of {self.byte_count} bytes is larger than {MAX_BODY} even without its long texts")
        return bytes(kept)

    def _take(self, data: bytes) -> None:
        """Take a piece of a text."""
        if self._tail is not None:
            self._tail = (self._tail + data)[-MAX_TAIL:]
            return
        self._head += data
        if len(self._head) > MAX_HEAD + MAX_TAIL:
            self._tail = bytes(self._head[-MAX_TAIL:])
            del self._head[MAX_HEAD:]

    def _end_text(self) -> None:
        self._in_text = False
        self._kept += self._head if self._tail is None else truncated(bytes(self._head), self._tail)
        self._head.clear()
        self._tail = None


def truncated(head: bytes, tail: bytes) -> bytes:
    """The beginning and the end of a text, joined by `_MARK`; all in JSON's escaped form.

    The end is kept from the beginning of a line: otherwise it might begin with a secret whose key is left out.
    """
    whole = _WHOLE.match(head)
    head = head[: whole.end()] if whole else b""
    line_end = _LINE_END.search(tail)
    # A character of several bytes may be cut off at the end of the head, too.
    return head.decode("utf-8", "ignore").encode() + _MARK + (tail[line_end.end() :] if line_end else b"")
