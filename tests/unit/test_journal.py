"""Lines to journald by its native protocol, read by a socket in its place."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.clock import SystemClock
from ha_monitor.errors import OutputLost
from ha_monitor.outputs.journal import GIVE_UP_AFTER, JournalOutput, is_journal
from ha_monitor.outputs.output import Line
from tests.support.machine import patient
from tests.unit.builders import TurnedClock


class Journald:
    """What journald does with what it receives, as far as the protocol goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def entry(self) -> dict[str, str]:
        """The next entry's fields."""
        room = socket.CMSG_LEN(struct.calcsize("i"))
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, room)
        for _level, _kind, passed in ancillary:
            (descriptor,) = array.array("i", passed)
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.close(descriptor)
        return parse(data)


def parse(data: bytes) -> dict[str, str]:
    fields = {}
    while data:
        head, _, data = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    server = Journald(tmp_path / "socket")
    yield server
    server.socket.close()


def line(text: bytes, **known: str) -> Line:
    return Line(text, known.pop("level", "info"), known.pop("event", "task-succeeded"), **known)


def test_a_line_can_be_found_by_task_and_event(journald: Journald) -> None:
    """Given a line of a task, its entry has the line as its message, and fields to find it by."""
    output = JournalOutput(SystemClock(), str(journald.path))

    known = {"task_id": "u-1", "task_name": "shop.pay", "queue": "mail", "worker": "celery@app1", "root_id": "r-1"}
    output.write([line(b'{"a":1}', level="error", event="task-failed", error_group="6b0677fc10", **known)])

    assert journald.entry() == {
        "SYSLOG_IDENTIFIER": "ha-monitor",
        "PRIORITY": "3",
        "HA_EVENT": "task-failed",
        "HA_TASK_ID": "u-1",
        "HA_TASK_NAME": "shop.pay",
        "HA_QUEUE": "mail",
        "HA_WORKER": "celery@app1",
        "HA_ROOT_ID": "r-1",
        "HA_ERROR": "6b0677fc10",
        "MESSAGE": '{"a":1}',
    }


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")])
def test_the_level_becomes_the_priority(journald: Journald, level: str, priority: str) -> None:
    """Given a level, `journalctl -p` finds the entry under the priority that stands for it."""
    JournalOutput(SystemClock(), str(journald.path)).write([line(b"{}", level=level)])

    assert journald.entry()["PRIORITY"] == priority


def test_a_line_of_the_program_has_no_task(journald: Journald) -> None:
    """Given a line that is about no task, its entry has no fields of one."""
    JournalOutput(SystemClock(), str(journald.path)).write([line(b"{}", event="instance-started")])

    assert {"HA_TASK_ID", "HA_TASK_NAME"}.isdisjoint(journald.entry())


def test_newlines_in_a_name_cannot_forge_a_field(journald: Journald) -> None:
    """Given a task whose name holds a newline and a field, the name stays one value."""
    name = "evil\nPRIORITY=0"

    JournalOutput(SystemClock(), str(journald.path)).write([line(b"{}", task_name=name)])

    entry = journald.entry()
    assert (entry["HA_TASK_NAME"], entry["PRIORITY"]) == (name, "6")


def test_an_entry_too_large_for_a_datagram_arrives_whole(journald: Journald) -> None:
    """Given a line larger than the socket takes at once, it is passed as a sealed memory file."""
    text = json.dumps({"data": "x" * 1_000_000}).encode()

    JournalOutput(SystemClock(), str(journald.path)).write([line(text)])

    assert journald.entry()["MESSAGE"].encode() == text


def test_a_slow_journald_makes_the_writer_wait_and_loses_nothing(journald: Journald) -> None:
    """Given a journald that does not read for a while, all lines are there, in order, when it does."""
    count = 5000
    output = JournalOutput(SystemClock(), str(journald.path))
    writer = threading.Thread(target=output.write, args=([line(b"%d" % number) for number in range(count)],))
    writer.start()
    writer.join(timeout=0.3)
    assert writer.is_alive(), "the socket took everything: nothing was slow"

    received = [int(journald.entry()["MESSAGE"]) for _ in range(count)]

    writer.join(timeout=patient(30))
    assert received == list(range(count))


def test_a_restart_of_journald_loses_nothing(tmp_path: Path) -> None:
    """Given no journald for a moment, a line waits for it."""
    path = tmp_path / "socket"
    output = JournalOutput(SystemClock(), str(path))
    writer = threading.Thread(target=output.write, args=([line(b"{}")],))
    writer.start()
    writer.join(timeout=0.3)
    assert writer.is_alive()

    server = Journald(path)

    assert server.entry()["MESSAGE"] == "{}"
    writer.join(timeout=patient(30))
    server.socket.close()


def test_a_restart_of_journald_loses_no_large_line(journald: Journald, tmp_path: Path) -> None:
    """Given a journald that has restarted, a line larger than the socket takes at once arrives whole."""
    output = JournalOutput(SystemClock(), str(journald.path))
    output.write([line(b"{}")])
    journald.socket.close()
    journald.path.unlink()
    server = Journald(tmp_path / "socket")
    text = json.dumps({"data": "x" * 1_000_000}).encode()

    output.write([line(text)])

    assert server.entry()["MESSAGE"].encode() == text
    server.socket.close()


def test_a_writer_that_fails_takes_nothing_from_another_thread(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two threads that write while journald restarts, of which one fails just as the other has connected, the
    line of that one arrives.
    """
    output = JournalOutput(SystemClock(), str(journald.path))

    class Overtaken(socket.socket):
        """Connected just before another thread gives its own connection up."""

        def connect(self, address: Any) -> None:
            super().connect(address)
            monkeypatch.undo()
            output._close()

    monkeypatch.setattr("ha_monitor.outputs.journal.socket.socket", Overtaken)

    output.write([line(b"1")])

    assert journald.entry()["MESSAGE"] == "1"


def test_a_journald_that_stays_away_is_said(tmp_path: Path) -> None:
    """Given no journald for longer than it restarts, the writer gives up and names the socket."""
    clock = TurnedClock()
    output = JournalOutput(clock, str(tmp_path / "socket"))

    with pytest.raises(OutputLost, match=r"journald accepts no lines at .*socket: No such file or directory"):
        output.write([line(b"{}")])

    assert sum(clock.slept) == pytest.approx(GIVE_UP_AFTER)


class ReadingClock(TurnedClock):
    """Time in which journald takes one datagram at each sleep of the writer."""

    def __init__(self, journald: Journald) -> None:
        super().__init__()
        self._journald = journald
        self.taken: list[bytes] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.taken.append(self._journald.socket.recv(1 << 16))


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_before_the_end_journald_is_given_time_for_each_line(journald: Journald, size: int) -> None:
    """Given a journald that reads late, and lines of which the last is large or not, the writer waits until it has
    taken what comes after them, so that it has looked up whose they are; and no longer.
    """
    clock = ReadingClock(journald)
    output = JournalOutput(clock, str(journald.path))
    output.write([line(b"1"), line(b"2"), line(b"3" * size)])

    output.settle()

    assert [b"MESSAGE=1" in clock.taken[0], b"MESSAGE=2" in clock.taken[1]] == [True, True]
    assert len(clock.taken) == 4
    assert clock.taken[3] == b""


def test_a_full_queue_is_waited_for_at_the_end(journald: Journald) -> None:
    """Given a journald that has more to read than its queue takes, the writer waits at the end all the same."""
    clock = ReadingClock(journald)
    output = JournalOutput(clock, str(journald.path))
    output.write([line(b"{}")])
    behind = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
        other.connect(str(journald.path))
        while True:
            other.send(b"x", socket.MSG_DONTWAIT)
            behind += 1

    output.settle()

    assert behind > 0
    assert [len(clock.taken), clock.taken[-1]] == [1 + behind + 1, b""]


def test_a_journald_that_reads_nothing_does_not_hold_up_the_end(journald: Journald) -> None:
    """Given a journald that hangs, the writer waits for it for a limited time."""
    clock = TurnedClock()
    output = JournalOutput(clock, str(journald.path))
    output.write([line(b"{}")])

    output.settle()

    assert sum(clock.slept) == pytest.approx(GIVE_UP_AFTER, abs=0.1)


def test_a_journald_that_is_gone_is_not_waited_for(journald: Journald) -> None:
    """Given a journald that has taken a line and is gone, or no line at all, the end is not held up."""
    clock = TurnedClock()
    output = JournalOutput(clock, str(journald.path))
    output.settle()
    output.write([line(b"{}")])
    journald.entry()
    journald.socket.close()

    output.settle()

    assert clock.slept == []


def test_only_the_descriptor_that_systemd_named_is_the_journal() -> None:
    """Given JOURNAL_STREAM, a descriptor is the journal if device and inode are those named."""
    with Path(os.devnull).open() as file:
        status = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

        assert is_journal(file.fileno(), named)
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(file.fileno(), {})
