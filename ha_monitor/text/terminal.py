"""The one place where text is written for a person at a terminal.

Only this module writes newlines and colours, so that no untrusted text can end, begin or colour a line; commands pass
rows and parts of rows.
"""

from __future__ import annotations

import codecs
import locale
import sys
from collections.abc import Iterable
from typing import NamedTuple, TextIO

from ha_monitor.errors import OutputLost
from ha_monitor.text.visible import ascii_json, visible, visible_json

_PLAIN = str.maketrans({"─": "-", "█": "#", "…": "..."})
"""Replacements for the program's own symbols on a terminal that cannot show them."""


class Painted(NamedTuple):
    """A coloured part of a row."""

    text: str
    color: str
    """The SGR parameters (ECMA-48), such as `1;31`."""


class Terminal:
    """Writes rows of text, escaped, in the terminal's character set."""

    def __init__(self, stream: TextIO, *, colors: bool = False) -> None:
        self._stream = stream
        self._colors = colors
        self._encodings = encodings_of(stream)

    def row(self, *parts: str | Painted) -> None:
        """Write one row.

        :raises BrokenPipeError: if the reader has closed the pipe.
        :raises OutputLost: if the text cannot be written for another reason, such as a full disk.
        """
        shown = [self._part(part) for part in parts]
        self._write("".join(shown).rstrip() + "\n")

    def rows(self, rows: Iterable[str]) -> None:
        """Write rows."""
        for row in rows:
            self.row(row)

    def cells(self, texts: Iterable[str]) -> None:
        """Write one row for programs, with tabs between the texts."""
        self._write("\t".join(map(self.shown, texts)) + "\n")

    def clear(self) -> None:
        """Clear the screen, and start at the top."""
        self._write("\x1b[H\x1b[J")

    def progress(self, done: int, total: int) -> None:
        """Show progress in the last row, and remove it once all is done. Only for a terminal."""
        share = min(1.0, done / max(1, total))
        self._write(f"\r[{'#' * int(share * 40):40}] {done:,} " if share < 1 else "\r\x1b[K")

    def json(self, data: bytes) -> None:
        """Write a JSON document as one row."""
        shown = ascii_json(data) if self._encodings else visible_json(data)
        self._write(shown.decode("utf-8") + "\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(f"the output cannot be written: {error.strerror}") from error

    def shown(self, text: str) -> str:
        """The text as it will be displayed, to measure its width."""
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
    """The encodings, other than UTF-8, in which a text must be representable."""
    found = [stream.encoding or "utf-8"]
    if stream.isatty():
        # In the C locale, Python writes UTF-8 nevertheless; on an 8-bit terminal some of its bytes are control codes.
        found.append(locale.getencoding())
    return [encoding for encoding in found if codecs.lookup(encoding).name != "utf-8"]


def standard_output(*, colors: bool = False) -> Terminal:
    """Output of commands."""
    return Terminal(sys.stdout, colors=colors)


def standard_error() -> Terminal:
    """Error messages of commands."""
    return Terminal(sys.stderr)
