"""Runs all tests in several sessions of pytest, as many at once as the machine's cores carry.

    python -m tests.side_by_side [option of pytest …]

A session waits for most of its time and takes about a third of a core: two for each core keep it busy. With many more,
each would slow the others down until none gets its time. Each line of theirs is printed as it comes,
behind the session's name, and what failed once more at the end, since a log is read from there. The exit status is 0 if
all passed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from tests.support.machine import machine_load

ROOT = Path(__file__).resolve().parents[1]
SESSIONS = {
    "fleet": ("tests/fleet",),
    "programs": ("tests/acceptance/test_*.py",),
    "package": ("tests/hosts/package",),
    "services": ("tests/integration/test_[a-k]*.py",),
    "stores": ("tests/integration/test_[l-z]*.py", "tests/recording"),
    "faults": ("tests/acceptance/faults",),
    "hosts": ("tests/hosts/test_*.py",),
    "unit": ("tests/unit",),
}
"""Paths and patterns of each, the longest first: what is left at the end is short. One session is no longer than the
longest needs: the integration tests are two.
"""
LONGEST_FAILURE = 700
"""Characters of a failure that are said again."""


class Session:
    """One pytest, with an account of it."""

    def __init__(self, name: str, paths: Iterable[Path], options: list[str]) -> None:
        self.name = name
        self.seconds = 0.0
        self.cpu = 0.0
        """Seconds of a core that it and all its processes took, those of hosts too."""
        self.status: int | None = None
        """Pytest's, once it has ended."""
        self.failures: list[str] = []
        """What pytest's summary says of each test that failed; on CI that is the reason, too."""
        self._command = [sys.executable, "-u", "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}"]
        self._command += [*options, *map(str, paths)]

    def run(self) -> None:
        """Run it to its end."""
        began = time.monotonic()
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            # In one piece, or the sessions would write into each other's lines.
            sys.stdout.write(f"{self.name:<8} | {line}")
            sys.stdout.flush()
            if line.startswith(("FAILED ", "ERROR ")):
                self.failures.append(line.rstrip()[:LONGEST_FAILURE])
        _, status, usage = os.wait4(process.pid, 0)
        self.status = process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds, self.cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime


def files_of(session: str) -> list[Path]:
    """The files and folders of a session."""
    return [path for pattern in SESSIONS[session] for path in sorted(ROOT.glob(pattern))]


class Runner:
    """Runs sessions, the next one when one has ended."""

    def __init__(self, sessions: list[Session], at_once: int) -> None:
        self._waiting = deque(sessions)
        self._threads = [threading.Thread(target=self._run) for _ in range(at_once)]

    def run(self) -> None:
        """Run all. At Ctrl-C, which the sessions hear of as well, those that run tidy up, and no other begins."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt:
                    self._waiting.clear()

    def _run(self) -> None:
        while True:
            try:
                session = self._waiting.popleft()
            except IndexError:
                return
            session.run()


def main(options: list[str]) -> int:
    sessions = [Session(name, files_of(name), options) for name in SESSIONS]
    Runner(sessions, at_once=2 * (os.cpu_count() or 1)).run()
    for session in sessions:
        result = "passed" if session.status == 0 else f"failed (pytest ended with {session.status})"
        sys.stdout.write(
            f"{session.name:<8} | {result} in {session.seconds:.0f} s, {session.cpu:.0f} s of a core's time\n"
        )
    sys.stdout.write(f"machine  | {machine_load()}\n")
    for session in sessions:
        sys.stdout.writelines(f"{session.name:<8} | {failure}\n" for failure in session.failures)
    return 0 if all(session.status == 0 for session in sessions) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
