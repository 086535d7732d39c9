"""Runs all tests in several sessions of pytest, as many at once as the machine's cores carry, and the simulation.

    python -m tests.side_by_side [option of pytest …]

What some of them stand on, such as packages and hosts, is made meanwhile: they begin when it is there.
A session takes between a tenth and a whole of a core: four to six keep two cores busy, or eight where others want them
as well, and none is left alone at the end. What they leave is for the simulation, from the beginning: it waits for
nothing. Each line of theirs is printed as it comes, behind the session's name, and what failed once more at the end,
since a log is read from there. The exit status is 0 if all passed.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support.hosts.image import cache_folder
from tests.support.machine import are_others_busy, is_loaded, machine_load

ROOT = Path(__file__).resolve().parents[1]
SESSIONS = {
    "fleet": tuple(f"tests/fleet/test_{name}.py" for name in ("install", "scale", "upgrade")),
    "package": ("tests/hosts/package",),
    "outages": tuple(f"tests/fleet/test_{name}.py" for name in ("refusals", "outages")),
    "settings": tuple(f"tests/fleet/test_{name}.py" for name in ("configuration", "pip", "uninstall")),
    "workers": ("tests/acceptance/test_[s-z]*.py",),
    "beats": ("tests/integration/test_beat.py",),
    "faults": ("tests/acceptance/faults",),
    "programs": ("tests/acceptance/test_[a-r]*.py",),
    "losses": ("tests/integration/test_[l-p]*.py",),
    "stores": ("tests/integration/test_[q-z]*.py", "tests/recording"),
    "services": ("tests/integration/test_[ac-e]*.py", "tests/integration/test_b[a-df-z]*.py"),
    "browser": ("tests/browser",),
    "keys": ("tests/integration/test_[f-k]*.py",),
    "hosts": ("tests/hosts/test_*.py",),
    "unit": ("tests/unit",),
}
"""Paths and patterns of each, those first that take long, or mostly wait: what is left at the end is short, and keeps
the cores busy. One session is no longer than the longest needs: the integration tests are five, those of the fleet and
the acceptance tests three each.
"""
OPTIONS = {"beats": ("-n", "2"), "unit": ("-n", "2")}
"""Options of pytest for a session. Beats wait for what is due: one after the other they would take as long as all. The
unit tests wait for nothing, and would keep one core busy while the other is idle.
"""
PREPARED = ("fleet", "package", "settings", "outages", "browser", "programs", "hosts")
"""Sessions that need what `make prepare-tests` makes."""
PREPARE = "prepare"
TYPES, LINT = "types", "lint"
WORLDS = "worlds"
SEEDS = 10_000
"""Simulated worlds that are run."""
FIRST = (PREPARE, "fleet")
"""What most sessions stand on, and the first one that then can begin: they begin even while the machine is busy. The
others leave them the cores, unless other programs want these as well."""
AT_ONCE = 3
"""Jobs for each core at most."""
AT_LEAST = 2
"""Jobs for each core that run even on a busy machine. On one, more jobs end no earlier, and their tests wait longer for
a core."""
BUSY = 3.0
"""Load per core at which a machine is busy, without the simulated worlds, which leave the cores to the others."""
BESIDE_OTHERS = 4
"""Jobs for each core if other programs have work for all cores, which would leave fewer jobs too little."""
LOWER = 2
"""By how much the priority of the other sessions is lower (nice) than that of the first ones. Beside other programs,
all have the usual one."""
LOWEST = 19
"""By how much that of the simulated worlds is: they get what the sessions leave."""
LONGEST_FAILURE = 700
"""Characters of a failure that are said again."""


class Job:
    """One process, with an account of it."""

    def __init__(self, name: str, command: Iterable[str], after: Job | None = None) -> None:
        """:param after: it is run once that one has succeeded."""
        self.name = name
        self.after = after
        self.lower = 0
        """By how much its priority is lower than this process's (nice)."""
        self.seconds = 0.0
        self.cpu = 0.0
        """Seconds of a core that it and all its processes took, those of hosts too."""
        self.status: int | None = None
        """The exit status, once it has ended."""
        self.ended = False
        """Whether it has ended, or will not be run."""
        self.failures: list[str] = []
        """What pytest's summary says of each test that failed; on CI that is the reason, too."""
        self._command = list(command)

    def run(self) -> None:
        """Run it to its end."""
        began = time.monotonic()
        process = self._start()
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

    def _start(self, **options: Any) -> subprocess.Popen[str]:
        command = ["nice", "-n", str(self.lower), *self._command] if self.lower else self._command
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


class Session(Job):
    """One pytest."""

    def __init__(self, name: str, paths: Iterable[Path], options: list[str], after: Job | None = None) -> None:
        command = [sys.executable, "-u", "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}"]
        super().__init__(name, [*command, *options, *map(str, paths)], after)


class Worlds(Job):
    """The fleet in simulated worlds. They need no time but that of a core, which the others have first."""

    PROGRAM: tuple[str, ...] = (sys.executable, "-m", "tests.simulation")

    def __init__(self, seeds: range) -> None:
        self.seeds = seeds
        parts = (f"--first={seeds.start}", f"--seeds={len(seeds)}")
        super().__init__(WORLDS, [*self.PROGRAM, *parts])
        self._process: subprocess.Popen[str] | None = None
        self._is_hurried = self._is_stopped = False

    def stop(self) -> None:
        """End it, now or as soon as it has begun: it does not hear of Ctrl-C."""
        self._is_stopped = True
        if self._process is not None and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                # Not by Popen.terminate: it would take the exit status, for which `run` waits.
                os.kill(self._process.pid, signal.SIGTERM)

    def hurry(self) -> None:
        """Give it, now or as soon as it has begun, as much of the cores as other programs have, which would leave it
        nothing on a busy machine: no session wants them any more. Only root may.
        """
        self._is_hurried = True
        if self._process is not None and self.status is None:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, 0)
                Path(f"/proc/{self._process.pid}/autogroup").write_text("0\n")

    def _start(self, **options: Any) -> subprocess.Popen[str]:
        # Where the kernel shares the cores out among sessions of processes (autogroup), those that the tests start have
        # their own each, and a low priority counts within this one only.
        # Not by `nice`, which would lower it when it runs, perhaps after `hurry`.
        process = super()._start(start_new_session=True, preexec_fn=lambda: os.nice(LOWEST), **options)
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(f"{LOWEST}\n")
        self._process = process
        # It may have worked for long before this thread has a core again.
        if self._is_hurried:
            self.hurry()
        if self._is_stopped:
            self.stop()
        return process


def all_worlds(parts: int) -> list[Worlds]:
    """A part for each process."""
    return [Worlds(range(SEEDS)[part * SEEDS // parts : (part + 1) * SEEDS // parts]) for part in range(parts)]


def files_of(session: str) -> list[Path]:
    """The files and folders of a session."""
    return [path for pattern in SESSIONS[session] for path in sorted(ROOT.glob(pattern))]


class Runner:
    """Runs jobs, the next one that can begin when one has ended."""

    def __init__(
        self,
        jobs: Sequence[Job],
        at_once: int,
        *,
        at_least: int = 1,
        is_busy: Callable[[], bool] = lambda: False,
        beside: Sequence[Worlds] = (),
    ) -> None:
        """
        :param at_least: number of jobs that run even while the machine is busy.
        :param beside: they begin with the first ones, and are not counted.
        """
        self._waiting = list(jobs)
        self._running = 0
        self._at_least = at_least
        self._is_busy = is_busy
        self._beside = list(beside)
        self._changed = threading.Condition()
        self._sessions = [threading.Thread(target=self._run) for _ in range(at_once)]
        self._worlds = [threading.Thread(target=job.run) for job in beside]

    def run(self) -> None:
        """Run all. At Ctrl-C, which the sessions hear of as well, those that run tidy up, and no other begins."""
        for thread in (*self._sessions, *self._worlds):
            thread.start()
        self._join(self._sessions)
        for job in self._beside:
            job.hurry()
        self._join(self._worlds)

    def _join(self, threads: Iterable[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt:
                    self._waiting.clear()
                    for job in self._beside:
                        job.stop()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if job.after is None or job.after.status == 0:
                job.run()
            else:
                job.failures.append(f"not run, since {job.after.name} failed")
            with self._changed:
                job.ended = True
                self._running -= 1
                self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            while self._waiting:
                may_begin = self._running < self._at_least or not self._is_busy()
                for job in self._waiting:
                    if (may_begin or job.name in FIRST) and (job.after is None or job.after.ended):
                        self._waiting.remove(job)
                        self._running += 1
                        return job
                # Neither Ctrl-C, which clears the list, nor a load that ends wakes a thread.
                self._changed.wait(1)
        return None


def main(options: list[str]) -> int:
    # Each of the processes would compile the same modules anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    others_are_busy = are_others_busy()
    compileall.compile_dir(ROOT / "ha_monitor", quiet=1)
    kept = f"KEPT_ROOTS={cache_folder() / 'roots'}"
    make = ["make", "--no-print-directory"]
    prepare = Job(PREPARE, [*make, "prepare-tests", kept])
    types = Job(TYPES, [*make, "lint-types"])
    lint = Job(LINT, [*make, "lint-lua", "lint-ansible"], prepare)
    sessions = [
        Session(name, files_of(name), [*OPTIONS.get(name, ()), *options], prepare if name in PREPARED else None)
        for name in SESSIONS
    ]
    cores = os.cpu_count() or 1
    most, least = (BESIDE_OTHERS, BESIDE_OTHERS) if others_are_busy else (AT_ONCE, AT_LEAST)
    if not others_are_busy:
        for job in (*sessions, lint):
            job.lower = 0 if job.name in FIRST else LOWER
    # They are left at the end: a core each, or as large a share of the cores as the sessions had.
    worlds = all_worlds((BESIDE_OTHERS if others_are_busy else 1) * cores)
    runner = Runner(
        [prepare, types, *sessions, lint],
        at_once=most * cores,
        at_least=least * cores,
        is_busy=lambda: is_loaded(BUSY, without=sum(job.status is None for job in worlds)),
        beside=worlds,
    )
    runner.run()
    jobs = [prepare, types, *sessions, lint, *worlds]
    for job in jobs:
        result = "passed" if job.status == 0 else f"failed (status {job.status})"
        sys.stdout.write(f"{job.name:<8} | {result} in {job.seconds:.0f} s, {job.cpu:.0f} s of a core's time\n")
    sys.stdout.write(f"machine  | {machine_load()}\n")
    for job in jobs:
        sys.stdout.writelines(f"{job.name:<8} | {failure}\n" for failure in job.failures)
    return 0 if all(job.status == 0 for job in jobs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
