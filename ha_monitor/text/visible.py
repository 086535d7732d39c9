"""Escapes untrusted text for display: every character that a terminal would interpret, reorder or not show."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Invisible characters that Unicode classifies as letters, marks or symbols."""
_NARROW = re.compile("[ -~\u00a1-\u00ac\u00ae-\u02ff…]*")
"""Latin letters, and the end mark of a truncated text: each takes one column."""
CUT_MARK = "…"
"""Stands at the end of a text that was cut."""
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_ESCAPED = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def visible(text: str) -> str:
    """The text on one line in visible characters: all others are written as Python writes them, such as `\\x1b`.

    The others are control characters (including 8-bit ones and newlines), bidirectional marks, characters without
    width, separators other than the blank, lone surrogates, and private or unassigned characters.
    """
    return _written_out(text, _escaped)


def visible_json(data: bytes) -> bytes:
    """JSON with the same characters escaped as `\\u001b`: equivalent for a program."""
    if data.isascii() and b"\x7f" not in data:
        return data  # JSON itself escapes the rest of ASCII
    return _written_out(data.decode("utf-8", "replace"), _json_escaped).encode("utf-8")


def ascii_json(data: bytes) -> bytes:
    """JSON in ASCII only."""
    text = visible_json(data).decode("utf-8")
    others = {ord(character): _json_escaped(character) for character in set(text) if not character.isascii()}
    return text.translate(others).encode("ascii")


def columns(text: str) -> int:
    """The width of an escaped text in terminal columns."""
    if text.isascii() or _NARROW.fullmatch(text):
        return len(text)
    # Its tables take a tenth of a command's start, and most texts do not need them.
    from wcwidth import wcwidth  # noqa: PLC0415

    return sum(max(0, wcwidth(character)) for character in text)


def padded(text: str, width: int) -> str:
    """An escaped text, padded with blanks to a number of columns."""
    return text + " " * (width - columns(text))


def shortened(text: str, width: int | None, end: str = "…") -> str:
    """An escaped text, truncated to a number of columns if there is a limit; `end` marks the truncation."""
    if width is None or columns(text) <= width:
        return text
    if width < columns(end):
        return end[: max(0, width)]
    kept, taken = [], columns(end)
    for character in text:
        taken += columns(character)
        if taken > width:
            break
        kept.append(character)
    return "".join(kept) + end


def cut(text: str, most: int) -> str:
    """The beginning of a text, of at most `most` characters; `CUT_MARK` is the last of them if something is missing."""
    return text if len(text) <= most else text[: most - 1] + CUT_MARK


def unescaped(text: str) -> str:
    """The text from which `visible` made this one, provided that it had no backslashes of its own."""
    return _ESCAPED.sub(_meant, text)


def _meant(found: re.Match[str]) -> str:
    escape = found[0]
    named = next((character for character, name in _NAMED.items() if name == escape), None)
    code = int(escape[2:], 16) if named is None else 0
    return named if named is not None else chr(code) if code <= sys.maxunicode else escape


def _written_out(text: str, escaped: Callable[[str], str]) -> str:
    if text.isprintable() and (text.isascii() or _BLANK.isdisjoint(text)):
        return text
    hidden = {character for character in set(text) if not character.isprintable() or character in _BLANK}
    return text.translate({ord(character): escaped(character) for character in hidden})


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def written_out_bytes(text: str) -> str:
    """Text that a person typed, with bytes that are not UTF-8 written as `\\udcff`: unlike `printable` of
    `events.text`, which puts a question mark there, it still shows what was typed.
    """
    return text.encode("utf-8", "backslashreplace").decode()
