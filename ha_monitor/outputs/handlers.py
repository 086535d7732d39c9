"""Finds and calls the user's handlers."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ha_monitor.errors import ConfigurationError
from ha_monitor.events.redact import Redactor
from ha_monitor.events.text import printable
from ha_monitor.handling import ATTRIBUTE
from ha_monitor.store.outbox import Entry
from ha_monitor.store.record import record_of


class Handler(NamedTuple):
    """One function, and its event types."""

    name: str
    """Module and function: by this name a retry finds it, on any instance."""
    types: frozenset[str]
    function: Callable[..., object]

    def wants(self, event_type: str) -> bool:
        return event_type in self.types or "*" in self.types


class Failure(NamedTuple):
    """A handler that raised."""

    handler: str
    error: str
    traceback: str


def load_handlers(modules: Iterable[str]) -> list[Handler]:
    """Import the modules and collect their handlers, in the order of definition.

    :raises ConfigurationError: if a module cannot be imported or has no handler.
    """
    handlers: dict[str, Handler] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigurationError(f"handlers.modules: {name} cannot be imported: {reason}") from None
        found = [value for value in vars(module).values() if callable(value) and hasattr(value, ATTRIBUTE)]
        if not found:
            raise ConfigurationError(f'handlers.modules: {name} has no handler; mark one with @on("task-failed")')
        for function in found:
            full_name = f"{function.__module__}.{function.__qualname__}"
            handlers[full_name] = Handler(full_name, frozenset(getattr(function, ATTRIBUTE)), function)
    return list(handlers.values())


class HandlerCode:
    """Imports the handler modules, and detects later changes of their files."""

    def __init__(self) -> None:
        self._imported: dict[Path, bytes] = {}
        """Digests of the files of these modules, and of those that they imported."""

    def load(self, modules: Sequence[str]) -> list[Handler]:
        """See `load_handlers`."""
        before = set(sys.modules)
        try:
            return load_handlers(modules)
        finally:
            for name in {*modules, *(sys.modules.keys() - before)}:
                file = getattr(sys.modules.get(name), "__file__", None)
                if file:
                    self._imported.setdefault(Path(file), _digest(Path(file)))

    def changed(self) -> list[str]:
        """The files that differ from the running code."""
        return sorted(str(file) for file, digest in self._imported.items() if _digest(file) != digest)


def _digest(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return b""


class Handlers:
    """The handlers of this instance."""

    def __init__(self, handlers: Iterable[Handler], redactor: Redactor) -> None:
        """:param redactor: redacts their exceptions."""
        self._handlers = list(handlers)
        self._redactor = redactor
        self.any = bool(self._handlers)

    @property
    def types(self) -> frozenset[str]:
        """The event types that any of them is for."""
        return frozenset[str]().union(*(handler.types for handler in self._handlers))

    def due(self, entry: Entry) -> list[Handler]:
        """The handlers to call for an entry. An entry for a single handler names it; it may no longer exist."""
        if entry.kind == 0:
            return [handler for handler in self._handlers if handler.wants(entry.event.type)]
        return [handler for handler in self._handlers if handler.name == entry.handler]

    def call(self, handler: Handler, entry: Entry) -> Failure | None:
        """Call one handler. Any exception is returned; not even SystemExit ends the process."""
        event = entry.event
        facts = entry.facts
        record = record_of(event.task_id, facts) if event.task_id is not None and facts is not None else None
        try:
            handler.function(event, record)
        except BaseException as error:
            text, trace = printable(_text_of(error)), printable(traceback.format_exc())
            return Failure(handler.name, self._redactor.text(text, 1000), self._redactor.tail(trace, 4000))
        return None


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # from a __str__ of the user
        text = "no text available"
    return f"{type(error).__name__}: {text}"
