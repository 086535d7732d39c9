"""Finds the ends of values in untrusted text, and bounds how much of the text is read for that.

That a bracket is not closed shows only after everything that may be inside it has been read, and the next value may
have the same text ahead of it. So the characters that are read are counted: a text is read a few times at most; after
that, the rest of it is hidden as a whole.
"""

from __future__ import annotations

import re
from functools import cache

from ha_monitor.text.grammar import NO_NEXT_LINE, item, value

MAX_READS = 3
"""How many times the length of a text is read, at most, in search of ends that may not exist."""


class Effort:
    """A budget of characters that may still be examined closely."""

    __slots__ = ("left",)

    def __init__(self, characters: float = float("inf")) -> None:
        self.left = characters


class Exhausted(Exception):
    """Too much of a text would have to be read."""


class Values:
    """Finds the ends of values in one text."""

    def __init__(self, lower: str) -> None:
        """:param lower: the text in lower case."""
        self._lower = lower
        self._most = MAX_READS * len(lower)
        self.read = 0
        """Characters that have been read so far, and may have to be read again."""
        marks = lower.count("'") + lower.count('"')
        self._value, self._item = _expressions(_LONG_LOOKAHEAD if marks < MANY_MARKS else _SHORT_LOOKAHEAD)
        self._limit = 0

    def behind_key(self, start: int) -> int | None:
        """The end of the value after a key; None if there is no value. :raises Exhausted: see there."""
        match = self._value.match(self._lower, start)
        if match is None:
            return None
        if match.lastgroup == "unclosed":
            self._count(self._limit_from(start) - start)
        # The search continues after the value, so a closed value is never read again.
        return match.end()

    def in_list(self, start: int) -> int | None:
        """The end of the value in a list; None if there is none, or a key follows. :raises Exhausted: see there."""
        match = self._item.match(self._lower, start)
        if match is None:
            return None
        end = match.end()
        self._count((self._limit_from(start) if match.lastgroup == "unclosed" else end) - start)
        return None if _COLON.match(self._lower, end) else end

    def _count(self, characters: int) -> None:
        self.read += characters
        if self.read > self._most:
            raise Exhausted

    def _limit_from(self, start: int) -> int:
        """How far a value is read, at most, to see that a bracket in it is not closed."""
        if self._limit <= start:
            limit = _NO_NEXT_LINE.search(self._lower, start)
            self._limit = limit.start() if limit else len(self._lower)
        return self._limit


MANY_MARKS = 800
# In a text with very many quotation marks, looking far ahead at each would take too long.
_LONG_LOOKAHEAD, _SHORT_LOOKAHEAD = 40, 8


@cache
def _expressions(ahead: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """For a value after a key, and for one in a list. Compiled when first needed, because that takes some milliseconds:
    most commands need none, and most instances only those that look far ahead.
    """
    return re.compile(value(ahead)), re.compile(item(ahead))


_COLON = re.compile(r"[ ]*+:")
_NO_NEXT_LINE = re.compile(NO_NEXT_LINE)
