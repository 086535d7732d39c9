"""Distinguishes keys of secrets from ordinary text that looks like them."""

from __future__ import annotations

import re

ENDS = {"pwd": "", "pass": "all band by com encom get high keep last low out over ssh sur tres under"}
"""Short parts that also match at the end of a word (`dbpass`), and the prefixes that make another word of them
(`compass`).
"""
TOKEN_DIGITS = 8
"""A count of tokens has fewer digits."""
# How harmless values end.
_NOTHING_ENDS_WITH = frozenset("0123456789) ")
_NAME = re.compile(r"[a-z_][\w.]*+")
_LETTERS = re.compile(r"[a-z]*\Z")
_RESULT = re.compile(r"[ \t]*+(?:\d{1,3}+|true|false|yes|no|none|null|ok)(?![\w.+/=@$!#*~^%&-])")
_ERROR_NAME = re.compile(
    r"(?:invalid|missing|expired|unexpected|unknown|wrong|bad|no)[a-z]++:|[a-z]*?(?:error|exception|warning|failed|failure|"
    r"expired|revoked|missing|required|needed|denied|refused|rejected|invalid|notfound|notallowed|doesnotexist|exists|"
    r"interrupted|closed|disabled|locked|timeout|exhausted|tooshort|toolong|mismatch)s?:"
)


def is_place_or_error(text: str, lower: str, key: int, value: int) -> bool:
    """Whether what looks like a key is a place such as `token.py:12`, the name of an exception before its message, or a
    token of a parser.
    """
    if lower[value - 1] == ":":
        return lower[value : value + 1].isdigit() and "." in lower[key:value]
    if lower[value - 2 : value] != ": " or lower[value - 3] in "\"'":
        return False
    if lower.startswith("unexpected token", max(0, key - 11)):
        return True
    start = value - 2
    while start > max(0, value - 80) and (lower[start - 1].isalnum() or lower[start - 1] in "._"):
        start -= 1
    path, _, name = text[start : value - 1].rpartition(".")
    # jwt.exceptions.InvalidToken: …
    return (path != "" and name[0].isupper()) or _ERROR_NAME.fullmatch(name.lower()) is not None


def is_ordinary(lower: str, start: int) -> bool:
    """Whether a short part with the letters before it is a word that does not name a secret, such as `compass`."""
    for part, heads in ENDS.items():
        if lower.startswith(part, start):
            head = _LETTERS.search(lower[max(0, start - 8) : start])
            return head is not None and head[0] in heads.split()
    return False


def is_result(text: str, lower: str, key: int, value: int) -> bool:
    """Whether a key that begins with `pass` reports passed tests: `pass: 3`, `PASS: test`."""
    if lower[key + 4 : key + 5].isalpha():
        return False
    stands_alone = key == 0 or not (lower[key - 1].isalnum() or lower[key - 1] in "_\"'")
    return (stands_alone and text.startswith("PASS:", key)) or _RESULT.match(lower, value) is not None


def says_nothing(lower: str, key: int, start: int, end: int) -> bool:
    """Whether the value of what looks like a key is harmless: a count of tokens, or a call without arguments:
    `max_tokens=512`, `session = Session()`.
    """
    if lower[end - 1] not in _NOTHING_ENDS_WITH:
        return False
    value = lower[start:end].strip()
    if value.isdigit():
        return len(value) < TOKEN_DIGITS and lower.startswith("tokens", key)
    return (
        lower.endswith("= ", 0, start)
        and value.endswith("()")
        and _NAME.fullmatch(value, 0, len(value) - 2) is not None
    )
