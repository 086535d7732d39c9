"""The user's handlers: found by module, called with event and record, and unable to stop the monitor."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ha_monitor import Event, State, TaskRecord, on
from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.errors import ConfigurationError
from ha_monitor.events.redact import Redactor
from ha_monitor.handling import ATTRIBUTE
from ha_monitor.outputs.handlers import Handler, Handlers, load_handlers
from ha_monitor.store.outbox import Entry
from ha_monitor.store.record import Facts
from tests.unit.builders import TIME, UUID

REDACTOR = Redactor(DEFAULT_REDACTED, 1000)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def entry(event_type: str = "task-failed", *, kind: int = 0, handler: str = "", facts: Facts | None = None) -> Entry:
    event = Event(event_type, "0" * 24, "celery@host", TIME, UUID)
    return Entry(kind, event, facts or Facts(name="shop.pay", finish=9), False, handler)


def test_the_functions_marked_with_on_are_found(modules: Path) -> None:
    """Given a module, its marked functions become handlers in their order, under a name that a retry can find."""
    (modules / "alerts_a.py").write_text(
        "from ha_monitor import on\n"
        "@on('task-failed', 'task-revoked')\ndef first(event, task): ...\n"
        "def not_one(event, task): ...\n"
        "@on('*')\ndef second(event, task): ...\n"
    )
    handlers = Handlers(load_handlers(["alerts_a"]), REDACTOR)

    assert handlers.any is True
    assert handlers.types == {"task-failed", "task-revoked", "*"}
    assert [handler.name for handler in handlers.due(entry("task-failed"))] == ["alerts_a.first", "alerts_a.second"]
    assert [handler.name for handler in handlers.due(entry("task-sent"))] == ["alerts_a.second"]


def test_a_handler_imported_into_two_modules_is_called_once(modules: Path) -> None:
    """Given a handler that a second module imports, it is one handler."""
    (modules / "alerts_b.py").write_text("from ha_monitor import on\n@on('*')\ndef one(event, task): ...\n")
    (modules / "alerts_c.py").write_text("from alerts_b import one\n")

    assert [handler.name for handler in load_handlers(["alerts_b", "alerts_c"])] == ["alerts_b.one"]


def test_an_entry_for_one_handler_goes_to_that_one_only(modules: Path) -> None:
    """Given a retry, only the handler that failed is due; none if this instance does not have it."""
    handlers = Handlers(
        [Handler("a.one", frozenset({"*"}), print), Handler("a.two", frozenset({"*"}), print)], REDACTOR
    )

    assert [handler.name for handler in handlers.due(entry(kind=1, handler="a.two"))] == ["a.two"]
    assert handlers.due(entry(kind=1, handler="a.gone")) == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "broken cannot be imported: ModuleNotFoundError: No module named 'broken'"),
        ("def f(:\n", "broken cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise ValueError('two\\nlines')", "broken cannot be imported: ValueError: two lines"),
        ("import sys; sys.exit(3)", "broken cannot be imported: SystemExit: 3"),
        ("def f(event, task): ...\n", 'broken has no handler; mark one with @on("task-failed")'),
        (
            "from ha_monitor import on\n@on()\ndef f(event, task): ...\n",
            'broken cannot be imported: TypeError: on() needs event types, such as @on("task-failed") or @on("*")',
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_one_line(modules: Path, source: str | None, reason: str) -> None:
    """Given a module that is missing or wrong, the error is one line that names it."""
    if source is not None:
        (modules / "broken.py").write_text(source)

    with pytest.raises(ConfigurationError) as caught:
        load_handlers(["broken"])

    assert str(caught.value) == f"handlers.modules: {reason}"


def test_a_handler_gets_the_event_and_the_record() -> None:
    """Given a handler, it is called with the event and what is known of the task."""
    calls: list[tuple[Event, TaskRecord]] = []
    handler = Handler("a.one", frozenset({"*"}), lambda event, task: calls.append((event, task)))

    assert Handlers([handler], REDACTOR).call(handler, entry()) is None

    ((event, task),) = calls
    assert (event.type, event.task_id) == ("task-failed", UUID)
    assert (task.name, task.state, task.task_id) == ("shop.pay", State.FAILURE, UUID)


def test_an_event_without_a_task_has_no_record() -> None:
    """Given a worker's event, the handler gets None for the task."""
    seen: list[object] = []
    handler = Handler("a.one", frozenset({"*"}), lambda event, task: seen.append(task))

    Handlers([handler], REDACTOR).call(handler, Entry(0, Event("worker-online", "0" * 24), None, False))

    assert seen == [None]


def test_what_a_handler_raises_is_returned() -> None:
    """Given a handler that raises, the error and the traceback are returned, cut to a size that can be stored."""

    def broken(event: Event, task: TaskRecord) -> None:
        raise KeyError("x" * 5000)

    handler = Handler("a.broken", frozenset({"*"}), broken)
    failure = Handlers([handler], REDACTOR).call(handler, entry())

    assert failure is not None
    assert failure.handler == "a.broken"
    assert failure.error.startswith("KeyError: 'xxx")
    assert (len(failure.error), len(failure.traceback)) == (1000, 4000)


def test_a_secret_in_what_a_handler_raises_is_hidden() -> None:
    """Given a handler that quotes a password, neither the error nor the traceback has it."""

    def broken(event: Event, task: TaskRecord) -> None:
        raise ValueError("refused: postgres://u:hunter2@db/, password='hunter2', user='bob'")

    handler = Handler("a.broken", frozenset({"*"}), broken)
    failure = Handlers([handler], REDACTOR).call(handler, entry())

    assert failure is not None
    assert failure.error == "ValueError: refused: postgres://u:***@db/, password=***, user='bob'"
    assert failure.error in failure.traceback
    assert "hunter2" not in failure.traceback


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("half of an emoji: \ud83d"), "ValueError: half of an emoji: ?"),
        (Unspeakable(), "Unspeakable: no text available"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError: "),
    ],
)
def test_whatever_a_handler_raises_can_be_written(error: BaseException, said: str) -> None:
    """Given an error with a text that no line can hold, or one that would end the process, it is a failure as any."""

    def broken(event: Event, task: TaskRecord) -> None:
        raise error

    handler = Handler("a.broken", frozenset({"*"}), broken)
    failure = Handlers([handler], REDACTOR).call(handler, entry())

    assert failure is not None
    assert failure.error == said
    assert msgspec.json.encode(failure)


@pytest.mark.parametrize("wrong", [(), ("",), (None,), (len,)])
def test_on_needs_event_types(wrong: tuple[Any, ...]) -> None:
    """Given @on without types, or @on without brackets, the mistake shows at once."""
    with pytest.raises(TypeError, match=r"on\(\) needs event types"):
        on(*wrong)


def test_on_leaves_the_function_as_it_is() -> None:
    """Given a marked function, it can be called in a test like any other; marks add up."""

    @on("task-failed")
    @on("task-revoked")
    def handler(event: str, task: str) -> str:
        return event + task

    assert handler("a", "b") == "ab"
    assert getattr(handler, ATTRIBUTE) == ("task-revoked", "task-failed")
