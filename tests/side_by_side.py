"""Runs all tests in several sessions of pytest at once, since each waits for most of its time.

    python -m tests.side_by_side [option of pytest …]

Each line of theirs is printed as it comes, behind the session's name, and what failed once more at the end, since a
log is read from there. The exit status is 0 if all passed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

SESSIONS = {
    "services": ("tests/unit", "tests/integration", "tests/recording"),
    "programs": ("tests/acceptance",),
    "hosts": ("tests/hosts",),
    "fleet": ("tests/fleet",),
}
LONGEST_FAILURE = 700
"""Characters of a failure that are said again."""


class Session:
    """One pytest, with an account of it."""

    def __init__(self, name: str, paths: tuple[str, ...], options: list[str]) -> None:
        self.name = name
        command = [sys.executable, "-u", "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}", *options, *paths]
        self._began = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.seconds = 0.0
        self.failures: list[str] = []
        """What pytest's summary says of each test that failed; on CI that is the reason, too."""
        self._reader = threading.Thread(target=self._print_lines)
        self._reader.start()

    def wait(self) -> int:
        """Wait for its end; returns its exit status."""
        while True:
            try:
                self._reader.join()
                return self._process.wait()
            except KeyboardInterrupt:
                continue  # it heard of it, too, and tidies up

    def _print_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # In one piece, or the sessions would write into each other's lines.
            sys.stdout.write(f"{self.name:<8} | {line}")
            sys.stdout.flush()
            if line.startswith(("FAILED ", "ERROR ")):
                self.failures.append(line.rstrip()[:LONGEST_FAILURE])
        self.seconds = time.monotonic() - self._began


def main(options: list[str]) -> int:
    sessions = [Session(name, paths, options) for name, paths in SESSIONS.items()]
    statuses = {session.name: session.wait() for session in sessions}
    for session in sessions:
        status = statuses[session.name]
        result = "passed" if status == 0 else f"failed (pytest ended with {status})"
        sys.stdout.write(f"{session.name:<8} | {result} in {session.seconds:.0f} s\n")
    for session in sessions:
        sys.stdout.writelines(f"{session.name:<8} | {failure}\n" for failure in session.failures)
    return 1 if any(statuses.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
