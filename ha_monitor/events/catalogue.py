"""All types of events, one row each. Everything else that depends on the types is derived from here, or a test compares
it with the catalogue.

`events/types.py` has the look-ups by type, `store/scripts.py` passes the codes to the Lua scripts, and
`make documents` writes the tables of the documentation and the line's schema. This module is data only.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from ha_monitor.config.schema import LogLevel

DEBUG, INFO, WARNING, ERROR = LogLevel.DEBUG, LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR


class Code(IntEnum):
    """What an event does to the record of its task. Records and counts in Redis hold the number: never change one, and
    give a new code the next free number (6 is not free). Their order has no meaning.
    """

    OTHER = 0
    """Custom events and types of later Celery versions: they are recorded as seen and emitted, and change nothing."""
    SENT = 1
    RECEIVED = 2
    STARTED = 3
    RETRIED = 4
    REQUEUED = 5
    """task-rejected with requeue: the broker delivers the task again."""
    REJECTED = 7
    REVOKED = 8
    FAILED = 9
    SUCCEEDED = 10


class State(StrEnum):
    """Celery's names for the states of a task, and SENT for a task that no worker has received."""

    SENT = "SENT"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    REJECTED = "REJECTED"
    REVOKED = "REVOKED"
    FAILURE = "FAILURE"
    SUCCESS = "SUCCESS"
    UNKNOWN = "UNKNOWN"


class Awaits(StrEnum):
    """What must be known about a task before the line of an event is written, because the line contains it."""

    NOTHING = "nothing"
    """The event itself has the task's name."""
    NAME = "name"
    ONE_START = "one start"
    """The name, and at least one start (for a retry: at least as many starts as retries)."""
    ALL_STARTS = "all starts"
    """The name, and a start for each attempt."""


class End(NamedTuple):
    """What an event that finishes a task sets."""

    state: State
    rank: int
    """Of several ends, the one with the highest rank counts; among equal ranks, the latest."""
    tie: int
    """Of two ends with the same rank and time, the one with the higher tie counts. No two have both the same rank and
    the same tie."""
    has_runtime: bool = False
    """Whether the event's line says how long the run took."""
    result: str | None = None
    """Celery's name for this end in result backends; None if they do not store it."""


class Counter(NamedTuple):
    """The metric that counts an event; see `metrics/definitions.py`."""

    word: str
    meaning: str
    labels: tuple[str, ...] = ()
    """Labels in addition to those of all task metrics."""


class TaskEvent(NamedTuple):
    """A type of event about a task. The first row of a type is the usual one."""

    type: str
    code: Code
    level: LogLevel
    counter: Counter | None = None
    fields: tuple[str, ...] = ()
    """The fields of this type, by Celery's names; `FIELDS` has their meaning."""
    awaits: Awaits = Awaits.NAME
    end: End | None = None


_REJECTED = Counter("rejected", "Tasks rejected, requeued or not")
_ERROR_FIELDS = ("exception", "traceback")

TASK_EVENTS = (
    TaskEvent(
        *("task-sent", Code.SENT, DEBUG),
        Counter("sent", "Tasks sent; only if producers send task-sent; hostname is the producer's"),
        awaits=Awaits.NOTHING,
    ),
    TaskEvent(
        *("task-received", Code.RECEIVED, DEBUG),
        Counter("received", "Tasks received by workers; each retry counts again"),
        awaits=Awaits.NOTHING,
    ),
    TaskEvent("task-started", Code.STARTED, DEBUG, Counter("started", "Runs started")),
    TaskEvent(
        *("task-succeeded", Code.SUCCEEDED, INFO),
        Counter("succeeded", "Runs that succeeded"),
        ("runtime", "result"),
        Awaits.ALL_STARTS,
        End(State.SUCCESS, rank=2, tie=1, has_runtime=True, result="SUCCESS"),
    ),
    TaskEvent(
        *("task-failed", Code.FAILED, ERROR),
        Counter("failed", "Runs that failed and are not retried, by the exception's class", ("exception",)),
        _ERROR_FIELDS,
        Awaits.ALL_STARTS,
        End(State.FAILURE, rank=1, tie=2, has_runtime=True, result="FAILURE"),
    ),
    # Celery sends task-rejected after the failure of the same run.
    TaskEvent(
        *("task-rejected", Code.REJECTED, WARNING, _REJECTED, ("requeue",), Awaits.ONE_START),
        End(State.REJECTED, rank=0, tie=1),
    ),
    TaskEvent("task-rejected", Code.REQUEUED, WARNING, _REJECTED, ("requeue",), Awaits.ONE_START),
    TaskEvent(
        *("task-revoked", Code.REVOKED, WARNING),
        Counter("revoked", "Tasks revoked or expired, once per worker that reports it"),
        ("terminated", "signum", "expired"),
        end=End(State.REVOKED, rank=1, tie=1, result="REVOKED"),
    ),
    TaskEvent(
        *("task-retried", Code.RETRIED, WARNING, Counter("retried", "Runs that ended with a retry")),
        _ERROR_FIELDS,
        Awaits.ONE_START,
    ),
    TaskEvent("task-cancelled", Code.OTHER, WARNING),
)


class WorkerEvent(NamedTuple):
    """A type of event about a worker."""

    type: str
    level: LogLevel
    fields: tuple[str, ...] = ("pid", "freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys")


WORKER_EVENTS = (
    WorkerEvent("worker-heartbeat", DEBUG),
    WorkerEvent("worker-online", INFO),
    WorkerEvent("worker-offline", INFO),
)


class Field(NamedTuple):
    """A field that is specific to a type of event. `FIELDS` has them in the order of the line."""

    name: str
    meaning: str
    in_line: str = ""
    """Its name in the line, if that is different."""


FIELDS = (
    Field("runtime", "seconds that the run took."),
    Field("exception", "the exception as text, redacted and truncated; a retry may have none."),
    Field("traceback", "the end of the traceback, redacted."),
    Field("result", "the task's result as text, redacted and truncated; only with log.results."),
    Field("requeue", "whether the task was requeued."),
    Field("terminated", "whether the running task was killed."),
    Field("signum", "the signal with which the running task was killed, by name or number."),
    Field("expired", "whether it had expired."),
    Field("pid", "process id of the Celery worker.", in_line="worker_pid"),
    Field("freq", "seconds between two heartbeats of the worker."),
    Field("active", "how many tasks the worker is running."),
    Field("processed", "how many runs the worker has started since its start."),
    Field("loadavg", "load average of the worker's machine over 1, 5 and 15 minutes."),
    Field("sw_ident", "name of the worker's software."),
    Field("sw_ver", "version of the worker's software."),
    Field("sw_sys", "operating system of the worker's machine."),
    Field("reason", "why, and what to look at or do; in workers-lost only if all workers fell silent together."),
    Field("silent", "seconds without an event from the worker."),
    Field("skew", "seconds by which the worker's clock is ahead; negative: behind."),
    Field("phase", "the task's phase: sent and not received, received and not started, started and not finished."),
    Field("since", "when the phase began, or the eta if that is later; of an incident, when it began."),
    Field("seconds", "for how many seconds it has been in that phase."),
    Field(
        "confirmed_by",
        "a worker says that it has the task (worker); no worker that answered lists it (workers); its worker is lost "
        "(worker-lost); the result backend knows no result (result-backend). Empty if no worker answered.",
    ),
    Field("answered", "how many workers answered."),
    Field("source", "reconciled: the event never arrived; it was reconstructed from the result backend."),
    Field("lost", "how many task-started events of the worker never arrived."),
    Field(
        "count",
        "how many workers the line is about; in workers-lost and workers-recovered, others may have lines of their "
        "own.",
    ),
    Field("workers", "the first of their names."),
    Field("incident", "the incident's id: the same when it is resolved, and if it reopens within five minutes."),
    Field("kind", "what kind of incident it is (docs/asking.md)."),
    Field("key", "what the incident is about, such as a nodename, a queue or the name of a task."),
    Field("severity", "page if somebody should be woken, else warn."),
    Field("size", "the number of tasks, workers or failures that the incident counts."),
    Field("summary", "the incident in one sentence."),
    Field("command", "the command that shows more of the incident."),
    Field("cause", "the id of the incident that this one follows from."),
    Field("data", "The custom event's own fields, redacted; a text if they were truncated (shortened)."),
)


class OwnEvent(NamedTuple):
    """A line or event of the program itself; no event of an application may have its name. docs/operations.md says what
    it means, and what to do.
    """

    name: str
    level: LogLevel
    fields: tuple[str, ...] | None = None
    """Its fields, if it is announced like an event, with an id and to handlers; None if it is only a log line."""


_STUCK_FIELDS = ("phase", "since", "seconds", "confirmed_by", "answered")
_INCIDENT_FIELDS = ("incident", "kind", "key", "severity", "since", "size", "summary", "command", "cause")

OWN_EVENTS = (
    OwnEvent("instance-started", INFO),
    OwnEvent("instance-stopped", INFO),
    OwnEvent("instance-crashed", ERROR),
    OwnEvent("shutdown-incomplete", WARNING),
    OwnEvent("configuration-invalid", ERROR),
    OwnEvent("reloaded", INFO),
    OwnEvent("restart-required", WARNING),
    OwnEvent("reload-failed", ERROR),
    OwnEvent("store-connected", INFO),
    OwnEvent("store-unavailable", WARNING),
    OwnEvent("store-damaged", WARNING),
    OwnEvent("store-clock-put-back", WARNING),
    OwnEvent("store-at-risk", WARNING),
    OwnEvent("store-went-back", ERROR),
    OwnEvent("store-dropped-keys", ERROR),
    OwnEvent("broker-connected", INFO),
    OwnEvent("broker-unavailable", WARNING),
    OwnEvent("brokers-differ", ERROR),
    OwnEvent("instance-name-taken", WARNING),
    OwnEvent("broker-alarm", WARNING),
    OwnEvent("broker-alarm-over", INFO),
    OwnEvent("lease-lost", WARNING),
    OwnEvent("outbox-taken-over", WARNING),
    OwnEvent("leadership-acquired", INFO),
    OwnEvent("leadership-lost", INFO),
    OwnEvent("worker-lost", WARNING, ("silent",)),
    OwnEvent("worker-recovered", INFO, ("silent",)),
    OwnEvent("workers-lost", WARNING, ("count", "workers", "reason")),
    OwnEvent("workers-recovered", INFO, ("count", "workers")),
    OwnEvent("worker-clock-skew", WARNING, ("skew",)),
    OwnEvent("task-stuck", WARNING, _STUCK_FIELDS),
    OwnEvent("task-orphaned", ERROR, _STUCK_FIELDS),
    OwnEvent("events-lost", ERROR, ("lost",)),
    OwnEvent("task-events-missing", WARNING, ("count", "workers", "reason")),
    OwnEvent("incident-opened", WARNING, _INCIDENT_FIELDS),
    OwnEvent("incident-resolved", INFO, _INCIDENT_FIELDS),
    OwnEvent("incidents-not-judged", WARNING),
    OwnEvent("outbox-entry-unreadable", ERROR, ("reason",)),
    OwnEvent("task-inspection-failed", WARNING),
    OwnEvent("queue-survey-failed", WARNING),
    OwnEvent("schedules-not-read", WARNING),
    OwnEvent("workers-unreachable", WARNING),
    OwnEvent("no-worker-answered", WARNING),
    OwnEvent("table-full", WARNING),
    OwnEvent("queue-shared", ERROR),
    OwnEvent("event-rejected", WARNING),
    OwnEvent("events-dropped", ERROR),
    OwnEvent("message-set-aside", ERROR),
    OwnEvent("handler-failed", WARNING),
    OwnEvent("dead-letter", ERROR),
    OwnEvent("notification-sent", INFO),
    OwnEvent("notification-failed", WARNING),
    OwnEvent("http-listen-failed", ERROR),
    OwnEvent("http-request-failed", WARNING),
    OwnEvent("http-auth-failed", WARNING),
    OwnEvent("metrics-incomplete", WARNING),
    OwnEvent("thread-failed", WARNING),
    OwnEvent("library-message", WARNING),
)
