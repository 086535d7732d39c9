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
from ha_monitor.outputs import handlers as module
from ha_monitor.outputs.handlers import Handler, HandlerCode, Handlers, load_handlers
from ha_monitor.store.outbox import Entry
from ha_monitor.store.record import Facts
from tests.unit.builders import TIME, UUID

ROOT = Path(__file__).resolve().parents[2]
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


def test_the_documented_handler_does_what_it_says(modules: Path) -> None:
    """Given the example of the documentation, it is called for failures alone, and sends a page for the fourth failed
    attempt of the task that it is about, with its name, worker and exception."""
    text = (ROOT / "docs/handlers.md").read_text(encoding="utf-8")
    code = text[text.index("```python\n") + len("```python\n") :].partition("```")[0]
    pages = "PAGES = []\ndef send_page(text, key): PAGES.append((text, key))\n"
    (modules / "shop_alerts.py").write_text(code + pages)
    handlers = Handlers(load_handlers(["shop_alerts"]), REDACTOR)
    (handler,) = handlers.due(entry("task-failed"))
    assert handlers.due(entry("task-succeeded")) == []

    event = entry("task-failed").event
    for name, retries in (("shop.pay", 2), ("shop.pay", 3), ("shop.report", 3)):
        task = TaskRecord(task_id=UUID, state=State.FAILURE, name=name, retries=retries, exception="KeyError('x')")
        handler.function(event, task)

    sent = sys.modules["shop_alerts"].PAGES
    assert sent == [("shop.pay failed on celery@host: KeyError('x')", event.id)]


def test_modules_are_found_in_the_administrators_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a module in the folder for handlers, it can be imported however the program was installed; what the
    program itself can import has precedence."""
    (tmp_path / "own_alerts.py").write_text("from ha_monitor import on\n@on('*')\ndef one(event, task): ...\n")
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.setattr(module, "HANDLERS", tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    assert [handler.name for handler in load_handlers(["own_alerts"])] == ["own_alerts.one"]
    with pytest.raises(ConfigurationError, match="json has no handler"):
        load_handlers(["json"])


def test_a_handler_imported_into_two_modules_is_called_once(modules: Path) -> None:
    """Given a handler that a second module imports, it is one handler."""
    (modules / "alerts_b.py").write_text("from ha_monitor import on\n@on('*')\ndef one(event, task): ...\n")
    (modules / "alerts_c.py").write_text("from alerts_b import one\n")

    assert [handler.name for handler in load_handlers(["alerts_b", "alerts_c"])] == ["alerts_b.one"]


UNLIKE_FUNCTIONS = """\
import functools
from ha_monitor import on

def send(event, task, to): CALLED.append(to)
def to(whom):
    @on("task-failed")
    def page(event, task): send(event, task, whom)
    return page
class Mailer:
    def __init__(self, whom): self.whom = whom
    def __call__(self, event, task): send(event, task, self.whom)
    @on("task-failed")
    def mail(self, event, task): send(event, task, self.whom)

CALLED = []
part = on("task-failed")(functools.partial(send, to="part"))
one, two = to("one"), to("two")
three = on("task-failed")(lambda event, task: send(event, task, "three"))
four = on("task-failed")(lambda event, task: send(event, task, "four"))
also_four = four
five = on("task-failed")(Mailer("five"))
six, seven = Mailer("six").mail, Mailer("seven").mail
globals()["page half \\ud83d"] = to("half")
"""


def test_each_handler_is_called_whatever_it_is_made_of(modules: Path) -> None:
    """Given handlers that are no plain functions, or several from one piece of code, each is one handler, called by the
    name of the variable that holds it: the same on each instance, and after each start.
    """
    (modules / "alerts_d.py").write_text(UNLIKE_FUNCTIONS)
    handlers = Handlers(load_handlers(["alerts_d"]), REDACTOR)
    due = handlers.due(entry())

    assert [handler.name for handler in due] == [
        *("alerts_d.part", "alerts_d.one", "alerts_d.two", "alerts_d.three", "alerts_d.four", "alerts_d.five"),
        *("alerts_d.six", "alerts_d.seven", "alerts_d.page half ?"),
    ]
    assert [handlers.call(handler, entry()) for handler in due] == [None] * len(due)
    assert sys.modules["alerts_d"].CALLED == ["part", "one", "two", "three", "four", "five", "six", "seven", "half"]
    assert [handlers.due(entry(kind=1, handler=handler.name)) for handler in due] == [[handler] for handler in due]


def test_a_decorated_handler_keeps_its_name(modules: Path) -> None:
    """Given a handler under a decorator of the user's, its name is that of the function."""
    (modules / "alerts_e.py").write_text(
        "import functools\nfrom ha_monitor import on\n"
        "def twice(function):\n"
        "  @functools.wraps(function)\n  def wrapper(event, task): function(event, task); function(event, task)\n"
        "  return wrapper\n"
        "@twice\n@on('*')\ndef one(event, task): ...\n"
        "@on('*')\n@twice\ndef two(event, task): ...\n"
    )

    assert [handler.name for handler in load_handlers(["alerts_e"])] == ["alerts_e.one", "alerts_e.two"]


def test_two_handlers_of_one_name_are_refused(modules: Path) -> None:
    """Given two handlers of which a retry could not tell which one failed, the error names them."""
    (modules / "alerts_f").mkdir()
    (modules / "alerts_f" / "__init__.py").write_text(
        "import alerts_f.Part\nfrom ha_monitor import on\n"
        "class Part:\n  @on('*')\n  def page(event, task): ...\n"
        "own = Part.page\n"
    )
    (modules / "alerts_f" / "Part.py").write_text("from ha_monitor import on\npage = on('*')(lambda event, task: 0)\n")

    with pytest.raises(ConfigurationError, match=r"^handlers.modules: two handlers are called alerts_f.Part.page; ren"):
        load_handlers(["alerts_f", "alerts_f.Part"])


HOSTILE = """\
import sys
from ha_monitor import on

class Proxy:  # as Flask's current_app
    def __init__(self, error): object.__setattr__(self, "error", error)
    def __call__(self): raise self.error
    def __getattribute__(self, name): raise object.__getattribute__(self, "error")
    __class__ = property(lambda self: self.anything)

class Obliging:  # as xmlrpc.client.ServerProxy
    def __call__(self): ...
    def __getattr__(self, name): return Obliging()

class Growing:  # as an object that imports something when it is used
    def __call__(self): ...
    def __getattr__(self, name): globals()["more"] = 1; raise AttributeError(name)

proxies = [Proxy(RuntimeError("no context")), Proxy(SystemExit()), Proxy(KeyboardInterrupt()), Growing(), Obliging()]
current_app, exiting, interrupted, growing, obliging = proxies

@on("*")
def alert(event, task): ...

sys.modules["alerts_helper"] = current_app
sys.modules["alerts_other_helper"] = obliging
"""


def test_what_else_a_module_holds_is_left_alone(modules: Path) -> None:
    """Given a module that holds objects that raise whatever they are asked for, or have an answer to everything, its
    handler is found, and so are the files that it came from.
    """
    (modules / "alerts_g.py").write_text(HOSTILE)
    code = HandlerCode()

    assert [handler.name for handler in code.load(["alerts_g"])] == ["alerts_g.alert"]
    (modules / "alerts_g.py").write_text(HOSTILE + "# changed")
    assert code.changed() == [str(modules / "alerts_g.py")]


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
        ("raise KeyboardInterrupt", "broken cannot be imported: KeyboardInterrupt"),
        (
            "class Odd(BaseException):\n  def __str__(self): raise SystemExit\nraise Odd",
            "broken cannot be imported: Odd",
        ),
        ("import sys; sys.modules[__name__] = 5", "broken cannot be used: TypeError: vars() argument must have"),
        (
            "from ha_monitor import on\n@on('*')\nasync def f(event, task): ...\n",
            "broken.f is async or a generator, so that a call would not run it; make it a plain function",
        ),
        (
            "from ha_monitor import on\n@on('*')\ndef f(event, task): yield\n",
            "broken.f is async or a generator, so that a call would not run it; make it a plain function",
        ),
        (
            "from ha_monitor import on\nclass A:\n  async def __call__(self, event, task): ...\nf = on('*')(A())",
            "broken.f is async or a generator, so that a call would not run it; make it a plain function",
        ),
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

    said = str(caught.value)
    assert said.startswith(f"handlers.modules: {reason}")
    assert said.isprintable()
    assert len(said) < 400


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
        (asyncio.CancelledError(), "CancelledError"),
        (SyntaxError("bad", ("page.html", 1, 1, b"{% if %}")), "SyntaxError: bad (page.html, line 1)"),  # type: ignore[arg-type]
    ],
)
def test_whatever_a_handler_raises_can_be_written(error: BaseException, said: str) -> None:
    """Given an error with a text that no line can hold, one of which Python can make no traceback, or one that would
    end the process, it is a failure as any.
    """

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
