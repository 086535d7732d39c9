"""Foreign text at a terminal: nothing in it is obeyed, reordered or invisible, and none of it passes for our own."""

from __future__ import annotations

import argparse
import ast
import io
import json
import locale
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcwidth

from ha_monitor.check.findings import ok
from ha_monitor.check.workers import assess_worker
from ha_monitor.cli import check as cli_check
from ha_monitor.cli.bug import LibraryMessages, report_of_thread
from ha_monitor.cli.main import build_parser, main
from ha_monitor.config.schema import Config, LogFormat, LogLevel
from ha_monitor.demo.demo import Demo
from ha_monitor.demo.show import Screen
from ha_monitor.errors import (
    BrokerUnavailable,
    ConfigurationError,
    ServiceMissing,
    StoreUnavailable,
    class_and_reason,
    reason_of,
)
from ha_monitor.events.catalogue import State
from ha_monitor.events.model import Event
from ha_monitor.exit_status import ExitStatus
from ha_monitor.notify import channels
from ha_monitor.notify.channel import Refused
from ha_monitor.outputs.console import console_renderer
from ha_monitor.outputs.line import EventLine, Identity, encode_line, fields_of
from ha_monitor.outputs.log import Threshold, make_logger
from ha_monitor.outputs.output import Line
from ha_monitor.schedules.model import Definition, History, Judgement, Occurrence, Run, ScheduleState, Source
from ha_monitor.service import make_renderer
from ha_monitor.status import fleet as status_fleet
from ha_monitor.status.fleet import Fleet, Instance, Queue
from ha_monitor.status.render import render
from ha_monitor.status.workers import Worker
from ha_monitor.store.dead_letters import DeadLetter, KeptLetter
from ha_monitor.store.error_groups import FailedTask
from ha_monitor.store.incidents import Mark, Notified, Phase, Silence
from ha_monitor.store.outbox import Entry
from ha_monitor.store.queries import Gap
from ha_monitor.store.queue_flow import QueueFlow
from ha_monitor.store.record import Facts
from ha_monitor.store.schedules import KnownSource, ScheduleChanges
from ha_monitor.store.tail import TailEvent
from ha_monitor.supervision import Systemd
from ha_monitor.text.terminal import Painted, Terminal
from ha_monitor.text.visible import ascii_json, columns, padded, shortened, visible, visible_json
from ha_monitor.web import server
from tests.support.machine import patient
from tests.support.sources import nodes_of
from tests.unit.asked import NOW, KeptIncidents, serve, statistic
from tests.unit.asked import group as asked_group
from tests.unit.asked import incident as asked_incident
from tests.unit.asked import task as asked_task
from tests.unit.asked import worker as asked_worker
from tests.unit.builders import TIME, UUID, TurnedClock

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
ROW = "ok       store: Redis 7.2 answers"
HOSTILE = (
    f"a\r\n{ROW}\n\x1b[2J\x1b]0;title\x07\x9b31m\x7f\x00\t\u202eevil\u2066\u2069\u200e\u200f\u061c\u200b\u200d\ufeff"
    "\u2028\u2029\x85\xa0\u3164\u2800\ufe0f\U000e0041\ue000\U000f0000\u0378\udc9b"
)
# Any text, of which a good part is hostile.
texts = st.text(
    st.one_of(st.characters(), st.sampled_from(HOSTILE), st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])),
    max_size=60,
)
OWN_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def unseen(text: str, *, colors: bool = False) -> list[str]:
    """The characters of what was written that a person cannot see, but for the newlines and colours of our own."""
    if colors:
        text = OWN_COLOUR.sub("", text)
    return [
        c for c in text if c not in " \n" and (unicodedata.category(c)[0] in "CZ" or c in "\u3164\u2800\ufe0f\u034f")
    ]


@given(texts)
def test_what_is_made_visible_can_be_seen(text: str) -> None:
    """Given any text, it comes out in one line of characters that can be seen, and stays so."""
    shown = visible(text)

    assert unseen(shown) == []
    assert "\n" not in shown
    assert visible(shown) == shown
    if not unseen(text) and "\n" not in text:
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *(("\x1b[31m", r"\x1b[31m"), ("a\r\nb\tc", r"a\r\nb\tc"), ("\x7f\x9b", r"\x7f\x9b"), ("\u202ex", r"\u202ex")),
        *(("\udc9b", r"\udc9b"), ("\U000e0041", r"\U000e0041"), ("Grüße, 東京 ✓ 😀", "Grüße, 東京 ✓ 😀")),
    ],
)
def test_how_it_is_written_out(text: str, shown: str) -> None:
    """Given a character that cannot be seen, it is written as Python writes it; letters of all scripts stay."""
    assert visible(text) == shown


@given(texts)
def test_json_says_the_same_and_can_be_looked_at(text: str) -> None:
    """Given any text, the JSON of it has no character that cannot be seen, and a program reads the same from it."""
    data = msgspec.json.encode({"a": text.encode("utf-8", "replace").decode()})

    assert unseen(visible_json(data).decode()) == []
    assert json.loads(visible_json(data)) == json.loads(ascii_json(data)) == json.loads(data)
    assert ascii_json(data).isascii()


def test_columns_are_those_of_a_terminal() -> None:
    """Given letters of two columns and marks of none, a text is padded and cut by what it takes of a row."""
    assert (columns("abc"), columns("東京"), columns("e\u0301")) == (3, 4, 1)
    # Letters that need no table are as wide as its own says.
    shown = [letter for code in range(0x11000) if visible(letter := chr(code)) == letter]
    assert [letter for letter in shown if columns(letter) != max(0, wcwidth(letter))] == []
    assert padded("東", 4) == "東  "
    assert shortened("東京都", 5) == "東京…"


# --- every command -------------------------------------------------------------------------------


def fleet(text: str) -> Fleet:
    number = 1.0
    instance = Instance(
        text, text, 1, text, True, text, True, number, number, number, 1, 1, number, text, 1, {"state": text}
    )
    worker = Worker(text, number, text, text, text, [text], text)
    queue = Queue(text, problem=text)
    return Fleet(text, text, [instance, instance], queue, [worker, worker], *[0] * 8)


def status(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> int:
    monkeypatch.setattr(status_fleet, "read_fleet", lambda *_: fleet(text))
    return main(["status", *arguments])


def check(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    found = [ok(text, text), assess_worker(text, None, answers=False, enable_events=False)]
    monkeypatch.setattr(cli_check, "_findings", lambda *_, **__: found)
    return main(["check", "--online"])


def demo(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    def run(self: Demo) -> None:
        fields = {"timestamp": text, "level": text, "instance": text, "event": text, "task_name": text}
        self._screen.line({**fields, "task_id": text, "exception": text})
        self._screen.line({**fields, text: text, "data": {text: [text]}})
        self._screen.note(text)
        self._screen.plain(text)
        raise ServiceMissing(text)

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(Demo, "run", run)
    return main(["demo"])


def failing(error: type[Exception]) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        def fail(*_: Any, **__: Any) -> None:
            raise error(text)

        monkeypatch.setattr(status_fleet, "read_fleet", fail)
        return main(["status"])

    return run


def usage(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([f"x{text}"])
    return int(ended.value.code or 0)


def option(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    return main(["units", f"--prefix={text}"])


def asking(*arguments: str) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        known = text.encode("utf-8", "replace").decode()
        texts: dict[str, Any] = dict.fromkeys(
            ("name", "queue", "worker", "exception", "root_id", "parent_id", "args"), known
        )
        tasks = [asked_task(f"t{known}", State.STARTED, **texts), asked_task(known, State.FAILURE, **texts)]
        said = dict.fromkeys(("name", "error_class", "place", "message", "traceback"), known)
        groups = [asked_group("9a", tasks=(FailedTask(known, NOW),), **said)]
        workers, runs = [asked_worker(known), asked_worker("a", known)], [(NOW - 9, statistic(known, 1, 1))]
        flows = {known: QueueFlow(3, 1, 1, 2.0)}
        more = {"groups": groups, "runs": runs, "flows": flows}
        serve(monkeypatch, *tasks, workers=workers, gaps=[Gap(known, 1, 9e9)], **more)
        return main([*arguments])

    return run


def letters(*arguments: str) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        known = text.encode("utf-8", "replace").decode()
        event = {"id": known, "type": known, "task_id": known}
        texts = dict.fromkeys(("time", "handler", "error", "traceback", "instance", "host"), known)
        letter = DeadLetter(**texts, event=event, task={"name": known}, attempts=1, entry=b"x")
        serve(monkeypatch, letters=[KeptLetter("id", letter, b"")])
        return main(["dead-letters", *arguments])

    return run


def of_incidents(*arguments: str) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        known = text.encode("utf-8", "replace").decode()
        texts = dict.fromkeys(("kind", "key", "summary", "command", "cause"), known)
        one = asked_incident(known, phase=Phase.PENDING, told={known: Notified(NOW)}, **texts)
        silence = Silence(known, known, known, NOW + 9, NOW, known)
        kept = KeptIncidents(one, silences=[silence], marks=[Mark(known, NOW)])
        serve(monkeypatch, incidents=kept)
        return main([*arguments])

    return run


def of_schedules(*arguments: str) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        known = text.encode("utf-8", "replace").decode()
        texts: dict[str, Any] = dict.fromkeys(
            ("name", "task", "timetable", "zone", "app", "queue", "problem", "differs"), known
        )
        definition = Definition(**texts, source=Source.CONF, arguments=known)
        run = Run(task_id=known, sent=NOW, started=NOW, ended=NOW, state=known, producer=known, queue=known)
        due = Occurrence(due=NOW, state=ScheduleState.MISSED, run=run, again=(run,))
        history = History(known, known, known, NOW, occurrences=(due,), next_due=NOW, missed=2, producers=(known,))
        one = Judgement(definition, ScheduleState.MISSED, history, why=known, last=due, beat=known)
        sources = {Source.CONF: KnownSource((definition,), 0.0, known)}
        serve(monkeypatch, schedules=ScheduleChanges([one], sources=sources))
        return main(["schedules", *arguments])

    return run


def of_regular(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    regular = [asked_task(f"t{n}", at=NOW - 60 * n, name=text) for n in range(20)]
    serve(monkeypatch, *regular, schedules=ScheduleChanges())
    return main(["schedules", "--learned"])


def tailing(*arguments: str) -> Callable[[pytest.MonkeyPatch, str], int]:
    def run(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
        known = text.encode("utf-8", "replace").decode()
        fields = {"exception": known, "reason": known}
        facts = Facts(name=known, queue=known, worker=known, root_id=known)
        entries = [
            Entry(0, Event("task-failed", known, known, NOW, known, fields), facts, False),
            Entry(0, Event(known, f"{known}2", known, NOW, None, fields), None, False),
            Entry(0, Event(known, f"{known}3", known, NOW, f"{known}t", fields), facts, False),
        ]
        who = {"instance": known, "host": known}
        serve(monkeypatch, shown=[[TailEvent(entry, NOW, who) for entry in entries]])
        count = "2" if "ids" in arguments else "3"
        return main(["tail", "-n", count, *arguments])

    return run


def notifying(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    class Hostile:
        def deliver(self, message: Any, deadline: Any) -> str:
            raise Refused(text)

    monkeypatch.setenv("HA_MONITOR_NOTIFY_CHANNELS", '{"chat": {"type": "webhook", "url": "http://h/"}}')
    monkeypatch.setattr(channels, "make_channel", lambda *_: Hostile())
    return main(["notify", "test"])


def paging(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    def taken(*_: Any, **__: Any) -> None:
        raise server.AddressTaken(text)

    monkeypatch.setattr(server, "WebServer", taken)
    return main(["web"])


def naming(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    serve(monkeypatch)
    return main(["task", f"x{text}"])


def filtering(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    return main(["tasks", f"x{text}=1"])


COMMANDS: dict[str, tuple[Callable[..., int], int]] = {
    "status": (status, ExitStatus.FAILURE),
    "status --json": (lambda patch, text: status(patch, text, "--json"), ExitStatus.FAILURE),
    "check": (check, ExitStatus.OK),
    "demo": (demo, ExitStatus.FAILURE),
    "units": (option, ExitStatus.CONFIGURATION),
    "tasks": (asking("tasks", "-o", "wide"), ExitStatus.OK),
    "tasks -o json": (asking("tasks", "-o", "json"), ExitStatus.OK),
    "tasks -o ids": (asking("tasks", "-o", "ids"), ExitStatus.OK),
    "task": (asking("task", "t", "--tree"), ExitStatus.OK),
    "errors": (asking("errors", "-o", "wide"), ExitStatus.OK),
    "one group": (asking("errors", "9a"), ExitStatus.OK),
    "an unknown group": (lambda patch, text: asking("errors", f"x{text}")(patch, text), ExitStatus.FAILURE),
    "names": (asking("names"), ExitStatus.OK),
    "tail": (tailing(), ExitStatus.OK),
    "tail -o jsonl": (tailing("-o", "jsonl"), ExitStatus.OK),
    "tail -o ids": (tailing("-o", "ids"), ExitStatus.OK),
    "queues": (asking("queues"), ExitStatus.OK),
    "queues NAME": (asking("queues", "*"), ExitStatus.OK),
    "queues -o json": (asking("queues", "*", "-o", "json"), ExitStatus.OK),
    "workers": (asking("workers"), ExitStatus.OK),
    "dead-letters": (letters("-o", "wide"), ExitStatus.OK),
    "dead-letters ID": (letters("id"), ExitStatus.OK),
    "dead-letters --retry": (letters("id", "--retry"), ExitStatus.OK),
    "problems": (of_incidents("problems"), ExitStatus.OK),
    "problems -o wide": (of_incidents("problems", "-o", "wide"), ExitStatus.OK),
    "problems -o json": (of_incidents("problems", "-o", "json"), ExitStatus.OK),
    "schedules": (of_schedules(), ExitStatus.OK),
    "schedules -o wide": (of_schedules("-o", "wide"), ExitStatus.OK),
    "schedules -o json": (of_schedules("*", "-o", "json"), ExitStatus.OK),
    "schedules -o toml": (of_schedules("-o", "toml"), ExitStatus.OK),
    "schedules NAME": (of_schedules("*"), ExitStatus.OK),
    "schedules --learned": (of_regular, ExitStatus.OK),
    "an unknown schedule": (lambda patch, text: of_schedules(f"x{text}")(patch, text), ExitStatus.FAILURE),
    "silence": (of_incidents("silence", "--list"), ExitStatus.OK),
    "silence --end": (
        lambda patch, text: of_incidents("silence", "--end", f"x{text}")(patch, text),
        ExitStatus.FAILURE,
    ),
    "silence KIND": (lambda patch, text: of_incidents("silence", f"x{text}", "1h")(patch, text), ExitStatus.USAGE),
    "deploy": (of_incidents("deploy", "list"), ExitStatus.OK),
    "deploy mark": (lambda patch, text: of_incidents("deploy", "mark", f"x{text}")(patch, text), ExitStatus.OK),
    "notify": (notifying, ExitStatus.FAILURE),
    "web": (paging, ExitStatus.UNAVAILABLE),
    "completion": (lambda patch, text: main(["completion", "bash"]), ExitStatus.OK),
    "an unknown id": (naming, ExitStatus.FAILURE),
    "a wrong filter": (filtering, ExitStatus.USAGE),
    "a wrong command": (usage, ExitStatus.USAGE),
    "a wrong configuration": (failing(ConfigurationError), ExitStatus.CONFIGURATION),
    "no store": (failing(StoreUnavailable), ExitStatus.UNAVAILABLE),
    "a bug": (failing(RuntimeError), ExitStatus.SOFTWARE),
}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HA_MONITOR_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("plain")
def test_no_command_writes_what_a_terminal_would_obey(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a hostile text wherever a command shows one, it is written out, and no row of it looks like our own."""
    call, expected = COMMANDS[name]
    text = HOSTILE if name != "status --json" else HOSTILE.encode("utf-8", "replace").decode()

    assert call(monkeypatch, text) == expected

    written = "".join(capsys.readouterr())
    assert written.strip()
    assert unseen(written) == []
    assert [row for row in written.splitlines() if row.startswith("ok       store")] == []


one_parser = cache(build_parser)
"""To make one takes longer than what most commands do here."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("a wrong command", "units")])
@pytest.mark.usefixtures("plain")
def test_no_text_at_all_gets_through_a_command(name: str) -> None:
    """Given any text, what a command writes has no character that cannot be seen but newlines."""
    call, _ = COMMANDS[name]

    @settings(max_examples=25)
    @given(texts)
    def shown(text: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", out)
            patch.setattr(sys.modules["ha_monitor.cli.main"], "build_parser", one_parser)
            call(patch, text if name != "status --json" else text.encode("utf-8", "replace").decode())
            out.seek(0)
            assert unseen(out.read()) == []

    shown()


def test_the_columns_of_status_stand_below_each_other() -> None:
    """Given names that take more or less room than they have letters, the columns are as wide as what is seen."""
    found = fleet("x")
    found.workers = [Worker(name, 1.0, "online") for name in ("東京@a", "evil\x1b[31m", "e\u0301@b")]

    rows = [row for row in render(found) if "online" in row]

    assert len({columns(row[: row.index("online")]) for row in rows}) == 1


# --- lines, STATUS= and errors --------------------------------------------------------------------


def line(text: str) -> EventLine:
    known = EventLine("2026-11-25T06:59:14.125106Z", "error", text, "shop", "1", "host", 7, "e", None, text)
    known.task_id, known.task_name, known.queue, known.data = UUID, text, text, {text: [text]}
    known.exception = known.traceback = text
    return known


@given(texts)
def test_a_line_for_people_is_one_row_and_what_follows_is_indented(text: str) -> None:
    """Given any text in the fields of a line, only our own newlines and colours are in it."""
    for colors in (False, True):
        shown = console_renderer(colors=colors)(fields_of(line(text))).decode()

        assert unseen(shown, colors=colors) == []
        assert [row for row in shown.split("\n")[1:] if row.strip() and not row.startswith("    ")] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "task_name=plain "),
        ("two words", "task_name='two words' "),
        ("red\x1b[31m", r"task_name=red\x1b[31m "),
        ("a red\x1b[31m\nword", r"task_name='a red\x1b[31m\nword' "),
        ("it's", 'task_name="it\'s" '),
        ("""it's "so\"""", r"""task_name='it\'s "so"' """),
    ],
)
def test_a_field_for_people_is_written_out_once(text: str, shown: str) -> None:
    """Given a text with or without blanks, quotation marks and controls, each control is written out, with one
    backslash."""
    known = line("x")
    known.task_name = text

    assert shown in console_renderer(colors=False)(fields_of(known)).decode()


@given(texts)
def test_a_line_of_json_can_be_looked_at(text: str) -> None:
    """Given any text that JSON can hold, in lines of events and of the program, nothing unseen is in them."""
    text = text.encode("utf-8", "replace").decode()
    written: list[Line] = []

    class Output:
        def write(self, lines: list[Line]) -> None:
            written.extend(lines)

    identity, clock = Identity("shop", "1", "host", 7), TurnedClock(TIME)
    logger = make_logger(
        output=Output(), identity=identity, clock=clock, threshold=Threshold(LogLevel.DEBUG), scrub=lambda one: one
    )
    logger.error("x", reason=text, names=[text])

    for encoded in (encode_line(line(text)), written[0].text):
        assert unseen(encoded.decode()) == []
    assert json.loads(encode_line(line(text)))["exception"] == text
    assert json.loads(written[0].text)["names"] == [text]


def test_what_systemd_is_told_is_one_message(tmp_path: Path) -> None:
    """Given a reason with newlines, systemd gets a status and no message that somebody else made."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            Systemd(os.environ, TurnedClock()).status(f"waiting: {HOSTILE}\nMAINPID=1".replace("\udc9b", ""))
        told = listening.recv(10_000).decode()

    assert told.startswith("STATUS=waiting: a\\r\\n")
    assert unseen(told) == []
    assert "\n" not in told


def test_the_reason_of_an_error_is_one_visible_line_without_secrets() -> None:
    """Given a foreign exception, hostile, with a password that would be cut in two, or without a text, it is told."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert unseen(reason_of(BrokerUnavailable(HOSTILE))) == []
    assert "hunter2" not in reason_of(OSError("x" * 270 + " amqp://user:hunter2" + "y" * 60 + "@host"))
    assert reason_of(Mute()) == "Mute"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (TimeoutError(), "TimeoutError"),
        (TimeoutError(" \n"), "TimeoutError"),
        (TimeoutError("no answer"), "TimeoutError: no answer"),
        (KeyError("TimeoutError"), "KeyError: 'TimeoutError'"),
    ],
)
def test_the_class_of_an_exception_without_a_text_is_said_once(error: Exception, shown: str) -> None:
    """Given an unexpected exception, when it is reported, then its class is named once, before its text if any."""
    assert class_and_reason(error) == shown


def test_no_module_puts_class_and_reason_together_by_itself() -> None:
    """Given the program's texts, none has both the class and the reason of an exception: where an exception has no
    text, its reason is its class."""
    found = [
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        for node in nodes_of(path)
        if isinstance(node, ast.JoinedStr) and ".__name__" in ast.unparse(node) and "reason_of(" in ast.unparse(node)
    ]

    assert found == []


def test_no_module_tells_a_foreign_exception_as_it_is() -> None:
    """Given the program's texts, each that has the class of an exception has its reason, not its raw text."""

    def named(text: ast.JoinedStr) -> set[str]:
        shown = [ast.unparse(part.value) for part in text.values if isinstance(part, ast.FormattedValue)]
        return {name for name in shown if f"type({name}).__name__" in shown}

    found = {
        f"{path.relative_to(PACKAGE)}: {named(node)}"
        for path in PACKAGE.rglob("*.py")
        for node in nodes_of(path)
        if isinstance(node, ast.JoinedStr) and named(node)
    }

    assert found == set()


def test_an_error_that_ends_a_thread_is_told_visibly_and_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a thread that ends with a hostile text, standard error has it written out and indented."""

    def fail() -> None:
        raise RuntimeError(f"{HOSTILE} redis://:hunter2@h/0")

    monkeypatch.setattr(threading, "excepthook", report_of_thread)
    thread = threading.Thread(target=fail, name="survey")
    thread.start()
    thread.join()

    written = capsys.readouterr().err
    assert written.startswith("ha-monitor: this is a bug in the thread survey:\n    Traceback")
    assert unseen(written) == []
    assert "hunter2" not in written
    assert [row for row in written.splitlines()[1:] if not row.startswith("    ")] == []


def test_what_a_library_complains_of_is_told_visibly(capsys: pytest.CaptureFixture[str]) -> None:
    """Given a warning of a library with a hostile text and a password, it is one row without either."""
    record = logging.LogRecord("kombu", logging.WARNING, "x.py", 1, "%s redis://:hunter2@h/0", (HOSTILE,), None)

    LibraryMessages().handle(record)

    written = capsys.readouterr().err
    assert written.startswith("ha-monitor: kombu: a\\r\\n")
    assert unseen(written) == []
    assert written.count("\n") == 1
    assert "hunter2" not in written


# --- terminals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "iso8859-15", "cp1252"])
def test_a_terminal_that_has_not_all_characters_gets_what_it_has(encoding: str) -> None:
    """Given an encoding of 8 bits, what it has stays, the rest is written out, and no byte is a control."""
    written = io.BytesIO()
    terminal = Terminal(io.TextIOWrapper(written, encoding=encoding), colors=True)

    terminal.row("── Grüße 東京 █ …", Painted("→", "31"))
    terminal.json('{"a": "東京\u202e"}'.encode())

    shown = written.getvalue().decode(encoding)
    assert "\\u6771" in shown
    assert shown.startswith("-- Gr")
    assert unseen(shown, colors=True) == []
    assert json.loads(shown.splitlines()[1]) == {"a": "東京\u202e"}


@pytest.mark.parametrize("name", ["C", "C.UTF-8"])
def test_a_real_terminal_in_a_locale_without_unicode_gets_ascii(name: str) -> None:
    """Given LC_ALL=C, Python writes UTF-8, whose second bytes such a terminal obeys: there it gets ASCII alone."""
    master, slave = pty.openpty()
    program = (
        "from ha_monitor.text.terminal import standard_output as out;"
        "out().row('Û\\x1b ─'); out().json(b'\"\\xc3\\x9b\"')"
    )
    environment = {**os.environ, "LC_ALL": name}
    subprocess.run([sys.executable, "-c", program], stdout=slave, env=environment, check=True, timeout=patient(60))
    os.close(slave)
    shown = os.read(master, 1000)
    os.close(master)

    expected = b'\\xdb\\x1b -\r\n"\\u00db"\r\n' if name == "C" else 'Û\\x1b ─\r\n"Û"\r\n'.encode()
    assert shown == expected


@pytest.mark.parametrize("form", LogFormat)
def test_lines_fit_a_terminal_without_unicode(form: LogFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an instance in the foreground of a terminal that has ASCII only, its lines are ASCII; in a pipe, UTF-8."""
    master, slave = pty.openpty()
    reading, writing = os.pipe()
    monkeypatch.setattr(locale, "getencoding", lambda: "ANSI_X3.4-1968")

    at_terminal, in_pipe = (make_renderer(form, descriptor, {}) for descriptor in (slave, writing))
    for descriptor in (master, slave, reading, writing):
        os.close(descriptor)

    assert at_terminal is not None
    assert at_terminal(fields_of(line("東京\u202e"))).isascii()
    assert (in_pipe is None) is (form is LogFormat.JSON)
    if in_pipe is not None:
        assert "東京\\u202e" in in_pipe(fields_of(line("東京\u202e"))).decode()


def test_nothing_but_one_module_writes_to_a_terminal() -> None:
    """Given all modules, none writes to standard output or error by itself: a new command cannot forget it."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "text/terminal.py":
            continue
        asked = {id(node.value) for node in nodes_of(path) if isinstance(node, ast.Attribute) and node.attr in ALLOWED}
        compared = {id(side) for node in nodes_of(path) if isinstance(node, ast.Compare) for side in node.comparators}
        for node in nodes_of(path):
            if not isinstance(node, ast.Attribute | ast.Name):
                continue
            named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys"
            named &= isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
            printed = isinstance(node, ast.Name) and node.id == "print"
            if printed or (named and id(node) not in asked | compared):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")

    assert wrong == []


ALLOWED = ("isatty", "fileno")
"""What may be asked of the streams."""


def test_the_demo_cuts_by_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a terminal of 80 columns and a name that takes more, the row is no wider."""
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen(Terminal(sys.stdout), cut=True)

    screen.line({"event": "task-failed", "instance": "1", "task_id": UUID, "task_name": "東\x1b" * 60})

    assert columns(capsys.readouterr().out.rstrip("\n")) <= 80


def test_the_arguments_are_those_of_the_command_line() -> None:
    """Given the commands above, each command of the program is among them but `run`, whose lines are tested as such."""
    parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))

    assert set(commands.choices) - {"run"} <= set(COMMANDS)
    assert Config().log.level
