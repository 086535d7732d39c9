"""One event as one line of JSON, described by `schema/line.schema.json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ha_monitor.clock import Clock
from ha_monitor.events.catalogue import FIELDS
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import Event
from ha_monitor.events.types import RUNTIME_TYPES, EmissionPolicy, level_name
from ha_monitor.outputs.output import Line, Output
from ha_monitor.store.record import Facts, elapsed, queue_time_of, root_of
from ha_monitor.text.visible import visible_json

if TYPE_CHECKING:
    from ha_monitor.store.outbox import OutboxItem

MAX_LINE = 48 * 1024
"""Bytes. journald splits longer lines."""
_SHORTENED = ("data", "args", "kwargs", "result", "traceback", "exception")
_KEPT = (4096, 1024, 256)
"""Characters. The first limit is enough unless characters take several bytes each."""


class Identity(NamedTuple):
    """The writing process: the constant part of every line."""

    node_id: str
    instance: str
    host: str
    pid: int


class EventLine(Struct, omit_defaults=True, gc=False):
    """The fields of the line of one of Celery's events, in the order in which they are written.

    UNSET leaves a field out; None is written as null.
    """

    timestamp: str
    level: str
    event: str
    node_id: str
    instance: str
    host: str
    pid: int
    event_id: str
    event_time: str | None
    worker: str
    task_id: str | UnsetType = UNSET
    task_name: str | UnsetType | None = UNSET
    queue: str | UnsetType = UNSET
    retries: int | UnsetType = UNSET
    runtime: float | UnsetType = UNSET
    queue_time: float | UnsetType = UNSET
    root_id: str | UnsetType = UNSET
    parent_id: str | UnsetType = UNSET
    exception: str | UnsetType = UNSET
    traceback: str | UnsetType = UNSET
    error_group: str | UnsetType = UNSET
    args: str | UnsetType = UNSET
    kwargs: str | UnsetType = UNSET
    result: str | UnsetType = UNSET
    requeue: bool | UnsetType = UNSET
    terminated: Any = UNSET
    signum: Any = UNSET
    expired: Any = UNSET
    worker_pid: Any = UNSET
    freq: Any = UNSET
    active: Any = UNSET
    processed: Any = UNSET
    loadavg: Any = UNSET
    sw_ident: Any = UNSET
    sw_ver: Any = UNSET
    sw_sys: Any = UNSET
    reason: str | UnsetType = UNSET
    silent: float | UnsetType = UNSET
    skew: float | UnsetType = UNSET
    phase: str | UnsetType = UNSET
    since: str | UnsetType = UNSET
    seconds: float | UnsetType = UNSET
    confirmed_by: list[str] | UnsetType = UNSET
    answered: int | UnsetType = UNSET
    source: str | UnsetType = UNSET
    lost: int | UnsetType = UNSET
    count: int | UnsetType = UNSET
    workers: list[str] | UnsetType = UNSET
    incident: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    severity: str | UnsetType = UNSET
    size: int | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    data: Any = UNSET
    incomplete: bool | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    shortened: list[str] | UnsetType = UNSET


_FIELDS = {field.name: field.in_line or field.name for field in FIELDS if field.name != "since"}
"""The event's own fields, and their names in the line, in which `pid` is the monitor's."""

_to_json = msgspec.json.Encoder().encode


def _encode(value: Any) -> bytes:
    # Also safe to display: many people use `tail -f` or `journalctl -o cat`.
    return visible_json(_to_json(value))


class Observer(Protocol):
    """Is notified of announcements."""

    def note(self, items: Sequence[OutboxItem]) -> None:
        """:param items: items whose lines are written, if they have any."""


class EventLines:
    """Writes the lines of announced items."""

    def __init__(
        self,
        output: Output,
        identity: Identity,
        policy: EmissionPolicy,
        clock: Clock,
        *,
        render: Callable[[dict[str, Any]], bytes] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """
        :param render: writes lines for people instead of JSON.
        :param observer: is notified of the items whose lines are written.
        """
        self._output = output
        self._identity = identity
        self._policy = policy
        self._clock = clock
        self._render = render
        self._observer = observer

    def write(self, items: Sequence[OutboxItem]) -> int:
        """Write the lines of the items, and return their number; an item may have none. Returns and raises as
        `Output.write`."""
        timestamp = iso_time(self._clock.time())
        lines: list[Line] = []
        for item in items:
            if item.entry.kind == 0 and self._policy.writes(item.entry.event.type):
                line = build_line(item, self._identity, timestamp)
                text = encode_line(line) if self._render is None else self._render(fields_of(line))
                lines.append(_indexed(text, line))
        self._output.write(lines)
        if self._observer is not None:
            self._observer.note(items)
        return len(lines)


def fields_of(line: EventLine) -> dict[str, Any]:
    """The fields of the line, in the order of the JSON."""
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value is not UNSET}


def _indexed(text: bytes, line: EventLine) -> Line:
    """A line with the fields by which it can be searched."""
    return Line(
        text,
        line.level,
        line.event,
        line.task_id or None,
        line.task_name or None,
        line.queue or None,
        line.worker or None,
        line.root_id or None,
        line.error_group or None,
    )


def build_line(item: OutboxItem, identity: Identity, timestamp: str) -> EventLine:
    """The line of an outbox item.

    :param timestamp: now, as `iso_time` returns it.
    """
    entry = item.entry
    event = entry.event
    line = EventLine(
        timestamp,
        level_name(event.type),
        event.type,
        identity.node_id,
        identity.instance,
        identity.host,
        identity.pid,
        event.id,
        iso_time(event.time) if event.time is not None else None,
        event.worker,
    )
    for name, value in event.fields.items():
        if (attribute := _FIELDS.get(name)) is not None:
            setattr(line, attribute, value)
    if "since" in event.fields:
        line.since = iso_time(event.fields["since"])
    if event.task_id is not None:
        _add_task(line, event, entry.facts or Facts())
        if entry.incomplete:
            line.incomplete = True
    if item.recovered:
        line.recovered = True
    return line


def _add_task(line: EventLine, event: Event, facts: Facts) -> None:
    task_id = event.task_id or ""
    line.task_id = task_id
    line.task_name = facts.name
    line.retries = facts.retries
    if event.fingerprint is not None:
        line.error_group = group_id(facts.name, event.fingerprint)
    if facts.queue is not None:
        line.queue = facts.queue
    # Only an end has the duration of the run.
    if line.event in RUNTIME_TYPES and line.runtime is UNSET and event.time is not None:
        runtime = elapsed(facts, int(event.time * 1e6))
        line.runtime = UNSET if runtime is None else runtime
    if (queue_time := queue_time_of(facts)) is not None:
        line.queue_time = queue_time
    if (root := root_of(facts, task_id)) is not None:
        line.root_id = root
    if facts.parent_id is not None:
        line.parent_id = facts.parent_id
    if facts.arguments is not None:
        line.args = facts.arguments
    if facts.keyword_arguments is not None:
        line.kwargs = facts.keyword_arguments


def encode_line(line: EventLine) -> bytes:
    """The line as JSON without a newline, at most `MAX_LINE` bytes: long fields are truncated, not the JSON."""
    encoded = _encode(line)
    if len(encoded) <= MAX_LINE:
        return encoded
    shortened: list[str] = []
    line.shortened = shortened
    for kept in _KEPT:
        for name in _SHORTENED:
            if _shorten(line, name, kept):
                if name not in shortened:
                    shortened.append(name)
                encoded = _encode(line)
                if len(encoded) <= MAX_LINE:
                    return encoded
    return encoded


def _shorten(line: EventLine, name: str, kept: int) -> bool:
    """Truncate a field to so many characters; returns whether it was longer."""
    value = getattr(line, name)
    if value is UNSET:
        return False
    text = value if isinstance(value, str) else _to_json(value).decode("utf-8")
    if len(text) <= kept + 1:
        return False
    # The end of a traceback says what happened.
    setattr(line, name, "…" + text[-kept:] if name == "traceback" else text[:kept] + "…")
    return True


def iso_time(seconds: float) -> str:
    """A time in ISO 8601, UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
