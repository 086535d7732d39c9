"""The program's own log events, as lines of the same form, by structlog."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog

from ha_monitor.clock import Clock
from ha_monitor.config.schema import LogLevel
from ha_monitor.events.text import printable
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.output import Line, Output
from ha_monitor.text.visible import cut, visible_json

Fields = MutableMapping[str, Any]
Logger = structlog.typing.FilteringBoundLogger
_READ, _KEPT = 8000, 1000
"""Characters of a library's message that are searched for secrets, and that are written at most."""
_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class Threshold:
    """The minimum log level; may be changed while the logger is in use."""

    def __init__(self, level: LogLevel) -> None:
        self.level = level

    @contextmanager
    def changing(self, level: LogLevel) -> Iterator[None]:
        """Change the level at the end; until then, lines are written that either level allows, so that a change to a
        higher level is logged, too."""
        self.level = min(self.level, level, key=_LEVELS.__getitem__)
        try:
            yield
        finally:
            self.level = level


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a value in which each text is changed, also in lists and mappings."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_each_text(key, change): _each_text(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_each_text(inner, change) for inner in value]
    return value


def _level_of(method: str) -> str:
    return {"exception": "error", "critical": "error", "warn": "warning"}.get(method, method)


def make_logger(
    *,
    output: Output,
    identity: Identity,
    clock: Clock,
    threshold: Threshold,
    scrub: Callable[[str], str],
    render: Callable[[dict[str, Any]], bytes] | None = None,
) -> Logger:
    """A logger of the program's own events.

    :param threshold: the minimum log level.
    :param scrub: masks passwords in a text.
    :param render: writes lines for people instead of JSON.
    """
    to_json = msgspec.json.Encoder(enc_hook=str).encode
    encode = render or (lambda fields: visible_json(to_json(fields)))

    def dropped_below(_logger: Any, method: str, fields: Fields) -> Fields:
        if _LEVELS[LogLevel(_level_of(method))] < _LEVELS[threshold.level]:
            raise structlog.DropEvent
        return fields

    def complete(_logger: Any, method: str, fields: Fields) -> Fields:
        head = {
            "timestamp": iso_time(clock.time()),
            "level": _level_of(method),
            "event": fields.pop("event"),
            **identity._asdict(),
        }
        rest = {key: _each_text(value, lambda text: printable(scrub(text))) for key, value in fields.items()}
        return {**head, **rest, **head}

    def rendered(_logger: Any, _method: str, fields: Fields) -> tuple[tuple[Line], dict[str, Any]]:
        # structlog calls the logger below with these arguments.
        return (Line(encode(dict(fields)), fields["level"], fields["event"]),), {}

    logger: Logger = structlog.wrap_logger(
        _OutputLogger(output),
        processors=[dropped_below, structlog.processors.format_exc_info, complete, rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


class _OutputLogger:
    """The object that structlog calls at the end of its chain."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def msg(self, line: Line) -> None:
        self._output.write([line])

    debug = info = warning = error = critical = exception = msg


class LibraryHandler(logging.Handler):
    """Forwards log messages of libraries to the program's log."""

    def __init__(self, logger: Logger, scrub: Callable[[str], str]) -> None:
        """:param scrub: masks passwords in a text."""
        super().__init__(logging.WARNING)
        self._logger = logger
        self._scrub = scrub

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        # A text of megabytes is not searched to the end; secrets are masked before the text is truncated.
        message = cut(self._scrub(cut(text, _READ)), _KEPT)
        self._logger.warning("library-message", library=record.name, message=message)
