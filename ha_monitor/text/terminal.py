"""The one place where text is written for a person at a terminal.

A newline and a colour come from here alone, so that no text that came from elsewhere can end a line, begin one or paint
it; what a command writes it gives as rows and parts of rows.
"""

from __future__ import annotations

import codecs
import locale
import sys
from collections.abc import Iterable
from typing import NamedTuple, TextIO

from ha_monitor.text.visible import ascii_json, visible, visible_json

_PLAIN = str.maketrans({"─": "-", "█": "#", "…": "..."})
"""What the program itself draws with, where the terminal has no such characters."""


class Painted(NamedTuple):
    """A part of a row in a colour."""

    text: str
    color: str
    """As the terminal counts them (ECMA-48, SGR), such as `1;31`."""


class Terminal:
    """Writes rows of text. Whatever is in them comes out visible, in the characters that the terminal has."""

    def __init__(self, stream: TextIO, *, colors: bool = False) -> None:
        self._stream = stream
        self._colors = colors
        self._encodings = encodings_of(stream)

    def row(self, *parts: str | Painted) -> None:
        """Write one row.

        :raises BrokenPipeError: if nobody reads any more.
        """
        shown = [self._part(part) for part in parts]
        self._stream.write("".join(shown).rstrip() + "\n")
        self._stream.flush()

    def rows(self, rows: Iterable[str]) -> None:
        """Write rows."""
        for row in rows:
            self.row(row)

    def json(self, data: bytes) -> None:
        """Write a JSON document as one row."""
        shown = ascii_json(data) if self._encodings else visible_json(data)
        self._stream.write(shown.decode("utf-8") + "\n")
        self._stream.flush()

    def shown(self, text: str) -> str:
        """The text as it will be seen, to know how much room it takes."""
        text = visible(text)
        for encoding in self._encodings:
            try:
                text.encode(encoding)
            except UnicodeEncodeError:
                text = text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
        return text

    def _part(self, part: str | Painted) -> str:
        if isinstance(part, str):
            return self.shown(part)
        text = self.shown(part.text)
        if not text:
            return ""
        return f"\x1b[{part.color}m{text}\x1b[0m" if self._colors else text


def encodings_of(stream: TextIO) -> list[str]:
    """The encodings, other than UTF-8, that a text must fit to be seen."""
    found = [stream.encoding or "utf-8"]
    if stream.isatty():
        # In the locale C, Python writes UTF-8 all the same; to a terminal of 8 bits its second bytes are controls.
        found.append(locale.getencoding())
    return [encoding for encoding in found if codecs.lookup(encoding).name != "utf-8"]


def standard_output(*, colors: bool = False) -> Terminal:
    """What a command answers goes here."""
    return Terminal(sys.stdout, colors=colors)


def standard_error() -> Terminal:
    """What went wrong goes here."""
    return Terminal(sys.stderr)
