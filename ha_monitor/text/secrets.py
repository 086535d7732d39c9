"""Finds secrets in texts: by a key such as `password`, and by known patterns.

A text is first searched for all words that accompany a secret, at once; most texts have none. Only then is it examined
closely, and in lower case: an expression that ignores case is ten times as slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product

from ahocorasick_rs import AhoCorasick, Implementation

from ha_monitor.text.grammar import HIDDEN, QUOTE, WORD
from ha_monitor.text.ordinary import ENDS, is_ordinary, is_place_or_error, is_result, says_nothing
from ha_monitor.text.shapes import SHAPES, Shape, is_given_to
from ha_monitor.text.values import Effort, Exhausted, Values

MIN_LENGTH = 3
"""Characters that a text with a secret has at least: the key, a separator, and the secret. Many tasks have no keyword
arguments, which is `{}`.
"""
MAX_SECRETS = 150
"""Secrets of a kind that are redacted individually; everything after the last of them is redacted as a whole."""
CANDIDATE_COST = 100
"""Cost of a candidate in characters, in addition to those that are read to find its end."""
MAX_WHOLE_WORD = 4
"""Letters. A part of a key's name with at most this many letters matches only whole words."""
OTHER_WORDS = {"token": "(?!iz)", "secret": "(?!ar[iy])"}
"""What must not follow a part, because it makes another word of it: `tokenizer`, `secretary`."""
Span = tuple[int, int]


_PRIVATE_KEY = "private key"
_PEM_MARK = re.compile(r"-----(?P<mark>begin|end) [a-z ]{0,30}?private key(?>(?: block)?)-----")
_PEM_LINES = re.compile(
    r"(?>(?:(?>(?:\s|\\[nrt])*)[a-z\d+/=]{16,}+)*)(?>(?:(?>(?:\s|\\[nrt])*)[a-z\d+/=]++(?=\s*+\Z))?)"
)
_BASE64 = "abcdefghijklmnopqrstuvwxyz0123456789+/= \r\n\\"


class SecretFinder:
    """Redacts texts: the values of some keys, and known secret patterns."""

    def __init__(self, key_parts: Iterable[str] = ()) -> None:
        """:param key_parts: parts of key names; `_` in a part also stands for `-` and for nothing."""
        parts = sorted({variant for part in key_parts for variant in _variants(part.lower())}, key=len, reverse=True)
        self._parts = frozenset(parts)
        words = {_PRIVATE_KEY, *parts}.union(*(shape.words for shape in SHAPES))
        self._words = AhoCorasick(sorted(words), implementation=Implementation.DFA, store_patterns=True)
        self._whole = tuple(part for part in parts if sum(map(str.isalpha, part)) <= MAX_WHOLE_WORD)
        self._inner = tuple(part for part in parts if part not in self._whole)
        key = _one_of(self._inner, self._whole)
        # {'name': 'password', 'value': …} and name="password" value=…; in YAML, the value is on the next line
        named = (
            rf"(?:{QUOTE}[ ]*+,?+[ ]*+(?>(?:{QUOTE})?)value(?>(?:{QUOTE})?)[ ]*+[:=]"
            rf"|(?=[\\\"'\n])(?>(?:{QUOTE})?)\n[ ]++value:)"
        )
        # The = may be on the next line, and so may the value, if it is quoted.
        separator = (
            rf"(?>(?:{QUOTE}(?>(?:[ \t]*+\n[ \t]*+(?=:))?)|&(?:quot|#39|#x27);)?)(?>(?:\]|\[\d{{1,4}}+\])?)"
            r"[ \t]*+(?>(?:\n[ \t]*+(?==(?!=)))?)"
            r"(?::=|=>|[:=]{1,2}+(?>(?:[ \t]*+(?:\\\n|\n(?=[ \t]*+[bruf]?+[\"'])))?)|[!+|]=(?=[ \t]*+[bruf]?+[\"'])"
            r"|>(?=[^<>\n]*+</))"
        )
        # Forms of PostgreSQL, XML and pydantic: (token, x)=(…), <password type="x">…</, token⏎  … input_value=…
        special = (
            r"(?:(?=[,)])(?>(?:,[ ][\w, ]{1,100}+)?)\)=(?=\()"
            r"|(?>(?:[ ]++[\w:.-]{1,40}+=\"[^\"<>\n]{0,200}+\"){1,4})>(?=[^<>\n]*+</)"
            r"|\n  [^\[\n]{1,200}+\[type=\w{1,60}+, input_value=)"
        )
        self._key = re.compile(key)
        # An endless word is matched as a whole: otherwise each of its parts would be searched to its end.
        self._assignment = re.compile(
            rf"{key}(?>(?P<long>[\w.-]{{32,}}+)?)[\w.-]*+"
            rf"(?:(?=[\\\"'&\]\[ \t\n:=!+|>,)])(?<!_count)"
            rf"(?:{separator}|{named}|{special})[ \t]*+(?P<value>)|(?(long)|(?!)))"
        )

    def names_secret(self, key: str) -> bool:
        """Whether the value of a key with this name must be redacted."""
        lower = lowered(key)
        return any(self._counts(key, lower, match.start()) for match in self._key.finditer(lower))

    def hide(self, text: str, effort: Effort | None = None) -> str:
        """The text with `***` in place of each secret.

        :param effort: a budget shared by several texts. Once it is used up, a text that may contain a secret is
            redacted as a whole.
        """
        if len(text) < MIN_LENGTH:
            return text
        lower = lowered(text)
        found = self._words.find_matches_as_strings(lower, overlapping=True)
        if not found:
            return text
        words = set(found)
        effort = effort or Effort()
        if effort.left <= 0:
            return HIDDEN
        kept: list[str] = []
        position = 0
        for start, end in sorted(self._spans(text, lower, words, effort)):
            if start >= position:
                kept += (text[position:start], HIDDEN)
            position = max(position, end)
        return "".join(kept) + text[position:]

    def _spans(self, text: str, lower: str, words: set[str], effort: Effort) -> Iterator[Span]:
        if not words.isdisjoint(self._parts):
            values = Values(lower)
            yield from self._assigned(text, lower, values, effort)
            yield from self._paired(lower, values, effort)
            effort.left -= values.read
            for first, expression in (("-", _OPTION), ("value", _NAMED_BEHIND)):
                if first in lower:
                    yield from _found(expression, lower, effort, self._names_secret)
        for shape in SHAPES:
            if not words.isdisjoint(shape.words):
                accept = partial(_is_option_of, lower, shape) if shape.is_option else _always
                yield from _found(shape.expression, lower, effort, accept)
        if _PRIVATE_KEY in words:
            effort.left -= len(lower)
            yield from _private_keys(lower)

    def _names_secret(self, match: re.Match[str]) -> bool:
        name = match["name"]
        return any(not is_ordinary(name, key.start()) for key in self._key.finditer(name))

    def _assigned(self, text: str, lower: str, values: Values, effort: Effort) -> Iterator[Span]:
        effort.left -= len(lower)
        position = 0
        for _ in range(MAX_SECRETS):
            match = self._assignment.search(lower, position)
            if match is None:
                return
            effort.left -= CANDIDATE_COST
            key, position = match.span()
            if match.start("value") < 0 or not self._counts(text, lower, key):
                continue
            if is_place_or_error(text, lower, key, position):
                continue
            if lower.startswith("pass", key) and is_result(text, lower, key, position):
                continue
            try:
                end = values.behind_key(position)
            except Exhausted:
                break
            if end is not None:
                if not says_nothing(lower, key, position, end):
                    yield position, end
                position = end
        yield position, len(text)

    def _paired(self, lower: str, values: Values, effort: Effort) -> Iterator[Span]:
        effort.left -= len(lower)
        position = 0
        for _ in range(MAX_SECRETS):
            match = _PAIR.search(lower, position)
            if match is None:
                return
            effort.left -= CANDIDATE_COST
            try:
                end = values.in_list(match.end())
            except Exhausted:
                position = match.end()
                break
            position = end or match.start() + 1
            if end is not None and self._names_secret(match):
                yield match.end(), end
        yield position, len(lower)

    def _counts(self, text: str, lower: str, start: int) -> bool:
        """Whether the part of a key's name at this position counts: a short one only at the beginning of a word, as in
        `auth`, `proxy_auth` and `proxyAuth`; some also at the end of a word.
        """
        if start == 0 or not lower.startswith(self._whole, start) or lower.startswith(self._inner, start):
            return True
        before, first = text[start - 1], text[start]
        if not (before.isalpha() and first.isalpha()) or (before.islower() and first.isupper()):
            return True
        return lower.startswith(tuple(ENDS), start) and not is_ordinary(lower, start)


# ('password', …), ['user', 'bob', 'password', …]; not {'field': 'password', 'error': …}
_PAIR = re.compile(rf"[(\[,][ ]*+[bu]?+{QUOTE}(?P<name>[\w.-]{{2,80}}+){QUOTE}[ ]*+,(?:\n[ ]++|[ ]*+)")
# {'value': …, 'name': 'DB_PASSWORD'}
_NAMED_BEHIND = re.compile(
    rf"value{QUOTE}[ ]*+:[ ]*+{QUOTE}(?P<hidden>[^\"'\\\n]{{1,500}}+){QUOTE}[ ]*+,[ ]*+"
    rf"{QUOTE}(?:name|key){QUOTE}[ ]*+:[ ]*+{QUOTE}(?P<name>[\w.-]{{2,80}}+)"
)
# --password …, also in a list of arguments
_OPTION = re.compile(rf"""-(?<![\w-]-)-?(?P<name>[\w-]{{2,80}}+)["']?,?[ ]++(?!-)(?P<hidden>{WORD})""")


def lowered(text: str) -> str:
    """The text in lower case, each character at its position, and without what UTF-8 cannot encode."""
    if text.isascii():
        return text.lower()
    # The only character whose lower case is two characters.
    return text.replace("\u0130", "i").encode("utf-8", "replace").decode("utf-8").lower()


def _variants(part: str) -> Iterator[str]:
    first, *others = re.split(r"(?<=[^\W_])[_-](?=[^\W_])", part)
    for marks in product(("_", "-", ""), repeat=min(len(others), 3)):
        yield first + "".join(mark + other for mark, other in zip(marks, others, strict=False))


def _one_of(inner: Iterable[str], whole: Iterable[str]) -> str:
    """An expression for the parts of key names, grouped by first letter, so that most positions fail at once."""
    by_first: dict[str, list[str]] = {}
    for part in inner:
        by_first.setdefault(part[0], []).append(re.escape(part[1:]) + OTHER_WORDS.get(part, ""))
    for part in whole:
        by_first.setdefault(part[0], []).append(re.escape(part[1:]) + "(?![a-z])")
    alternatives = [f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items()]
    return f"(?:{'|'.join(alternatives) or '(?!)'})"


def _always(_match: re.Match[str]) -> bool:
    return True


def _is_option_of(lower: str, shape: Shape, match: re.Match[str]) -> bool:
    return is_given_to(lower, shape, match.start())


def _found(
    expression: re.Pattern[str], lower: str, effort: Effort, accept: Callable[[re.Match[str]], bool] = _always
) -> Iterator[Span]:
    effort.left -= len(lower)
    end = 0
    for count, match in enumerate(expression.finditer(lower)):
        if count == MAX_SECRETS:
            yield end, len(lower)
            return
        effort.left -= CANDIDATE_COST
        start, end = match.span("hidden")
        if accept(match):
            yield start, end


def _private_keys(lower: str) -> Iterator[Span]:
    """The text between the markers of keys; one marker is missing if the text was cut."""
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
