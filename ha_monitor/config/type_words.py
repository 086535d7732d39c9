"""The types of values in the words of people: what the library that reads them says has the names of Python."""

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
    """What is wrong with a value: `Expected `float`, got `str`` as `expected a number, got a text`.

    :param text: as msgspec has it, without the place.
    """
    # A pattern that a text must match is not in the words of a type.
    said, matching, pattern = text.partition(" matching regex ")
    said = _NAMED.sub(lambda found: " or ".join(_WORDS[one] for one in re.findall(r"\w+", found[0])), said)
    return said.replace("`", "").replace("Expected", "expected") + matching + pattern
