"""Finds the ends of values in a text that anybody may have written, and bounds how much of it is looked at for that.

Where a bracket is not closed, that shows only after all has been read that might stand in it, and the next value may
have the same before it. So what is read is counted: a text is read a few times at most, and then hidden as a whole.
"""

from __future__ import annotations

import re

from ha_monitor.text.grammar import FLAT_ITEM, FLAT_VALUE, GOES_ON, NO_NEXT_LINE, OPENING, bracketed

MOST_READ = 4
"""How many times its length is read of a text, at most, to find the ends of values."""


class Effort:
    """Counts down the characters that may still be looked at closely."""

    __slots__ = ("left",)

    def __init__(self, characters: float = float("inf")) -> None:
        self.left = characters


class Exhausted(Exception):
    """Too much of a text would have to be read."""


class Values:
    """Finds the ends of values in one text."""

    def __init__(self, lower: str, effort: Effort) -> None:
        """:param lower: the text in lower case.
        :param effort: what is read is taken off it.
        """
        self._lower = lower
        self._effort = effort
        self._left = MOST_READ * len(lower)
        self._bracketed = _USUAL if lower.count("'") + lower.count('"') < MANY_MARKS else _OF_MANY_MARKS
        self._limit = 0

    def behind_key(self, start: int) -> int | None:
        """The end of the value there, behind a key; None if there is none. :raises Exhausted: see there."""
        end = self._end(start, _FLAT_VALUE)
        if end is None:
            return None
        more = _GOES_ON.match(self._lower, end)
        return more.end() if more else end

    def in_list(self, start: int) -> int | None:
        """The end of the value there, in a list; None if there is none, or a key. :raises Exhausted: see there."""
        end = self._end(start, _FLAT_ITEM)
        return None if end is None or _COLON.match(self._lower, end) else end

    def _end(self, start: int, flat: re.Pattern[str]) -> int | None:
        if not _OPENING.match(self._lower, start):
            match = flat.match(self._lower, start)
            if match is None:
                return None
            self._read(match.end() - start)
            return match.end()
        end = self._behind_brackets(start)
        # a.b('x').c('y')
        while self._lower.startswith((".", "(", "["), end) and _OPENING.match(self._lower, end):
            end = self._behind_brackets(end)
        return end

    def _behind_brackets(self, start: int) -> int:
        match = self._bracketed.match(self._lower, start)
        if match is not None:
            self._read(match.end() - start)
            return match.end()
        # It may have been read so far in vain.
        if self._limit <= start:
            limit = _NO_NEXT_LINE.search(self._lower, start)
            self._limit = limit.start() if limit else len(self._lower)
        self._read(self._limit - start)
        end = self._lower.find("\n", start)
        return len(self._lower) if end < 0 else end

    def _read(self, characters: int) -> None:
        self._effort.left -= characters
        self._left -= characters
        if self._left < 0:
            raise Exhausted


MANY_MARKS = 800
# In a text of very many quotation marks, looking far ahead at each would take long.
_USUAL, _OF_MANY_MARKS = re.compile(bracketed(40)), re.compile(bracketed(8))
_FLAT_VALUE, _FLAT_ITEM, _OPENING = re.compile(FLAT_VALUE), re.compile(FLAT_ITEM), re.compile(OPENING)
_GOES_ON = re.compile(GOES_ON)
_COLON = re.compile(r"[ ]*+:")
_NO_NEXT_LINE = re.compile(NO_NEXT_LINE)
