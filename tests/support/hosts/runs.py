"""Runs of the test bed: each claims a name, and nothing with that name stays behind, however the tests end.

A run's folder has a file that the tests hold locked while they live; the kernel unlocks it when they die. A janitor, a
process of its own, waits for that lock and removes the run. If the janitor is killed too, the next run does it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from tests.support.hosts.cgroups import ControlGroups
from tests.support.hosts.image import cache_folder
from tests.support.process import program

ROOT = Path(__file__).resolve().parents[3]
NETWORK = "10.77"
"""Each run has a network of its own in it: 10.77.N.0/24 for the run named ``hostsN``."""


def ip(*arguments: str) -> str:
    """Run the program ip, and return its output."""
    done = subprocess.run([program("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def delete_link(name: str) -> None:
    """Delete a network link; no error if there is none."""
    if Path("/sys/class/net", name).exists():
        with suppress(OSError):  # Its other end may just have gone, and this one with it.
            ip("link", "delete", name)


class Run:
    """The name, the folder and the control groups of one run."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self.number = int(folder.name.removeprefix("hosts"))
        self._lock = lock
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hosts.runs", str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @classmethod
    def claim(cls) -> Self:
        """Remove what killed runs left behind, and begin a run with a name that is free."""
        with _runs() as runs:
            for folder in runs.glob("hosts*"):
                _remove_if_dead(folder)
            used = ip("-4", "address") + ip("-4", "route")
            # Beginning anywhere: a name that was given up is not taken again at once.
            for number in (1 + (os.getpid() + step) % 254 for step in range(254)):
                folder = runs / f"hosts{number}"
                taken = f" {NETWORK}.{number}." in used or Path("/sys/class/net", folder.name).exists()
                if not (taken or folder.exists() or ControlGroups(folder.name).folders):
                    folder.mkdir(mode=0o755)
                    lock = (folder / "lock").open("w")
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    return cls(folder, lock)
        raise OSError(f"all networks in {NETWORK} are taken")

    @property
    def name(self) -> str:
        """Such as ``hosts7``: of the folder, the bridge and the control groups."""
        return self.folder.name

    def end(self) -> None:
        """Remove everything of this run."""
        # The janitor first: once the lock is free, another run may take the name.
        self._janitor.kill()
        self._janitor.wait()
        remove(self.folder)
        self._lock.close()


def remove(folder: Path) -> None:
    """Kill a run's hosts, and remove its control groups, its bridge and its folder."""
    groups = ControlGroups(folder.name)
    groups.kill()
    groups.remove()
    for link in Path("/sys/class/net").glob(f"vb-{folder.name}-*"):
        delete_link(link.name)
    delete_link(folder.name)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _runs() -> Iterator[Path]:
    """The folder of all runs, while no other process looks for dead ones or claims a name."""
    runs = cache_folder() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield runs


def _remove_if_dead(folder: Path) -> None:
    with (folder / "lock").open("w") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(folder)


def _janitor(folder: Path) -> None:
    """Wait until the tests are dead, and remove their run."""
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove(folder)


if __name__ == "__main__":
    _janitor(Path(sys.argv[1]))
