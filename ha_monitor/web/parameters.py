"""The query of a request: known parameters, limited and validated before the store is asked."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode

from ha_monitor.errors import UsageError
from ha_monitor.incidents.address import NAME_PARAMETER
from ha_monitor.text.times import parse_duration
from ha_monitor.text.visible import visible

MAX_QUERY = 8000
"""Characters of the query, as sent."""
MAX_VALUE = 2000
"""Characters of a value, and of a name in a path."""
MAX_PARAMETERS = 32
_MAX_SHOWN = 80
_YES, _NO = ("1", "yes", "true"), ("", "0", "no", "false")


class Kind(StrEnum):
    """What kind of values a parameter has."""

    FILTER = "words of a filter, as on the command line"
    TEXT = "a text"
    TIME = "a time"
    DURATION = "a duration"
    COUNT = "a whole number"
    FLAG = "yes or no"
    CHOICE = "one of some words"


class Parameter(NamedTuple):
    """One parameter that a question takes."""

    name: str
    kind: Kind
    meaning: str
    default: str = ""
    choices: tuple[str, ...] = ()
    maximum: int = 0
    """The largest value of a count; the smallest is 1."""


class Parameters(NamedTuple):
    """A question as it was asked. All values are valid."""

    name: str = ""
    """The name or id after the noun in the path, decoded; empty if there is none."""
    given: Mapping[str, str] = {}
    """The parameters in the query, without empty ones."""
    known: Mapping[str, Parameter] = {}

    def text(self, name: str) -> str:
        """The value of a parameter, or its default."""
        return self.given.get(name) or self.known[name].default

    def count(self, name: str = "limit") -> int:
        """The value of a count."""
        return int(self.text(name))

    def flag(self, name: str) -> bool:
        """The value of a yes-or-no parameter."""
        return self.text(name).lower() in _YES

    def seconds(self, name: str) -> float:
        """The value of a duration, in seconds."""
        return parse_duration(self.text(name))

    @property
    def words(self) -> list[str]:
        """The words of the filter, including the times."""
        return [*words_of(self.given.get("filter", "")), *self.times]

    @property
    def times(self) -> list[str]:
        """The words of a filter that `since` and `until` stand for."""
        return [f"{name}={self.given[name]}" for name in ("since", "until") if name in self.given]

    def query(self, **changed: str | int | None) -> str:
        """The same question with other values, as a URL query with `?`; None removes a parameter."""
        asked = {**self.given, **{name: None if value is None else str(value) for name, value in changed.items()}}
        pairs = [(name, value) for name, value in sorted(asked.items()) if value]
        return f"?{urlencode(pairs, quote_via=quote)}" if pairs else ""


def named_in(path: str, query: str) -> tuple[str, str | None, str]:
    """What is asked for: the noun, the name after it, and the rest of the query. See `incidents/address.py`.

    :param path: decoded, below the pages' address, without a leading slash.
    :return: the name is None if the question is about all of the noun.
    """
    noun, _, name = path.partition("/")
    key, _, rest = query.partition("&")
    if not name and path.endswith("/") and key.startswith(f"{NAME_PARAMETER}="):
        return noun, unquote_plus(key.removeprefix(f"{NAME_PARAMETER}=")), rest
    return noun, name or None, query


def words_of(text: str) -> list[str]:
    """The words of a filter in one line of text, with quotes as in a shell.

    :raises UsageError: if a quotation is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{shown(text)}: {str(error).lower()}") from None


def text_of(*words: str) -> str:
    """Words of a filter as one line of text that `words_of` can read."""
    return shlex.join(words)


def parse(query: str, name: str, known: Sequence[Parameter]) -> Parameters:
    """Read a query.

    :param query: as it was sent, without the `?`.
    :param name: the name after the noun in the path.
    :param known: the parameters that the question takes.
    :raises UsageError: if it has others, or invalid values; it says which.
    """
    by_name = {one.name: one for one in known}
    if len(query) > MAX_QUERY:
        raise UsageError(f"the query is longer than {MAX_QUERY} characters")
    _check_length("the name", name)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise UsageError("the query is not UTF-8") from None
    except ValueError:
        raise UsageError(f"the query has more than {MAX_PARAMETERS} parameters") from None
    given: dict[str, str] = {}
    for key, value in pairs:
        parameter = by_name.get(key)
        if parameter is None:
            takes = f"it takes {', '.join(by_name)}" if by_name else "it takes none"
            raise UsageError(f"{shown(key)}: unknown parameter; {takes}")
        _check_length(key, value)
        if parameter.kind is Kind.FILTER and key in given:
            given[key] += f" {value}"  # several words may be several parameters
        elif key in given:
            raise UsageError(f"{key}: expected once")
        elif value.strip():
            given[key] = value
        _CHECKS.get(parameter.kind, _anything)(parameter, value)
    return Parameters(name, given, by_name)


def _check_length(what: str, text: str) -> None:
    """Any character is allowed: names come from events, and links lead to all of them. Output escapes them."""
    if len(text) > MAX_VALUE:
        raise UsageError(f"{what}: longer than {MAX_VALUE} characters")


def shown(text: str) -> str:
    """A part of what a client sent, for an error message."""
    return visible(text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…")


def _anything(_parameter: Parameter, _value: str) -> None:
    pass


def _check_words(_parameter: Parameter, value: str) -> None:
    words_of(value)


def _check_count(parameter: Parameter, value: str) -> None:
    good = not value or (
        value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= parameter.maximum
    )
    if not good:
        raise UsageError(f"{parameter.name} = {shown(value)}: expected a number from 1 to {parameter.maximum}")


def _check_flag(parameter: Parameter, value: str) -> None:
    if value.lower() not in (*_YES, *_NO):
        raise UsageError(f"{parameter.name} = {shown(value)}: expected yes or no")


def _check_choice(parameter: Parameter, value: str) -> None:
    if value and value not in parameter.choices:
        raise UsageError(f"{parameter.name} = {shown(value)}: expected one of {', '.join(parameter.choices)}")


def _check_duration(parameter: Parameter, value: str) -> None:
    try:
        if value:
            parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{parameter.name} = {shown(value)}: {error}") from None


_CHECKS: Mapping[Kind, Callable[[Parameter, str], None]] = {
    Kind.FILTER: _check_words,
    Kind.COUNT: _check_count,
    Kind.FLAG: _check_flag,
    Kind.CHOICE: _check_choice,
    Kind.DURATION: _check_duration,
}
