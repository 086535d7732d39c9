"""The completions in real shells at a terminal: what <Tab> makes of a word is what the program is given."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.process import wait_for_value, wait_until

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOADS = {
    "bash": "source {folder}/_ha-monitor",
    "zsh": "unsetopt beep; LISTMAX=0; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D",
    "fish": "source {folder}/_ha-monitor",
}
NAMES = ("shop.pay", "odd $(touch x) 'b'", r"mail\,send")
PROGRAM = f"""#!/bin/sh
if [ "$1 $2" = "completion --values" ]; then
    case $3 in
        name) printf '%s\\n' {shlex.join(NAMES)} ;;
        worker) echo celery@app1 ;;
        error) echo 0f3c52a9be ;;
    esac
else
    {{ printf '%s\\n' "$@"; echo .; }} >>given
fi
"""


@contextmanager
def terminal(shell: str, folder: Path) -> Iterator[int]:
    """A shell at a terminal of its own, that has the completion; what is written there is typed."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    program = folder / "ha-monitor"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    shutil.copy(PACKAGING / f"ha-monitor.{shell}-completion", folder / "_ha-monitor")
    child, typed = pty.fork()
    if not child:  # pragma: no cover
        os.chdir(folder)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8"}
        os.execvpe(STARTS[shell][0], STARTS[shell], environment)

    def read() -> None:
        # A terminal that nobody reads takes no more after a while.
        with suppress(OSError):
            while os.read(typed, 65536):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        os.write(typed, f"{LOADS[shell].format(folder=shlex.quote(str(folder)))}; ha-monitor ready\r".encode())
        wait_for_value(lambda: given(folder), [["ready"]], 60, f"{shell} to be ready")
        yield typed
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reader.join(10)
        os.close(typed)


def given(folder: Path) -> list[list[str]]:
    """The words that the program was given, each time."""
    path = folder / "given"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [call.splitlines() for call in text.split("\n.\n")[:-1]]


def is_given(folder: Path, times: int) -> bool:
    """Whether the program was called so often."""
    return len(given(folder)) >= times


@pytest.mark.thorough
@pytest.mark.parametrize("shell", STARTS)
def test_a_completed_word_reaches_the_program_as_it_is(shell: str, tmp_path: Path) -> None:
    """Given words that are typed half, when <Tab> and Return are pressed, the program is given commands, flags, fields,
    states, and names with characters that the shell obeys; nothing of a name is run, and where nothing is known, the
    word stays as it was typed.
    """
    expected = {
        "ha-monitor work": ["workers"],
        "ha-monitor tasks --fol": ["tasks", "--follow"],
        "ha-monitor tasks -o w": ["tasks", "-o", "wide"],
        "ha-monitor tasks state=FA": ["tasks", "state=FAILURE"],
        "ha-monitor tasks state=FAILURE,REC": ["tasks", "state=FAILURE,RECEIVED"],
        "ha-monitor tasks state!=o": ["tasks", "state!=open"],
        "ha-monitor tasks incomplete=y": ["tasks", "incomplete=yes"],
        "ha-monitor tasks worker=cel": ["tasks", "worker=celery@app1"],
        "ha-monitor tasks state=open name=sh": ["tasks", "state=open", "name=shop.pay"],
        "ha-monitor tasks name=odd": ["tasks", f"name={NAMES[1]}"],
        "ha-monitor tasks name=shop.pay,ma": ["tasks", rf"name=shop.pay,{NAMES[2]}"],
        "ha-monitor names odd": ["names", NAMES[1]],
        "ha-monitor workers cel": ["workers", "celery@app1"],
        "ha-monitor errors 0f": ["errors", "0f3c52a9be"],
        "ha-monitor silence worker-l": ["silence", "worker-lost"],
        "ha-monitor notify t": ["notify", "test"],
        "ha-monitor queues m": ["queues", "m"],
        "ha-monitor schedules c": ["schedules", "c"],
    }
    with terminal(shell, tmp_path) as typed:
        for number, (half, words) in enumerate(expected.items(), 2):
            os.write(typed, f"{half}\t\r".encode())
            wait_until(partial(is_given, tmp_path, number), 30, half)
            assert given(tmp_path)[-1] == words

    assert not (tmp_path / "x").exists(), "a value was run as a command"
