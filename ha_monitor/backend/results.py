"""Reads the results of tasks. Writes nothing, and creates only plain values from what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from celery import Celery
from celery.exceptions import ImproperlyConfigured

from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.service import Service
from ha_monitor.config.parameters import parameters_of
from ha_monitor.config.schema import ResultBackend as Settings
from ha_monitor.config.secrets import mask, mask_url
from ha_monitor.config.urls import address_of, problem_of, scheme_of
from ha_monitor.errors import ConfigurationError, ResultBackendUnavailable, reason_of
from ha_monitor.events.facts import moment
from ha_monitor.events.text import printable
from ha_monitor.events.types import RESULT_TYPES
from ha_monitor.rights import redis as rights

_T = TypeVar("_T")
_KEY = "result_backend.url"
TIMEOUT = 5.0
"""Timeout of the backend in seconds, if the backend supports one."""
_TO_SENTINELS: Mapping[str, Any] = {
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    "retry": None,
}
"""By default, redis-py would ask a hanging sentinel ten times, without a timeout."""
TRIES = 3
"""Consecutive failures after which the backend counts as unavailable; at the start of a call, one is enough."""


class Result(NamedTuple):
    """How a task ended."""

    event_type: str
    """The type of the event that its worker must have sent."""
    time: float | None
    """When, in seconds since the epoch; None if unknown."""
    worker: str
    """Empty if unknown (`result_extended`)."""
    fields: dict[str, Any]
    """Further fields of that event: `result`, or `exception` and `traceback`."""


class Unreadable:
    """What is stored as the result of a task cannot be read as one."""


class _UnreadableResult(Exception):
    """The backend has answered, but with something that is not a result, or that an unknown serializer wrote."""


Stored = Result | Unreadable | None
"""What the backend has of a task; None for a task that has no end there."""


class ResultBackend:
    """A lazy connection to the backend. One caller at a time."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: if the URL names no backend that can be used here."""
        if problem := problem_of(settings.url):
            raise ConfigurationError(f"{_KEY} = {mask(_KEY, settings.url)}: {problem}", _KEY)
        parameters = parameters_of(_KEY, settings.url)
        # Celery ignores the TLS options in a sentinel:// URL, and has no default for verifying certificates.
        tls = None if parameters.tls is None else {"ssl_cert_reqs": "required", **parameters.tls}
        options = dict(settings.transport_options)
        if parameters.url.startswith("sentinel://"):
            given = options.get("sentinel_kwargs", {})
            options["sentinel_kwargs"] = {**_TO_SENTINELS, **parameters.sentinels, **given}
        app = Celery("ha-monitor", set_as_current=False, backend=parameters.url)
        app.conf.update(
            result_backend_transport_options=options,
            redis_backend_use_ssl=tls,
            redis_socket_timeout=TIMEOUT,
            redis_socket_connect_timeout=TIMEOUT,
            result_backend_always_retry=False,
        )
        try:
            self._backend: Any = app.backend
            user = urlsplit(settings.url).username or "default"
        except (ImproperlyConfigured, ImportError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"{_KEY}: {mask_url(reason_of(error))}", _KEY) from None
        # Exceptions must not be reconstructed: that would run code of the class that they name.
        self._backend.exception_to_python = lambda exception: exception
        # Each backend calls these two once it has been answered.
        for reading in ("decode", "meta_from_decoded"):
            setattr(self._backend, reading, _naming_unreadable(getattr(self._backend, reading)))
        self._url = settings.url
        prefix = settings.transport_options.get("global_keyprefix", "")
        self._needs = rights.needs_of_results(user, prefix)

    def results(self, task_ids: Iterable[str]) -> dict[str, Stored]:
        """How the tasks ended. A task for which the backend failed is left out.

        :raises ResultBackendUnavailable: if the backend is unavailable.
        """
        found: dict[str, Stored] = {}
        failures = 0
        has_answered = False
        for task_id in task_ids:
            try:
                found[task_id] = self._result(task_id)
                failures, has_answered = 0, True
            except Exception as error:  # each backend raises errors of its own library
                failures += 1
                if failures >= TRIES or not has_answered:
                    reason = rights.explain(str(error), self._needs) or cause_of(error, Service(_KEY, self._url)).text
                    where = f"{address_of(self._url)}: " if scheme_of(self._url).startswith("redis") else ""
                    raise ResultBackendUnavailable(mask_url(f"{where}{reason}")) from None
        return found

    def _result(self, task_id: str) -> Stored:
        try:
            return _naming_unreadable(read_result)(self._backend.get_task_meta(task_id, cache=False))
        except _UnreadableResult:
            return Unreadable()


def _naming_unreadable(reading: Callable[[Any], _T]) -> Callable[[Any], _T]:
    """The function, but any of its errors is about the one result that it reads."""

    @wraps(reading)
    def read(raw: Any) -> _T:
        try:
            return reading(raw)
        except Exception as error:  # serializers raise what they like about foreign data
            raise _UnreadableResult from error

    return read


def read_result(meta: dict[str, Any]) -> Result | None:
    """The result that Celery's `get_task_meta` describes; None if the task has not ended."""
    event_type = RESULT_TYPES.get(str(meta.get("status")))
    if event_type is None:
        return None
    done, worker = meta.get("date_done"), meta.get("worker")
    fields: dict[str, Any] = {}
    if event_type == "task-succeeded":
        fields["result"] = printable(repr(meta.get("result")))
    elif event_type == "task-failed":
        fields["exception"] = printable(exception_text(meta.get("result")))
        text = meta.get("traceback")
        fields["traceback"] = printable(text) if isinstance(text, str) else None
    time = moment(done.isoformat() if isinstance(done, datetime) else done)
    return Result(event_type, time, printable(worker) if isinstance(worker, str) else "", fields)


def exception_text(exception: Any) -> str:
    """An exception in the form of task-failed, such as `KeyError('x')`.

    :param exception: as the backend stores it: type and arguments.
    """
    if not isinstance(exception, dict) or not isinstance(exception.get("exc_type"), str):
        return repr(exception)
    arguments = exception.get("exc_message")
    if not isinstance(arguments, list | tuple):
        arguments = [arguments]
    return f"{exception['exc_type']}({', '.join(map(repr, arguments))})"
