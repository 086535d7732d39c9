"""Counts what was published against what was announced."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from jsonschema_rs import Validator, validator_for

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.facts import usable_time
from ha_monitor.events.identity import event_id
from ha_monitor.events.policy import EmissionPolicy
from tests.support.recording import Recorded

Line = dict[str, Any]
Key = tuple[Any, ...]


class Published:
    """The events of some messages that must be announced, by the identity that their raw bodies give them."""

    def __init__(self, messages: Iterable[Recorded] = (), level: LogLevel = LogLevel.INFO) -> None:
        """:param level: the least level that the instances write."""
        self.events: dict[str, dict[str, Any]] = {}
        self._policy = EmissionPolicy(level, ())
        for message in messages:
            self.add(message)

    def add(self, message: Recorded) -> None:
        for event in message.events:
            self.add_event(event)

    def add_event(self, event: dict[str, Any]) -> None:
        if self._policy.emits(event["type"]):
            self.events[event_id(event, usable_time(event.get("timestamp"))).hex()] = event

    def update(self, other: Published) -> None:
        self.events.update(other.events)

    def missing(self, lines: Iterable[Line]) -> int:
        """How many have no line."""
        return len(self.events.keys() - {line["event_id"] for line in lines if is_event(line)})

    def __len__(self) -> int:
        return len(self.events)


class Account(NamedTuple):
    """What became of published events."""

    published: int
    announced: int
    """How many of them have a line."""
    lost: int
    doubled: int
    """How many of them have more than one line."""
    renamed: int
    """Lines about an event that has another line with another event_id, or that was never published."""
    nameless: int
    """Lines about a task without its name."""
    torn: int
    """Starts of an instance whose last line is not complete."""
    bad: list[str]
    """Lines that are no JSON, or not as the schema says."""
    examples: dict[str, list[str]]
    """A few events of each kind of trouble."""


FOUND = ("task-stuck", "task-orphaned", "worker-lost", "worker-recovered", "workers-lost", "workers-recovered")
"""What the monitor says by itself of a recording, whose workers are gone: in a long test they are missed."""


def is_event(line: Line) -> bool:
    """Whether a line announces one of Celery's events; the others are the monitor's own."""
    return "event_time" in line and line["event"] not in FOUND


@cache
def _validator() -> Validator:
    schema = resources.files("ha_monitor") / "schema" / "line.schema.json"
    return validator_for(json.loads(schema.read_text(encoding="utf-8")))


def violations(lines: Iterable[Line]) -> Iterator[str]:
    """What is wrong with the lines by the schema that the package ships."""
    for line in lines:
        for error in _validator().iter_errors(line):
            yield f"{line.get('event')}: {error.instance_path}: {error.message[:300]}"


def balance(published: Published, lines: list[Line], *, torn: int = 0, bad: list[str] | None = None) -> Account:
    """Count lines against events."""
    announced = [line for line in lines if is_event(line)]
    copies = Counter(line["event_id"] for line in announced)
    lost = published.events.keys() - copies.keys()
    doubled = [one for one, count in copies.items() if count > 1 and one in published.events]
    renamed = [one for one in copies if one not in published.events]
    nameless = [line["event_id"] for line in announced if "task_id" in line and line["task_name"] is None]
    troubles = {"lost": lost, "doubled": doubled, "renamed": renamed, "nameless": nameless}
    return Account(
        published=len(published),
        announced=len(published.events.keys() & copies.keys()),
        lost=len(lost),
        doubled=len(doubled),
        renamed=sum(copies[one] for one in renamed),
        nameless=len(nameless),
        torn=torn,
        bad=[*(bad or []), *violations(lines)],
        examples={
            kind: [f"{one} {published.events.get(one, {}).get('type')}" for one in list(ids)[:5]]
            for kind, ids in troubles.items()
            if ids
        },
    )


def assert_guarantee(account: Account, *, may_double: bool = False) -> None:
    """Every event at least once; more than once only if an instance died or froze, and then with the same id.

    :param may_double: an instance died or froze.
    """
    assert account.published > 0, "nothing was published: the test would prove nothing"
    assert account.lost == 0, account
    assert account.renamed == 0, account
    assert account.nameless == 0, account
    assert account.bad == [], account
    if not may_double:
        assert account.doubled == 0, account
        assert account.torn == 0, account
