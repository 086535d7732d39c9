"""Finds and calls the user's handlers."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import msgspec

from ha_monitor.config.paths import HANDLERS
from ha_monitor.errors import ConfigurationError, class_and_reason
from ha_monitor.events.redact import Redactor
from ha_monitor.events.text import printable
from ha_monitor.handling import ATTRIBUTE
from ha_monitor.store.outbox import Entry
from ha_monitor.store.record import record_at


class Handler(NamedTuple):
    """One function, and its event types."""

    name: str
    """Module and function, or the variable that holds it: a retry finds the handler by this name, on any instance."""
    types: frozenset[str]
    function: Callable[..., object]

    def wants(self, event_type: str) -> bool:
        return event_type in self.types or "*" in self.types


class Failure(NamedTuple):
    """A handler that raised."""

    handler: str
    error: str
    traceback: str


def load_handlers(modules: Sequence[str]) -> list[Handler]:
    """Import the modules and collect their handlers, in the order of definition.

    Modules are also found in the administrator's folder for them.

    :raises ConfigurationError: if a module cannot be imported, has no handler, or has one that would never run.
    """
    found: dict[int, Handler] = {}
    if modules and str(HANDLERS) not in sys.path:
        sys.path.append(str(HANDLERS))
    for name in modules:
        # The code is the user's: it may raise anything, when it is imported and when it is inspected.
        try:
            module = importlib.import_module(name)
        except BaseException as error:
            raise ConfigurationError(
                f"handlers.modules: {name} cannot be imported: {class_and_reason(error)}"
            ) from None
        try:
            own = _handlers_of(name, module)
        except ConfigurationError:
            raise
        except BaseException as error:
            raise ConfigurationError(f"handlers.modules: {name} cannot be used: {class_and_reason(error)}") from None
        if not own:
            raise ConfigurationError(f'handlers.modules: {name} has no handler; mark one with @on("task-failed")')
        for handler in own:
            found.setdefault(id(handler.function), handler)
    handlers: dict[str, Handler] = {}
    for handler in found.values():
        if handlers.setdefault(handler.name, handler) is not handler:
            raise ConfigurationError(f"handlers.modules: two handlers are called {handler.name}; rename one")
    return list(handlers.values())


def _handlers_of(name: str, module: object) -> list[Handler]:
    handlers = []
    for variable, value in list(vars(module).items()):
        types = _mark_of(value) if callable(value) else ()
        if not types:
            continue
        full_name = printable(_importable_name(value) or f"{name}.{variable}")
        if _is_deferred(value):
            raise ConfigurationError(
                f"handlers.modules: {full_name} is async or a generator, so that a call would not run it; "
                "make it a plain function"
            )
        handlers.append(Handler(full_name, frozenset(types), value))
    return handlers


def _mark_of(value: object) -> tuple[str, ...]:
    """The event types that `on` has given to a function."""
    try:
        mark = getattr(value, ATTRIBUTE, None)
    except BaseException:  # as from a proxy whose object does not exist yet, such as Flask's current_app
        return ()
    # Some objects have a value for any name.
    return mark if type(mark) is tuple else ()


def _importable_name(function: object) -> str:
    """The module and the name in it that lead to a function, wherever it was found; empty if none do, as for a lambda,
    a function that another one returned, and a functools.partial.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if type(module) is not str or type(name) is not str:
        return ""
    value: object = sys.modules.get(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    return f"{module}.{name}" if value is function else ""


def _is_deferred(function: Callable[..., object]) -> bool:
    """Whether a call returns something that only runs later."""
    return any(
        inspect.iscoroutinefunction(one) or inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, type(function).__call__)
    )


class HandlerCode:
    """Imports the handler modules, and detects later changes of their files."""

    def __init__(self) -> None:
        self._imported: dict[Path, bytes] = {}
        """Digests of the files of these modules, and of the modules that they imported."""

    def load(self, modules: Sequence[str]) -> list[Handler]:
        """See `load_handlers`."""
        before = set(sys.modules)
        try:
            return load_handlers(modules)
        finally:
            for name in {*modules, *(sys.modules.keys() - before)}:
                if (file := _file_of(name)) is not None:
                    self._imported.setdefault(file, _digest(file))

    def changed(self) -> list[str]:
        """The files that differ from the running code."""
        return sorted(str(file) for file, digest in self._imported.items() if _digest(file) != digest)


def _file_of(module: str) -> Path | None:
    try:
        file = getattr(sys.modules.get(module), "__file__", None)
    except BaseException:  # a module may be any object
        return None
    return Path(file) if type(file) is str else None


def _digest(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except (OSError, ValueError):  # ValueError: not a valid file name
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
        """The event types that any handler is for."""
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
        record = record_at(event, facts) if event.task_id is not None and facts is not None else None
        # What one changes is neither another's nor that of the entry, which is stored again for a retry.
        own = msgspec.structs.replace(event, fields=deepcopy(event.fields))
        try:
            handler.function(own, record)
        except BaseException as error:
            text, trace = printable(_text_of(error)), printable(_traceback_of(error))
            return Failure(handler.name, self._redactor.text(text, 1000), self._redactor.tail(trace, 4000))
        return None


def _text_of(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # from the user's own __str__
        text = "no text available"
    return f"{name}: {text}" if text.strip() else name


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # from what it has of the user, such as the attributes of a SyntaxError
        return "no traceback available"
