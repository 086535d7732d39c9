"""What an instance does with closed descriptors, lost output and signals, without a broker and a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.machine import patient
from tests.support.process import free_port, wait_until

EX_IOERR = 74
Process = subprocess.Popen[bytes]


@contextmanager
def running(stdout: int, *arguments: str, stderr: int = subprocess.PIPE, closed: str = "") -> Iterator[Process]:
    """An instance whose broker and store are away.

    :param closed: redirections of the shell that close descriptors.
    """
    port = free_port()
    urls = {
        "HA_MONITOR_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{port}//",
        "HA_MONITOR_STORE_URL": f"redis://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "ha_monitor", *(arguments or ("run",))]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=os.environ | urls, stdout=stdout, stderr=stderr
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end_of(process: Process) -> tuple[int, list[str]]:
    """Its exit status, and what it said on standard error."""
    _, said = process.communicate(timeout=patient(60))
    return process.returncode, said.decode().splitlines()


def test_a_closed_standard_output_is_refused() -> None:
    """Given a closed standard output, lines would go into a socket: the instance does not start."""
    with running(subprocess.DEVNULL, closed=">&-") as process:
        status, said = end_of(process)

    assert status == EX_IOERR
    (row,) = said
    assert row.startswith("ha-monitor: standard output is closed, so lines would be lost")


def test_all_descriptors_closed_end_it_without_a_word() -> None:
    """Given no descriptor to say it on, the exit status alone tells."""
    with running(subprocess.DEVNULL, closed="<&- >&- 2>&-") as process:
        assert end_of(process) == (EX_IOERR, [])


def test_a_full_disk_ends_it_with_one_line() -> None:
    """Given a disk without room, the instance ends with one line, and a supervisor starts it again."""
    with Path("/dev/full").open("wb") as full, running(full.fileno()) as process:
        assert end_of(process) == (
            EX_IOERR,
            ["ha-monitor: standard output no longer accepts lines: No space left on device"],
        )


def test_a_reader_that_goes_ends_it_with_one_line() -> None:
    """Given a reader that takes the first line and goes, as head does, the instance ends with one line."""
    reading, writing = os.pipe()
    with running(writing) as process:
        os.close(writing)
        assert os.read(reading, 100).startswith(b'{"timestamp":')
        os.close(reading)
        assert end_of(process) == (EX_IOERR, ["ha-monitor: standard output no longer accepts lines: Broken pipe"])


def test_a_command_on_a_full_disk_ends_with_one_line() -> None:
    """Given a disk without room, a command ends with one line and the same status."""
    with Path("/dev/full").open("wb") as full, running(full.fileno(), "--help") as process:
        assert end_of(process) == (
            EX_IOERR,
            ["ha-monitor: the output cannot be written: No space left on device"],
        )


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGALRM])
def test_a_signal_without_a_meaning_does_not_end_it(number: signal.Signals) -> None:
    """Given a signal that means nothing to it, an instance goes on, and SIGTERM ends it in order."""
    reading, writing = os.pipe()
    with running(writing) as process:
        os.close(writing)
        seen = os.read(reading, 100)
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        while piece := os.read(reading, 4096):
            seen += piece
        assert end_of(process) == (0, [])
    os.close(reading)
    assert b'"event":"instance-stopped"' in seen


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_shows_where_the_threads_are(number: signal.Signals, tmp_path: Path) -> None:
    """Given SIGUSR1 or SIGQUIT, the stacks of all threads are on standard error, and the instance goes on."""
    lines, said = tmp_path / "lines", tmp_path / "said"
    with lines.open("wb") as out, said.open("wb") as err, running(out.fileno(), stderr=err.fileno()) as process:
        wait_until(lambda: "store-unavailable" in lines.read_text(), 30, "the first cycle")
        process.send_signal(number)
        wait_until(lambda: "in run\n" in said.read_text(), 30, "the stack of the loop")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=patient(60)) == 0

    assert "most recent call first" in said.read_text()
    assert '"event":"instance-stopped"' in lines.read_text()
