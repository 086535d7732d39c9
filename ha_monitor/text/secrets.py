"""Finds secrets in texts: by a key such as `password`, and by known patterns.

A text is first searched for the words that a secret has about it, all at once; most texts have none. Only then is it
looked at closely, and in lower case: an expression that ignores case is ten times as slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick, Implementation

from ha_monitor.text.grammar import QUOTE, WORD, item, value
from ha_monitor.text.shapes import SHAPES, Shape, is_given_to

HIDDEN = "***"
MOST = 150
"""Secrets of a kind that are redacted singly; everything after the last of them is redacted as a whole."""
WHOLE_WORD = 4
"""Letters. A part of a key's name of at most this length matches whole words only."""
ENDS = {"pwd": "", "pass": "all band by com encom get high keep last low out over ssh sur tres under"}
"""Short parts that also match at the end of a word (`dbpass`), and the prefixes that make other words of them
(`compass`)."""
Span = tuple[int, int]


_PRIVATE_KEY = "private key"
_PEM_MARK = re.compile(r"-----(?P<mark>begin|end) [a-z ]{0,30}?private key(?: block)?+-----")
_PEM_LINES = re.compile(r"(?:(?:\s|\\[nrt])*+[a-z\d+/=]{16,}+)*+(?:(?:\s|\\[nrt])*+[a-z\d+/=]++(?=\s*+\Z))?+")
_BASE64 = "abcdefghijklmnopqrstuvwxyz0123456789+/= \r\n\\"
_ERROR_NAME = re.compile(
    r"(?:invalid|missing|expired|unexpected|unknown|wrong|bad|no)[a-z]++:|[a-z]*?(?:error|exception|warning|failed|failure|"
    r"expired|revoked|missing|required|needed|denied|refused|rejected|invalid|notfound|notallowed|doesnotexist|exists|"
    r"interrupted|closed|disabled|locked|timeout|exhausted|tooshort|toolong|mismatch)s?:"
)


class SecretFinder:
    """Redacts texts: the values of some keys, and known secret patterns."""

    def __init__(self, key_parts: Iterable[str] = ()) -> None:
        """:param key_parts: parts of the names of keys; `_` in one also stands for `-` and for nothing."""
        parts = sorted({variant for part in key_parts for variant in _variants(part.lower())}, key=len, reverse=True)
        self._parts = frozenset(parts)
        words = {_PRIVATE_KEY, *parts}.union(*(shape.words for shape in SHAPES))
        self._words = AhoCorasick(sorted(words), implementation=Implementation.DFA, store_patterns=True)
        self._whole = tuple(part for part in parts if sum(map(str.isalpha, part)) <= WHOLE_WORD)
        self._inner = tuple(part for part in parts if part not in self._whole)
        key = _one_of(self._inner, self._whole)
        # {'name': 'password', 'value': …} and name="password" value=…
        named = rf"{QUOTE}[ ]*+,?+[ ]*+(?:{QUOTE})?+value(?:{QUOTE})?+[ ]*+[:=]"
        # The = may stand in the next line, and so may the value, if it is quoted.
        separator = (
            rf"(?:{QUOTE}|&(?:quot|#39|#x27);)?+\]?+[ \t]*+(?:\n[ \t]*+(?==(?!=)))?+"
            r"(?::=|=>|[:=]{1,2}+(?:[ \t]*+(?:\\\n|\n(?=[ \t]*+[bruf]?+[\"'])))?+|>(?=[^<>\n]*+</))"
        )
        self._key = re.compile(key)
        # A word without an end is taken whole: each of its parts would be looked at to its end otherwise.
        self._assignment = re.compile(
            rf"{key}(?P<long>[\w.-]{{32,}}+)?+[\w.-]*+"
            rf"(?:(?:{named}|{separator})[ \t]*+(?P<value>)|(?(long)|(?!)))"
        )

    def names_secret(self, key: str) -> bool:
        """Whether the value of a key with this name must be redacted."""
        lower = lowered(key)
        return any(self._counts(key, lower, match.start()) for match in self._key.finditer(lower))

    def hide(self, text: str) -> str:
        """The text with `***` in place of each secret."""
        lower = lowered(text)
        words = set(self._words.find_matches_as_strings(lower, overlapping=True))
        if not words:
            return text
        kept: list[str] = []
        position = 0
        for start, end in sorted(self._spans(text, lower, words)):
            if start >= position:
                kept += (text[position:start], HIDDEN)
            position = max(position, end)
        return "".join(kept) + text[position:]

    def _spans(self, text: str, lower: str, words: set[str]) -> Iterator[Span]:
        if not words.isdisjoint(self._parts):
            values = _USUAL if lower.count("'") + lower.count('"') < MANY_MARKS else _OF_MANY_MARKS
            yield from self._assigned(text, lower, values.behind_key)
            for expression in (values.in_pair, _OPTION):
                yield from _found(expression, lower, self._names_secret)
        for shape in SHAPES:
            if not words.isdisjoint(shape.words):
                accept = partial(_is_option_of, lower, shape) if shape.is_option else _always
                yield from _found(shape.expression, lower, accept)
        if _PRIVATE_KEY in words:
            yield from _private_keys(lower)

    def _names_secret(self, match: re.Match[str]) -> bool:
        name = match["name"]
        return any(not _is_ordinary(name, key.start()) for key in self._key.finditer(name))

    def _assigned(self, text: str, lower: str, values: re.Pattern[str]) -> Iterator[Span]:
        position = 0
        for _ in range(MOST):
            match = self._assignment.search(lower, position)
            if match is None:
                return
            key, position = match.span()
            if match.start("value") < 0 or not self._counts(text, lower, key):
                continue
            if _is_place_or_error(text, lower, key, position) or _is_result(text, lower, key, position):
                continue
            value = values.match(lower, position)
            if value is not None:
                yield value.span()
                position = value.end()
        yield position, len(text)

    def _counts(self, text: str, lower: str, start: int) -> bool:
        """Whether the part of a key's name that is there counts: a short one only at the beginning of a word, as in
        `auth`, `proxy_auth` and `proxyAuth`, or, some, at its end.
        """
        if start == 0 or not lower.startswith(self._whole, start) or lower.startswith(self._inner, start):
            return True
        before, first = text[start - 1], text[start]
        if not (before.isalpha() and first.isalpha()) or (before.islower() and first.isupper()):
            return True
        return lower.startswith(tuple(ENDS), start) and not _is_ordinary(lower, start)


class _Values(NamedTuple):
    """What finds values in a text."""

    behind_key: re.Pattern[str]
    in_pair: re.Pattern[str]
    """('password', …), ['user', 'bob', 'password', …]; not {'field': 'password', 'error': …}"""


def _values(ahead: int) -> _Values:
    pair = rf"[(\[,][ ]*+[bu]?+{QUOTE}(?P<name>[\w.-]{{2,80}}+){QUOTE}[ ]*+,[ ]*+(?P<hidden>{item(ahead)})(?![ ]*+:)"
    return _Values(re.compile(value(ahead)), re.compile(pair))


# In a text of very many quotation marks, looking far ahead at each would take long.
_USUAL, _OF_MANY_MARKS = _values(40), _values(8)
MANY_MARKS = 800
# --password …, also in a list of arguments
_OPTION = re.compile(rf"""-(?<![\w-]-)-?(?P<name>[\w-]{{2,80}}+)["']?,?[ ]++(?!-)(?P<hidden>{WORD})""")


def lowered(text: str) -> str:
    """The text in lower case, each character in its place, and without what UTF-8 cannot hold."""
    if text.isascii():
        return text.lower()
    # The only letter that becomes two.
    return text.replace("\u0130", "i").encode("utf-8", "replace").decode("utf-8").lower()


def _variants(part: str) -> Iterator[str]:
    first, *others = re.split(r"(?<=[^\W_])[_-](?=[^\W_])", part)
    for marks in product(("_", "-", ""), repeat=min(len(others), 3)):
        yield first + "".join(mark + other for mark, other in zip(marks, others, strict=False))


def _is_place_or_error(text: str, lower: str, key: int, value: int) -> bool:
    """Whether what looks like a key is the place `token.py:12`, or the name of an exception before its message."""
    if lower[value - 1] == ":":
        return lower[value : value + 1].isdigit() and "." in lower[key:value]
    if lower[value - 2 : value] != ": " or lower[value - 3] in "\"'":
        return False
    start = value - 2
    while start > max(0, value - 80) and (lower[start - 1].isalnum() or lower[start - 1] in "._"):
        start -= 1
    path, _, name = text[start : value - 1].rpartition(".")
    # jwt.exceptions.InvalidToken: …
    return (path != "" and name[0].isupper()) or _ERROR_NAME.fullmatch(name.lower()) is not None


def _is_ordinary(lower: str, start: int) -> bool:
    """Whether a short part, and the letters before it, are a word that is the name of no secret, such as `compass`."""
    for part, heads in ENDS.items():
        if lower.startswith(part, start):
            head = _LETTERS.search(lower[max(0, start - 8) : start])
            return head is not None and head[0] in heads.split()
    return False


def _is_result(text: str, lower: str, key: int, value: int) -> bool:
    """Whether what looks like a key says how many tests passed, or that one did: `pass: 3`, `PASS: test_pay`."""
    if not lower.startswith("pass", key) or lower[key + 4 : key + 5].isalpha():
        return False
    stands_alone = key == 0 or not (lower[key - 1].isalnum() or lower[key - 1] in "_\"'")
    return (stands_alone and text.startswith("PASS:", key)) or _RESULT.match(lower, value) is not None


_LETTERS = re.compile(r"[a-z]*\Z")
_RESULT = re.compile(r"[ \t]*+(?:\d{1,3}+|true|false|yes|no|none|null|ok)(?![\w.+/=@$!#*~^%&-])")


def _one_of(inner: Iterable[str], whole: Iterable[str]) -> str:
    """An expression for the parts of keys' names, by their first letters: so most places are passed over at once."""
    by_first: dict[str, list[str]] = {}
    for part in inner:
        by_first.setdefault(part[0], []).append(re.escape(part[1:]))
    for part in whole:
        by_first.setdefault(part[0], []).append(re.escape(part[1:]) + "(?![a-z])")
    alternatives = [f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items()]
    return f"(?:{'|'.join(alternatives) or '(?!)'})"


def _always(_match: re.Match[str]) -> bool:
    return True


def _is_option_of(lower: str, shape: Shape, match: re.Match[str]) -> bool:
    return is_given_to(lower, shape, match.start())


def _found(
    expression: re.Pattern[str], lower: str, accept: Callable[[re.Match[str]], bool] = _always
) -> Iterator[Span]:
    end = 0
    for count, match in enumerate(expression.finditer(lower)):
        if count == MOST:
            yield end, len(lower)
            return
        start, end = match.span("hidden")
        if accept(match):
            yield start, end


def _private_keys(lower: str) -> Iterator[Span]:
    """What is between the marks of keys; one mark is missing where the text was cut."""
    position, begun = 0, False
    for mark in _PEM_MARK.finditer(lower):
        if mark["mark"] == "end":
            cut = lower[position : mark.start()]
            yield position if begun else position + len(cut.rstrip(_BASE64)), mark.start()
        elif begun:
            yield position, _end_of_lines(lower, position)
        position, begun = mark.end(), mark["mark"] == "begin"
    if begun:
        yield position, _end_of_lines(lower, position)


def _end_of_lines(lower: str, start: int) -> int:
    lines = _PEM_LINES.match(lower, start)
    return lines.end() if lines else start


BY_LOOKS = SecretFinder()
"""Finds known secret patterns."""
