"""The program's own log: the same lines, by structlog."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import structlog

from ha_monitor.clock import Clock
from ha_monitor.config.schema import LogLevel
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.writer import LineWriter

Fields = MutableMapping[str, Any]
Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def make_logger(
    *,
    writer: LineWriter,
    identity: Identity,
    clock: Clock,
    level: LogLevel,
    scrub: Callable[[str], str],
    render: Callable[[dict[str, Any]], bytes] | None = None,
) -> Logger:
    """A logger of the program's own events.

    :param scrub: takes passwords out of a text.
    :param render: for people instead of JSON.
    """
    encode = render or msgspec.json.Encoder(enc_hook=str).encode

    def complete(_logger: Any, method: str, fields: Fields) -> Fields:
        level_name = {"exception": "error", "critical": "error", "warn": "warning"}.get(method, method)
        head = {
            "timestamp": iso_time(clock.time()),
            "level": level_name,
            "event": fields.pop("event"),
            **identity._asdict(),
        }
        return {**head, **{key: scrub(value) if isinstance(value, str) else value for key, value in fields.items()}}

    def rendered(_logger: Any, _method: str, fields: Fields) -> bytes:
        return encode(dict(fields))

    logger: Logger = structlog.wrap_logger(
        _WriterLogger(writer),
        processors=[structlog.processors.format_exc_info, complete, rendered],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


class _WriterLogger:
    """What structlog calls at the end of its chain."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: bytes) -> None:
        self._writer.write([line])

    debug = info = warning = error = critical = exception = msg


class LibraryHandler(logging.Handler):
    """Takes what libraries say by the standard library's logging into the program's log."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        self._logger.warning("library-message", library=record.name, message=text[:1000])
