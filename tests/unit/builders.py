"""Events and the parts that decode them, for tests: every argument has a default that a test need not care about."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ha_monitor.config.schema import DEFAULT_REDACTED, LogLevel
from ha_monitor.events.catalogue import WORKER_EVENTS
from ha_monitor.events.decode import Batch, Decoder, Message
from ha_monitor.events.facts import FactBuilder
from ha_monitor.events.redact import Redactor
from ha_monitor.events.types import TASK_CODES, EmissionPolicy
from ha_monitor.store.packing import as_lua_string

UUID = "8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90"
TIME = 1_795_586_043.5
DEFINITION = {"name": "shop.pay", "args": "(1,)", "kwargs": "{'password': 'hunter2'}", "root_id": UUID, "retries": 0}
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "task-sent": {**DEFINITION, "queue": "celery", "eta": None},
    "task-received": {**DEFINITION, "eta": None},
    "task-succeeded": {"result": "'done'", "runtime": 0.25},
    "task-failed": {"exception": "KeyError('x')", "traceback": "Traceback…\nKeyError: 'x'"},
    "task-retried": {"exception": "ValueError('y')", "traceback": "Traceback…\nValueError: 'y'"},
    "task-rejected": {"requeue": False},
    "task-revoked": {"terminated": False, "signum": None, "expired": True},
    "worker-heartbeat": {"freq": 2.0, "active": 1, "processed": 7, "loadavg": [0.1, 0.2, 0.3], "sw_ver": "5.7.0"},
}
TASK_TYPES = tuple(TASK_CODES)
WORKER_TYPES = tuple(row.type for row in WORKER_EVENTS)


def event(event_type: str, *, at: float = TIME, uuid: str | None = UUID, **changes: Any) -> dict[str, Any]:
    """An event as Celery sends it; the clock follows from the time, so that two times are two events."""
    body: dict[str, Any] = {
        "type": event_type,
        "hostname": "celery@host",
        "pid": 4711,
        "clock": int(at * 1000) % 1_000_000,
        "utcoffset": 0,
        "timestamp": at,
        **OWN_FIELDS.get(event_type, OWN_FIELDS["worker-heartbeat"] if event_type in WORKER_TYPES else {}),
    }
    if event_type not in WORKER_TYPES and uuid is not None:
        body["uuid"] = uuid
    return body | changes


def fact_builder(
    level: LogLevel = LogLevel.DEBUG,
    *,
    policy: EmissionPolicy | None = None,
    arguments: bool = True,
    results: bool = True,
    max_length: int = 1024,
) -> FactBuilder:
    """:param policy: in place of the one that the level stands for."""
    return FactBuilder(
        policy or EmissionPolicy(level, ()),
        Redactor(DEFAULT_REDACTED, max_length),
        arguments=arguments,
        results=results,
        binary=as_lua_string,
    )


def decode(*bodies: Any, level: LogLevel = LogLevel.DEBUG, arguments: bool = True, results: bool = True) -> Batch:
    """The batch of messages, each given as an event, a list of events, the bytes of its body, or a message."""
    messages = [
        body if isinstance(body, Message) else Message(body if isinstance(body, bytes) else json.dumps(body).encode())
        for body in bodies
    ]
    batch = Batch()
    decoder(level, arguments, results).decode(messages, batch)
    return batch


@cache
def decoder(level: LogLevel, arguments: bool, results: bool) -> Decoder:
    """As in an instance, one for all batches: to make it takes longer than to decode many of them."""
    hidden = [*DEFAULT_REDACTED, *([] if arguments else ["args", "kwargs"]), *([] if results else ["result"])]
    return Decoder(fact_builder(level, arguments=arguments, results=results), Redactor(hidden, 500))


class TurnedClock:
    """A clock that a test turns."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self.put_back = 0.0
        """Seconds by which the wall clock was put back."""

    def time(self) -> float:
        return TIME + self.now - self.put_back

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
