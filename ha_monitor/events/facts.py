"""Builds the facts that the store merges from an event's raw body.

Every field may be null, wrong or missing. Only what identifies an event is required (a type, and for Celery's
own types the task or worker it is about); any other unusable field counts as absent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from ha_monitor.events.catalogue import Code
from ha_monitor.events.exceptions import unwrapped
from ha_monitor.events.fingerprint import fingerprint_of
from ha_monitor.events.histogram import bucket_of
from ha_monitor.events.model import Event
from ha_monitor.events.redact import Redactor, first_values
from ha_monitor.events.task_id import MAX_ID, text_of_id
from ha_monitor.events.types import CELERY_FIELDS, TASK_CODES, EmissionPolicy, custom_type

Fact = list[Any]
"""A list as `store/lua/record.lua` documents it."""
_Readers = dict[str, Callable[[Any], Any]]
"""Name of an event's field → the function that reads its value; it returns None for an unusable value."""

MAX_TRACEBACK = 16_384
MAX_MESSAGE = 200
"""Maximum characters of an exception in records and error groups."""
MAX_NAME = 255
MAX_DATA = 48 * 1024
"""Maximum bytes of a custom event's own fields, as JSON: no line can hold more."""
MAX_DATA_VALUES = 10_000
"""Maximum values in a custom event's own fields."""
MAX_COUNT = 10**12
"""Limit of a number of tasks. No worker reaches a thousandth of it."""
MAX_SECONDS = 4e9
"""More than a century, so longer than any run or interval. Lua's numbers still hold it exactly in µs."""
LATEST_TIME = 4_000_000_000.0
"""In seconds since the epoch; a later time counts as invalid."""
_ENVELOPE = frozenset({"type", "hostname", "pid", "clock", "utcoffset", "timestamp", "uuid"})
_MAX_NUMBERS = 16
_KEPT_ERRORS = 128
"""Errors whose fingerprints are cached: when many tasks fail, most fail in the same way."""
_NO_DIGEST = blake2b(digest_size=8)
"""An empty hash: copying it is faster than creating a new one."""
_id_of = struct.Struct(">I8s").pack
# Looking up a member in the enum's class takes longer than everything else that is done with it.
_OTHER, _REJECTED, _FAILED, _RETRIED = Code.OTHER, Code.REJECTED, Code.FAILED, Code.RETRIED


class BadEvent(ValueError):
    """An event or message that cannot be handled; the text says why."""


def event_id(event: dict[str, Any], timestamp: float | None) -> bytes:
    """The id of an event, computed from its raw body.

    Celery gives events no id. Sender, process, logical clock, type, task and time together are unique: the
    sender increments the clock for each event (celery/events/dispatcher.py), and the other parts distinguish
    events whose clocks are equal after a restart, between threads, or because they are blind (their clock is
    null). The body must be raw: Celery's own receiver overwrites `clock` and shifts `timestamp`.

    :param timestamp: the event's time in seconds since the epoch; None if it has no usable one.
    """
    get = event.get
    digest = _NO_DIGEST.copy()
    text = f"{get('hostname')}\n{get('pid')}\n{get('clock')}\n{get('type')}\n{get('uuid')}\n{get('timestamp')}"
    digest.update(text.encode("utf-8", "surrogatepass"))
    return _id_of(int(timestamp or 0), digest.digest())


class FactBuilder:
    """Builds the facts of single events. Its only state is the effort left, and a cache of recent fingerprints."""

    def __init__(
        self,
        policy: EmissionPolicy,
        redactor: Redactor,
        *,
        arguments: bool,
        results: bool,
        binary: Callable[[bytes], msgspec.Raw],
    ) -> None:
        """:param binary: converts the ids and payloads in facts to the form in which the store takes bytes."""
        self._emits = policy.emits
        self._binary = binary
        self._redactor = redactor
        self.effort = redactor.effort
        """The effort left for finding secrets in the next events."""
        self._arguments = arguments
        self._error = lru_cache(_KEPT_ERRORS)(_error_of)
        self._pack = msgspec.msgpack.Encoder().encode
        self._json = msgspec.json.Encoder().encode
        text, short_text = redactor.text, self._short_text
        readers: _Readers = {
            "runtime": lambda value: None if (seconds := number(value)) is None else round(seconds, 6),
            "exception": lambda value: text(value or ""),
            # The end of a traceback is kept, since it says what happened.
            "traceback": lambda value: redactor.tail(value, MAX_TRACEBACK) if value else None,
            "result": lambda value: text(value) if results and value is not None else None,
            "requeue": lambda value: value is not False,
            "terminated": flag,
            "signum": lambda value: short_text(value) if isinstance(value, str) else count(value),
            "expired": flag,
            "pid": process_id,
            "freq": number,
            "active": count,
            "processed": count,
            "loadavg": numbers,
            "sw_ident": short_text,
            "sw_ver": short_text,
            "sw_sys": short_text,
        }
        self._readers: dict[str, _Readers] = {
            event_type: {name: readers[name] for name in names} for event_type, names in CELERY_FIELDS.items()
        }
        self._readers["task-retried"]["exception"] = lambda value: None if is_none(value) else text(value or "")
        # A failure, or a retry with an exception, has a last element after these: its [fingerprint, class, place].
        self._extras: dict[Code, Callable[[dict[str, Any]], list[Any]]] = {
            Code.SENT: self._sent_extras,
            Code.RECEIVED: self._definition_extras,
            Code.STARTED: lambda event: [process_id(event.get("pid"))],
            Code.FAILED: lambda event: [None, self._redactor.text(event.get("exception") or "", MAX_MESSAGE)],
            Code.RETRIED: lambda event: [None, self._redactor.text(event.get("exception") or "", MAX_MESSAGE)],
            Code.SUCCEEDED: lambda event: _runtime_extras(number(event.get("runtime"))),
        }

    def task_fact(
        self, event: dict[str, Any], event_type: str, source: str | None = None, *, is_other_id: bool = False
    ) -> Fact:
        """The fact for an event about a task: [id, code, time in µs, worker, payload or None, …extras].

        :param source: where the event comes from; None if a worker or a producer sent it.
        :param is_other_id: whether the workers know the task by another id than the text in the event.
        """
        code = TASK_CODES.get(event_type, _OTHER)
        if code is _OTHER:
            event_type = custom_type(event_type)
        elif code is _REJECTED and event.get("requeue") is not False:
            code = Code.REQUEUED
        elif code is _FAILED:
            event["exception"] = unwrapped(event.get("exception"), event.get("traceback"))
        timestamp = event.get("timestamp")
        # Most events have a usable float here; checking it inline is faster than a call for each event.
        timestamp = timestamp if type(timestamp) is float and 0 < timestamp < LATEST_TIME else usable_time(timestamp)
        identity = event_id(event, timestamp)
        worker = event.get("hostname")
        if type(worker) is not str:
            worker = ""
        elif len(worker) > MAX_NAME:
            worker = worker[:MAX_NAME]
        fields, error = None, None
        emits = self._emits(event_type)
        if code is _FAILED or code is _RETRIED:
            fields = self._fields(event, event_type)
            error = self._error_in(fields, of_retry=code is _RETRIED)
        elif emits:
            fields = self._fields(event, event_type)
        digest = error[0] if error is not None else None
        payload = None
        if emits and fields is not None:
            if source is not None:
                fields["source"] = source
            uuid = event.get("uuid")
            payload = self._packed(Event(event_type, identity.hex(), worker, timestamp, uuid, fields, digest))
        fact = [self._binary(identity), code, int((timestamp or 0) * 1_000_000), worker, payload]
        extras = self._extras.get(code)
        if extras is None:
            return fact
        fact += extras(event)
        if error is not None:
            fact.append(list(error))
        if is_other_id and type(fact[5]) is dict:
            fact[5]["o"] = True
        return fact

    def worker_fact(self, event: dict[str, Any], event_type: str) -> Fact:
        """The fact for an event about a worker: [nodename, id, time in µs, type, payload or None, fields]."""
        timestamp = usable_time(event.get("timestamp"))
        identity = event_id(event, timestamp)
        worker = event["hostname"]
        payload = self._payload(event, event_type, identity, worker, timestamp) if self._emits(event_type) else None
        fields = _read(event, self._readers[event_type])
        return [worker, self._binary(identity), int((timestamp or 0) * 1_000_000), event_type, payload, fields]

    def other_fact(self, event: dict[str, Any], event_type: str) -> Fact | None:
        """The fact for a custom event that is not about a task: [id, payload]; None if it is not emitted."""
        event_type = custom_type(event_type)
        if not self._emits(event_type):
            return None
        timestamp = usable_time(event.get("timestamp"))
        identity = event_id(event, timestamp)
        worker = event.get("hostname")
        return [
            self._binary(identity),
            self._payload(event, event_type, identity, worker[:MAX_NAME] if type(worker) is str else "", timestamp),
        ]

    def _payload(
        self, event: dict[str, Any], event_type: str, identity: bytes, worker: str, timestamp: float | None
    ) -> msgspec.Raw:
        fields = self._fields(event, event_type)
        return self._packed(Event(event_type, identity.hex(), worker, timestamp, event.get("uuid"), fields))

    def _packed(self, event: Event) -> msgspec.Raw:
        return self._binary(self._pack(event))

    def _fields(self, event: dict[str, Any], event_type: str) -> dict[str, Any]:
        readers = self._readers.get(event_type)
        if readers is not None:
            return _read(event, readers)
        data = {key: value for key, value in event.items() if key not in _ENVELOPE}
        return {"data": self._custom_data(data)} if data else {}

    def _custom_data(self, data: dict[str, Any]) -> Any:
        """The redacted fields of a custom event; the beginning of their JSON text if they are too long for a line."""
        redacted = self._redactor.value(first_values(data, MAX_DATA_VALUES))
        text = self._json(redacted)
        return redacted if len(text) <= MAX_DATA else text[: MAX_DATA + 1].decode("utf-8", "ignore")

    def _error_in(self, fields: dict[str, Any], *, of_retry: bool) -> tuple[str, str, str] | None:
        """The result of `_error_of` for a failure or a retry; None for a retry without an exception."""
        exception = fields.get("exception")
        if exception is None and of_retry:
            return None
        return self._error(exception or "", fields.get("traceback"), of_retry)

    def _short_text(self, value: Any) -> str | None:
        return self._redactor.text(value, MAX_NAME) if isinstance(value, str) else None

    def _definition_extras(self, event: dict[str, Any]) -> list[Any]:
        """[definition or None, retries]: the task's definition, as in task-sent and task-received."""
        name = event.get("name")
        retries = event.get("retries")
        retries = retries if type(retries) is int and 0 <= retries < 1 << 31 else 0
        if type(name) is not str or not name:
            return [None, retries]
        definition: dict[str, Any] = {"n": name if len(name) <= MAX_NAME else name[:MAX_NAME]}
        uuid = event["uuid"]
        root, parent, eta = event.get("root_id"), event.get("parent_id"), event.get("eta")
        if root is not None and (type(root) is not str or len(root) > MAX_ID):
            root = text_of_id(root)
        if parent is not None and (type(parent) is not str or len(parent) > MAX_ID):
            parent = text_of_id(parent)
        if root is not None:
            # Most tasks are their own root; a flag is 36 bytes shorter.
            definition["r"] = True if root == uuid else root
        if parent is not None and parent != uuid:
            # Celery sends a retry with the task's own id as its parent.
            definition["p"] = parent
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


def _runtime_extras(runtime: float | None) -> list[Any]:
    """[seconds, their bucket]. The bucket is computed here rather than in Redis, which has less time to spare."""
    return [None] if runtime is None else [runtime, bucket_of(runtime)]


def _error_of(exception: str, traceback: str | None, of_retry: bool) -> tuple[str, str, str]:
    """(fingerprint, class, place) of the error in a failure or a retry."""
    error = fingerprint_of(exception, traceback, of_retry=of_retry)
    return error.digest, error.error_class, error.place


def is_none(exception: Any) -> bool:
    """Whether a task was retried without an exception. Celery then sends repr(None); a worker that runs tasks in
    threads sends the repr of Celery's Retry, which has None in place of the exception.
    """
    return exception in (None, "", "None") or (
        isinstance(exception, str) and exception.startswith("Retry(Retry(...), None, ")
    )


def _read(event: dict[str, Any], readers: _Readers) -> dict[str, Any]:
    """The fields of an event that have a usable value."""
    fields: dict[str, Any] = {}
    for name, reader in readers.items():
        if (value := reader(event.get(name))) is not None:
            fields[name] = value
    return fields


def usable_time(value: Any) -> float | None:
    """A timestamp in seconds since the epoch, or None if the value is not a usable one, such as NaN or a far future."""
    if (type(value) is float or type(value) is int) and 0 < value < LATEST_TIME:
        return float(value)
    return None


def number(value: Any) -> float | None:
    """A finite, non-negative number, such as one of seconds; else None."""
    if (type(value) is float or type(value) is int) and 0 <= value < MAX_SECONDS:
        return float(value)
    return None


def numbers(value: Any) -> list[float] | None:
    """The usable numbers of a list, or None if the value is not a list."""
    if type(value) is not list:
        return None
    return [float(item) for item in value[:_MAX_NUMBERS] if number(item) is not None]


def count(value: Any) -> int | None:
    """A number of tasks, or None."""
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def flag(value: Any) -> bool | None:
    """The value if it is a boolean, else None."""
    return value if type(value) is bool else None


def process_id(value: Any) -> int | None:
    """A process id, or None."""
    return value if type(value) is int and 0 < value < 1 << 32 else None


def moment(value: Any) -> float | None:
    """An ISO 8601 time, as Celery writes `eta`, in seconds since the epoch. Without a time zone, it is taken as UTC."""
    if type(value) is not str:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return usable_time((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
