"""The language of filters: conditions such as `FIELD=VALUE`, all of which must hold.

`=` and `!=` take several values, separated by commas, in which `*` stands for any text. `~` and `!~` search for a
literal part of a text. `>`, `>=`, `<` and `<=` compare numbers and durations. A backslash before a comma, a `*` or a
backslash makes that character literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ha_monitor.errors import UsageError
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import FIELDS, OPEN, Field, Kind, Value
from ha_monitor.store.queries import KeptTask
from ha_monitor.text.suggestions import did_you_mean
from ha_monitor.text.times import parse_duration, parse_time
from ha_monitor.text.visible import visible

_WORD = re.compile(r"([^=<>!~]*)(!=|!~|>=|<=|=|>|<|~)(.*)", re.DOTALL)
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
}
_OPERATORS = {
    Kind.STATE: ("=", "!="),
    Kind.TEXT: ("=", "!=", "~", "!~"),
    Kind.NUMBER: ("=", "!=", *_COMPARED),
    Kind.DURATION: ("=", "!=", *_COMPARED),
    Kind.FLAG: ("=", "!="),
    Kind.TIME: ("=",),
}
_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_MAX_SHOWN = 80


class Pattern(NamedTuple):
    """A text pattern: the parts in order, with any text between them."""

    parts: tuple[str, ...]

    @property
    def exact(self) -> str | None:
        """The only text that matches; None if several do."""
        return self.parts[0] if len(self.parts) == 1 else None

    def matches(self, text: str) -> bool:
        """Whether the whole text matches. Takes linear time in the text for each part."""
        first, *others = self.parts
        if not others:
            return text == first
        *middle, last = others
        if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True


class Condition(NamedTuple):
    """One word of a filter."""

    field: Field
    operator: str
    patterns: tuple[Pattern, ...] = ()
    """For a text field with `=` or `!=`."""
    texts: tuple[str, ...] = ()
    """For a text field with `~` or `!~`."""
    values: tuple[Value, ...] = ()
    """For any other field; a time is in seconds since the epoch."""

    def holds(self, task: KeptTask, now: float) -> bool:
        """Whether the condition holds for a task, at a time in seconds since the epoch."""
        found = self.field.values(task, now)
        negative = self.operator.startswith("!")
        return any(map(self._is, found)) is not negative

    def _is(self, value: Value) -> bool:
        if self.field.kind is Kind.TEXT:
            text = str(value or "")
            return any(one.matches(text) for one in self.patterns) or any(part in text for part in self.texts)
        if self.field.kind is Kind.TIME:
            at = float(value or 0.0)
            limit = float(self.values[0] or 0.0)
            return at >= limit if self.field.name == "since" else at <= limit
        compare = _COMPARED.get(self.operator)
        if compare is None:
            return value in self.values
        return value is not None and compare(float(value), float(self.values[0] or 0.0))


class Filter(NamedTuple):
    """Conditions that must all hold."""

    conditions: tuple[Condition, ...] = ()

    def holds(self, task: KeptTask, now: float) -> bool:
        """Whether the filter matches a task, at a time in seconds since the epoch."""
        return all(condition.holds(task, now) for condition in self.conditions)

    def names(self, *names: str) -> bool:
        """Whether a condition is about one of these fields."""
        return any(condition.field.name in names for condition in self.conditions)

    def without(self, *names: str) -> Filter:
        """The filter without the conditions about these fields."""
        return Filter(tuple(one for one in self.conditions if one.field.name not in names))

    def exact(self, name: str) -> frozenset[str] | None:
        """The only values that a text field may have; None if they are not known."""
        sets = [
            frozenset(pattern.parts[0] for pattern in one.patterns)
            for one in self._of(name, "=")
            if all(pattern.exact is not None for pattern in one.patterns)
        ]
        return frozenset.intersection(*sets) if sets else None

    def may_have(self, name: str, text: str) -> bool:
        """Whether a task with this text in a field could match."""
        return all(
            one._is(text) is not one.operator.startswith("!") for one in self.conditions if one.field.name == name
        )

    @property
    def states(self) -> frozenset[State]:
        """The states that matching tasks may have."""
        return frozenset(state for state in State if self.may_have("state", state))

    @property
    def since(self) -> float | None:
        """Seconds since the epoch; None if there is no such limit."""
        return max((float(one.values[0] or 0.0) for one in self._of("since", "=")), default=None)

    @property
    def until(self) -> float | None:
        """Seconds since the epoch; None if there is no such limit."""
        return min((float(one.values[0] or 0.0) for one in self._of("until", "=")), default=None)

    @property
    def longer_than(self) -> float | None:
        """Seconds that a run must have taken, or been running; None if there is no such limit."""
        return max((float(one.values[0] or 0.0) for one in self._of("runtime", ">")), default=None)

    @property
    def texts(self) -> frozenset[str]:
        """Texts of which a matching record must contain one; empty if there is no such constraint."""
        sets = [found for name in ("worker", "queue") if (found := self.exact(name)) is not None and "" not in found]
        return min(sets, key=len, default=frozenset())

    def _of(self, name: str, operator: str) -> Iterable[Condition]:
        return (one for one in self.conditions if one.field.name == name and one.operator == operator)


def parse_filter(words: Sequence[str], now: float) -> Filter:
    """The filter that somebody typed.

    :param now: seconds since the epoch; relative times are relative to it.
    :raises UsageError: if a word is not a condition; it says which word, and what was expected.
    """
    asked = Filter(tuple(_condition(word, now) for word in words))
    if asked.since is not None and asked.until is not None and asked.since > asked.until:
        raise UsageError("since is later than until: nothing can be between them")
    return asked


def sortable() -> list[str]:
    """The names of the fields that tasks can be sorted by."""
    return [name for name, field in FIELDS.items() if field.kind is not Kind.TIME]


def field_named(name: str, known: Iterable[str] = FIELDS) -> Field:
    """The field with that name.

    :param known: names of the fields that make sense here.
    :raises UsageError: that lists the fields, and suggests the nearest.
    """
    if (field := FIELDS.get(name)) is not None:
        return field
    known = list(known)
    meant = f"unknown field{did_you_mean(name, known, 0.4) or '.'}"
    raise UsageError(f"{_shown(name) or 'no name'}: {meant} The fields are {', '.join(known)}")


def _condition(word: str, now: float) -> Condition:
    found = _WORD.fullmatch(word)
    if found is None:
        if word in FIELDS:
            raise UsageError(
                f"{word}: expected {_example(FIELDS[word])}; in a shell, > and < must be quoted, as in 'runtime>5s'"
            )
        raise UsageError(f"{_shown(word)}: expected FIELD=VALUE, such as state=FAILURE, name='shop.*' or 'runtime>5s'")
    name, operator, text = found.groups()
    field = field_named(name.strip())
    if operator not in _OPERATORS[field.kind]:
        able = " ".join(_OPERATORS[field.kind])
        raise UsageError(f"{_shown(word)}: {field.name} is {field.kind}; it takes {able}")
    if operator in ("~", "!~"):
        return Condition(field, operator, texts=(text,))
    parts = split_values(text)
    if field.kind is Kind.TEXT:
        return Condition(field, operator, patterns=tuple(Pattern(part) for part in parts))
    try:
        values = [value for part in parts for value in _values(field, "*".join(part), now)]
        if len(parts) > 1 and (operator in _COMPARED or field.kind is Kind.TIME):
            raise ValueError("expected one value")
    except ValueError as error:
        raise UsageError(f"{_shown(word)}: {error}") from None
    return Condition(field, operator, values=tuple(values))


def split_values(text: str) -> list[tuple[str, ...]]:
    """The values between the commas, each split at the `*`. A backslash before `,`, `*` or a backslash makes that
    character literal.
    """
    values: list[list[str]] = [[""]]
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\" and text[at + 1 : at + 2] in (",", "*", "\\"):
            at += 1
            values[-1][-1] += text[at]
        elif character == ",":
            values.append([""])
        elif character == "*":
            values[-1].append("")
        else:
            values[-1][-1] += character
        at += 1
    return [tuple(parts) for parts in values]


def _values(field: Field, text: str, now: float) -> Iterable[Value]:
    """:raises ValueError: if the text is not a value of the field; the error says what was expected."""
    if field.kind is Kind.STATE:
        if text.lower() == "open":
            return sorted(OPEN)
        try:
            return (State(text.upper()),)
        except ValueError:
            meant = did_you_mean(text.upper(), [*State, "OPEN"]).replace("OPEN", "open")
            raise ValueError(f"unknown state{meant or '.'} Expected {', '.join(State)} or open") from None
    if field.kind is Kind.FLAG:
        if text.lower() not in _FLAGS:
            raise ValueError("expected yes or no")
        return (_FLAGS[text.lower()],)
    if field.kind is Kind.DURATION:
        return (parse_duration(text),)
    if field.kind is Kind.TIME:
        return (parse_time(text, now),)
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError("expected a whole number")
    return (int(text),)


def _example(field: Field) -> str:
    examples = {
        Kind.STATE: "=FAILURE",
        Kind.TEXT: "=TEXT",
        Kind.NUMBER: ">1",
        Kind.DURATION: ">5s",
        Kind.FLAG: "=yes",
        Kind.TIME: "=-1h",
    }
    return field.name + examples[field.kind]


def _shown(text: str) -> str:
    return visible(text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…")
