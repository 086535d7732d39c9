"""From an event's raw body to the facts that the store merges.

Every field may be null, wrong or missing. Only what identifies an event is required (a type, and for Celery's
own types the task or the worker it is about); everything else that is unusable counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from ha_monitor.events.identity import event_id
from ha_monitor.events.model import Event
from ha_monitor.events.policy import EmissionPolicy
from ha_monitor.events.redact import Redactor
from ha_monitor.events.types import TASK_CODES, WORKER_TYPES, Code

Fact = list[Any]
"""A list as `store/lua/record.lua` documents it."""

MAX_TRACEBACK = 16_384
MAX_NAME = 255
_LATEST_TIME = 4_000_000_000.0
_ENVELOPE = frozenset({"type", "hostname", "pid", "clock", "utcoffset", "timestamp", "uuid"})
_MAX_NUMBERS = 16
_REVOKED_FIELDS = ("terminated", "signum", "expired")
_WORKER_FIELDS = ("pid", "freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys")


def as_lua_string(data: bytes) -> msgspec.Raw:
    """Bytes in the only MessagePack type for them that Redis can read: its cmsgpack has no `bin`, but takes a
    `str` that is not UTF-8.
    """
    size = len(data)
    if size < 32:
        return msgspec.Raw(bytes((0xA0 | size,)) + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


class BadEvent(ValueError):
    """An event that cannot be handled; the text says why."""


class FactBuilder:
    """Builds the facts of single events. Holds the settings, no state."""

    def __init__(self, policy: EmissionPolicy, redactor: Redactor, *, arguments: bool, results: bool) -> None:
        self._policy = policy
        self._redactor = redactor
        self._arguments = arguments
        self._results = results
        self._pack = msgspec.msgpack.Encoder().encode
        self._extras: dict[Code, Callable[[dict[str, Any]], list[Any]]] = {
            Code.SENT: self._sent_extras,
            Code.RECEIVED: self._definition_extras,
            Code.STARTED: lambda event: [process_id(event.get("pid"))],
            Code.FAILED: lambda event: [None, self._redactor.text(event.get("exception") or "", 200)],
            Code.SUCCEEDED: lambda event: [number(event.get("runtime"))],
        }

    def task_fact(self, event: dict[str, Any], event_type: str, source: str | None = None) -> Fact:
        """The fact of an event about a task: [id, code, time in µs, worker, payload or None, …extras].

        :param source: where the event comes from, if no worker sent it.
        """
        code = TASK_CODES.get(event_type, Code.OTHER)
        if code is Code.REJECTED and event.get("requeue") is not False:
            code = Code.REQUEUED
        timestamp = usable_time(event.get("timestamp"))
        identity = event_id(event, timestamp)
        worker = event.get("hostname")
        if type(worker) is not str:
            worker = ""
        payload = (
            self._payload(event, event_type, identity, worker, timestamp, source=source)
            if self._policy.emits(event_type)
            else None
        )
        fact = [as_lua_string(identity), code, int((timestamp or 0) * 1_000_000), worker, payload]
        extras = self._extras.get(code)
        return fact if extras is None else fact + extras(event)

    def worker_fact(self, event: dict[str, Any], event_type: str) -> Fact:
        """The fact of an event about a worker: [nodename, id, time in µs, type, payload or None, fields]."""
        timestamp = usable_time(event.get("timestamp"))
        identity = event_id(event, timestamp)
        worker = event["hostname"]
        payload = (
            self._payload(event, event_type, identity, worker, timestamp) if self._policy.emits(event_type) else None
        )
        fields = self._plain_fields(event, _WORKER_FIELDS)
        return [worker, as_lua_string(identity), int((timestamp or 0) * 1_000_000), event_type, payload, fields]

    def other_fact(self, event: dict[str, Any], event_type: str) -> Fact | None:
        """The fact of a custom event that is about no task: [id, payload]; None when nobody wants it."""
        if not self._policy.emits(event_type):
            return None
        timestamp = usable_time(event.get("timestamp"))
        identity = event_id(event, timestamp)
        worker = event.get("hostname")
        return [
            as_lua_string(identity),
            self._payload(event, event_type, identity, worker if type(worker) is str else "", timestamp),
        ]

    def _payload(
        self,
        event: dict[str, Any],
        event_type: str,
        identity: bytes,
        worker: str,
        timestamp: float | None,
        *,
        source: str | None = None,
    ) -> msgspec.Raw:
        fields = self._fields(event, event_type)
        if source is not None:
            fields["source"] = source
        packed = self._pack(Event(event_type, identity.hex(), worker, timestamp, event.get("uuid"), fields))
        return as_lua_string(packed)

    def _fields(self, event: dict[str, Any], event_type: str) -> dict[str, Any]:
        get, text = event.get, self._redactor.text
        fields: dict[str, Any] = {}
        if event_type == "task-succeeded":
            if (runtime := number(get("runtime"))) is not None:
                fields["runtime"] = round(runtime, 6)
            if self._results and get("result") is not None:
                fields["result"] = text(get("result"))
        elif event_type in ("task-failed", "task-retried"):
            fields["exception"] = text(get("exception") or "")
            if get("traceback"):
                # The end of a traceback says what happened.
                fields["traceback"] = self._redactor.tail(get("traceback"), MAX_TRACEBACK)
        elif event_type == "task-rejected":
            fields["requeue"] = event.get("requeue") is not False
        elif event_type == "task-revoked":
            fields = self._plain_fields(event, _REVOKED_FIELDS)
        elif event_type in WORKER_TYPES:
            fields = self._plain_fields(event, _WORKER_FIELDS)
        elif event_type not in TASK_CODES:
            data = {key: value for key, value in event.items() if key not in _ENVELOPE}
            if data:
                fields["data"] = self._redactor.value(data)
        return fields

    def _plain_fields(self, event: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """Those of the fields that are numbers, short texts, or lists of numbers, as Celery sends them."""
        fields: dict[str, Any] = {}
        for name in names:
            value = event.get(name)
            if isinstance(value, str):
                fields[name] = self._redactor.text(value, MAX_NAME)
            elif isinstance(value, list):
                fields[name] = [number for number in value[:_MAX_NUMBERS] if is_plain_number(number)]
            elif is_plain_number(value):
                fields[name] = value
        return fields

    def _definition_extras(self, event: dict[str, Any]) -> list[Any]:
        """[definition or None, retries]: what the task is, as task-sent and task-received say it."""
        name = event.get("name")
        retries = event.get("retries")
        retries = retries if type(retries) is int and 0 <= retries < 1 << 31 else 0
        if type(name) is not str or not name:
            return [None, retries]
        definition: dict[str, Any] = {"n": name if len(name) <= MAX_NAME else name[:MAX_NAME]}
        uuid = event["uuid"]
        root, parent, eta = event.get("root_id"), event.get("parent_id"), event.get("eta")
        if type(root) is str:
            # Most tasks are their own root; a flag is 36 bytes shorter.
            definition["r"] = True if root == uuid else root[:MAX_NAME]
        if type(parent) is str:
            definition["p"] = parent[:MAX_NAME]
        if eta is not None and (due := moment(eta)) is not None:
            definition["e"] = int(due * 1_000_000)
        if self._arguments:
            for key, field in (("a", "args"), ("k", "kwargs")):
                if event.get(field) is not None:
                    definition[key] = self._redactor.text(event[field])
        return [definition, retries]

    def _sent_extras(self, event: dict[str, Any]) -> list[Any]:
        queue = event.get("queue")
        return [*self._definition_extras(event), queue[:MAX_NAME] if type(queue) is str and queue else None]


def is_plain_number(value: Any) -> bool:
    """Whether a value is a number, or true or false, that MessagePack and JSON can both hold."""
    return isinstance(value, int | float) and -1e18 < value < 1e18


def usable_time(value: Any) -> float | None:
    """A timestamp in seconds since the epoch, or None if the value is none (also for NaN and far futures)."""
    if (type(value) is float or type(value) is int) and 0 < value < _LATEST_TIME:
        return float(value)
    return None


def number(value: Any) -> float | None:
    """A finite, non-negative number of seconds, or None."""
    if (type(value) is float or type(value) is int) and 0 <= value < 1e12:
        return float(value)
    return None


def process_id(value: Any) -> int | None:
    """A process id, or None."""
    return value if type(value) is int and 0 < value < 1 << 32 else None


def moment(value: Any) -> float | None:
    """An ISO 8601 time, as Celery writes `eta` (in UTC if it names no zone), in seconds since the epoch."""
    if type(value) is not str:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return usable_time((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
