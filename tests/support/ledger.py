"""Counts what was published against what was announced.

An event is known here by what its raw body says: about which task, of which type, of which attempt. Not by the
monitor's own event id: if two events fell on one id, the monitor would announce one of them, and a count by ids would
miss none.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from jsonschema_rs import Validator, validator_for

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.catalogue import OWN_EVENTS
from ha_monitor.events.facts import event_id, usable_time
from ha_monitor.events.types import EmissionPolicy, custom_type
from ha_monitor.outputs.line import iso_time
from tests.support.recording import Recorded

Line = dict[str, Any]


class Key(NamedTuple):
    """Which event it is."""

    task_id: str | None
    type: str
    time: str | None
    """Tells the attempts of a task apart: an attempt has its events at times of its own."""
    worker: str


def key_of_event(event: dict[str, Any]) -> Key:
    """By its raw body."""
    time = usable_time(event.get("timestamp"))
    stamp = None if time is None else iso_time(time)
    return Key(event.get("uuid"), custom_type(event["type"]), stamp, event.get("hostname") or "")


def key_of_line(line: Line) -> Key:
    return Key(line.get("task_id"), line["event"], line["event_time"], line["worker"])


class Published:
    """The events of some messages that must be announced. One that comes twice with the same body is one event."""

    def __init__(self, messages: Iterable[Recorded] = (), level: LogLevel = LogLevel.INFO) -> None:
        """:param level: the minimum log level of the instances."""
        self.events: dict[str, dict[str, Any]] = {}
        """By their event ids, for what else names an event so, such as the call of a handler."""
        self._keys: dict[str, Key] = {}
        """By their raw bodies."""
        self.counts: Counter[Key] = Counter()
        """How many different events there are of each key."""
        self._policy = EmissionPolicy(level, ())
        for message in messages:
            self.add(message)

    def add(self, message: Recorded) -> None:
        for event in message.events:
            self.add_event(event)

    def add_event(self, event: dict[str, Any]) -> None:
        if self._policy.emits(event["type"]):
            self.events[event_id(event, usable_time(event.get("timestamp"))).hex()] = event
            self._add(json.dumps(event, sort_keys=True), key_of_event(event))

    def update(self, other: Published) -> None:
        """Add those of another one, to which a thread may just be adding."""
        self.events.update(other.events.copy())
        for body, key in other._keys.copy().items():
            self._add(body, key)

    def _add(self, body: str, key: Key) -> None:
        if body not in self._keys:
            self._keys[body] = key
            self.counts[key] += 1

    def without(self, earlier: Published) -> Published:
        """Those that an earlier state does not have. They are told apart by their bodies: two of one id are two."""
        left = Published()
        left._policy = self._policy
        for body in self._keys.keys() - earlier._keys.keys():
            left.add_event(json.loads(body))
        return left

    def knows(self, line: Line) -> bool:
        """Whether a line is about one of them, by what it says or by its event id."""
        return key_of_line(line) in self.counts or line["event_id"] in self.events

    def missing(self, lines: Iterable[Line]) -> int:
        """How many have no line."""
        return _missing(self.counts, _copies(lines)).total()

    def are_in(self, lines: Collection[Line]) -> bool:
        """Whether each has a line, which is asked again and again while the lines come.

        Each has one of its own: as long as there are fewer, nobody need look at them.
        """
        return len(lines) >= len(self) and self.missing(lines) == 0

    def __len__(self) -> int:
        return len(self._keys)


Copies = dict[Key, Counter[str]]
"""How often each event id has a line, for each key."""


def _copies(lines: Iterable[Line]) -> Copies:
    copies: Copies = defaultdict(Counter)
    for line in lines:
        if is_event(line):
            copies[key_of_line(line)][line["event_id"]] += 1
    return copies


def _missing(counts: Counter[Key], copies: Copies) -> Counter[Key]:
    return counts - Counter({key: len(ids) for key, ids in copies.items()})


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
    shared: int
    """Event ids that several events have."""
    nameless: int
    """Lines about a task without its name."""
    torn: int
    """Starts of an instance whose last line is not complete."""
    bad: list[str]
    """Lines that are no JSON, or not as the schema says."""
    said: Counter[str]
    """How often the monitor warned of what."""
    away: float
    """The longest time, in seconds, for which an instance says that it had no broker, or no store."""
    examples: dict[str, list[str]]
    """A few events of each kind of trouble, with who wrote their lines, and which of them are marked."""

    def __repr__(self) -> str:
        """What is not as it should be first, and how it came about: of a failed test, the beginning is read."""
        counts = {name: value for name, value in self._asdict().items() if isinstance(value, int) and value}
        return f"{counts}, said {dict(self.said)}, away {self.away}, bad {self.bad[:3]}, examples {self.examples}"

    @property
    def froze(self) -> bool:
        """Whether an instance was away for longer than its lease, by what it or another says."""
        return bool(self.said["lease-lost"] or self.said["outbox-taken-over"])

    @property
    def alarms(self) -> int:
        """Lines that judge workers or tasks: false ones, unless the fault is theirs."""
        return sum(self.said[event] for event in JUDGEMENTS)


LOSSES = ("events-lost", "task-events-missing")
JUDGEMENTS = (*LOSSES, "worker-lost", "workers-lost", "task-stuck", "task-orphaned")
OWN = {own.name for own in OWN_EVENTS}
FOUND = {own.name for own in OWN_EVENTS if own.fields is not None} - set(LOSSES)
"""What the monitor says by itself of a recording, which is played faster than it was made, and whose workers are gone.
That it lost events, it must not say.
"""


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
    counts, copies = published.counts, _copies(lines)
    lost = _missing(counts, copies)
    doubled = [key for key, ids in copies.items() for count in ids.values() if count > 1 and key in counts]
    # The ids that came first are those of the events.
    renamed = Counter({key: sum(list(ids.values())[counts[key] :]) for key, ids in copies.items()})
    ids_of = Counter(one for ids in copies.values() for one in ids)
    shared = [key for key, ids in copies.items() if any(ids_of[one] > 1 for one in ids)]
    nameless = [key_of_line(line) for line in announced if "task_id" in line and line["task_name"] is None]
    troubles = {"lost": lost, "doubled": doubled, "renamed": +renamed, "shared": shared, "nameless": nameless}
    return Account(
        published=len(published),
        announced=len(published) - lost.total(),
        lost=lost.total(),
        doubled=len(doubled),
        renamed=renamed.total(),
        shared=sum(count > 1 for count in ids_of.values()),
        nameless=len(nameless),
        torn=torn,
        bad=[*(bad or []), *violations(lines)],
        said=Counter(line["event"] for line in lines if line["level"] != "info" and line["event"] in OWN),
        away=max((line.get("away_for", 0.0) for line in lines), default=0.0),
        examples={kind: _examples(list(keys)[:3], announced) for kind, keys in troubles.items() if keys},
    )


def _examples(keys: Collection[Key], announced: Iterable[Line]) -> list[str]:
    """Events, each with who wrote a line of it, in that order."""
    writers: dict[Key, list[str]] = {key: [] for key in keys}
    for line in announced:
        if (by := writers.get(key_of_line(line))) is not None:
            mark = " (recovered)" if line.get("recovered") else ""
            by.append(f"{line['instance']}[{line['pid']}] at {line['timestamp']}{mark}")
    return [f"{' '.join(map(str, key))} by {', '.join(by) or 'nobody'}" for key, by in writers.items()]


def balance_after(earlier: Published, published: Published, lines: Iterable[Line]) -> Account:
    """Count lines against events, where other events were counted before.

    A line with the id of an earlier event is about that one, however late it is. If it says that it is about another
    one, two events fell on one id, and the other one has no line.
    """
    return balance(published, [line for line in lines if is_event(line) and line["event_id"] not in earlier.events])


def assert_guarantee(account: Account, *, may_double: bool = False) -> None:
    """Every event at least once; more than once only if an instance died or froze, and then with the same id.

    A machine that is busy enough freezes instances, too, as they say themselves.

    :param may_double: the test killed an instance, or froze it.
    """
    assert account.published > 0, "nothing was published: the test would prove nothing"
    assert account.lost == 0, account
    assert account.renamed == 0, account
    assert account.shared == 0, account
    assert account.nameless == 0, account
    assert account.bad == [], account
    if not may_double:
        assert account.doubled == 0 or account.froze, account
        assert account.torn == 0, account
