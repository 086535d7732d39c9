"""The types of values in words for people, because msgspec's errors use Python's names."""

from __future__ import annotations

import re

_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "object": "a table",
    "array": "a list",
    "datetime": "a date and time",
    "date": "a date",
    "time": "a time of the day",
}
_NAMED = re.compile(r"`?\b(" + "|".join(_WORDS) + r")\b( \| (?:" + "|".join(_WORDS) + r"))*`?")


def in_words(text: str) -> str:
    """What is wrong with a value: `Expected `float`, got `str`` becomes `expected a number, got a text`.

    :param text: an error of msgspec, without the path.
    """
    # A pattern that a text must match contains no type names to translate.
    said, matching, pattern = text.partition(" matching regex ")
    said = _NAMED.sub(lambda found: " or ".join(_WORDS[one] for one in re.findall(r"\w+", found[0])), said)
    return said.replace("`", "").replace("Expected", "expected") + matching + pattern
