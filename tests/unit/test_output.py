"""Lines to a file descriptor: all of them, in order, whatever the reader does."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ha_monitor.errors import OutputLost
from ha_monitor.outputs.output import CHUNK, Line, StreamOutput


def lines_of(*texts: bytes) -> list[Line]:
    return [Line(text, "info", "task-succeeded") for text in texts]


def read_all(descriptor: int, pause: float = 0.0) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 7000):
        pieces.append(piece)
        time.sleep(pause)
    return b"".join(pieces)


LINES = [b"%d " % number + b"x" * (number % 2000) for number in range(400)] + [b"y" * 3 * CHUNK]
EXPECTED = b"".join(line + b"\n" for line in LINES)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("pause", [0.0, 0.0005])
def test_every_line_arrives_even_if_the_reader_is_slow(blocking: bool, pause: float) -> None:
    """Given a pipe that holds less than is written, blocking or not, the writer waits and nothing is lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    result: list[bytes] = []
    reader = threading.Thread(target=lambda: result.append(read_all(reading, pause)))
    reader.start()
    given = lines_of(*LINES)

    StreamOutput(writing).write(given)
    os.close(writing)
    reader.join(30)
    os.close(reading)

    assert result == [EXPECTED]
    assert given == lines_of(*LINES)


def test_the_lines_of_several_threads_stay_whole() -> None:
    """Given two threads that write more at once than a pipe takes, no line is within another."""
    reading, writing = os.pipe()
    result: list[bytes] = []
    reader = threading.Thread(target=lambda: result.append(read_all(reading)))
    reader.start()
    writer = StreamOutput(writing)
    given = {sign: [sign * 900] * 500 for sign in (b"a", b"b")}

    threads = [threading.Thread(target=lambda lines=lines: writer.write(lines_of(*lines))) for lines in given.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    os.close(writing)
    reader.join(30)
    os.close(reading)

    assert sorted(result[0].splitlines()) == [*given[b"a"], *given[b"b"]]


def test_a_write_that_takes_only_a_part_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a kernel that takes three bytes at a time, the rest follows in order."""
    taken: list[bytes] = []

    def write(descriptor: int, data: memoryview) -> int:
        taken.append(bytes(data[:3]))
        return min(3, len(data))

    monkeypatch.setattr(os, "write", write)
    StreamOutput(1).write(lines_of(b"hello", b"world"))

    assert b"".join(taken) == b"hello\nworld\n"
    assert len(taken) == 4


def test_a_reader_that_is_gone_is_an_error() -> None:
    """Given a pipe that nobody reads any more, the caller gets to know."""
    reading, writing = os.pipe()
    os.close(reading)

    with pytest.raises(OutputLost, match="no longer accepts lines: Broken pipe"):
        StreamOutput(writing).write(lines_of(b"hello"))
    os.close(writing)


def test_a_full_disk_is_an_error() -> None:
    """Given a disk without room, the caller gets to know."""
    full = os.open("/dev/full", os.O_WRONLY)

    with pytest.raises(OutputLost, match="no longer accepts lines: No space left on device"):
        StreamOutput(full).write(lines_of(b"hello"))
    os.close(full)


def test_no_lines_write_nothing() -> None:
    """Given no lines, not even a newline is written."""
    reading, writing = os.pipe()
    StreamOutput(writing).write([])
    os.close(writing)

    assert read_all(reading) == b""
    os.close(reading)
