"""A control group for each host in every hierarchy of this machine, be it cgroup v1, v2 or both.

It holds the host's systemd apart from the others and from this machine's, it is where the host's memory and CPU time
are read, and it knows all the host's processes, so that the power can be cut.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.support.process import wait_until

SHARE = 10
"""All groups of one run together get this many times the share of busy cores that one program outside them gets. Tests
on hosts mostly wait for the hosts, and all that runs there meanwhile takes time as well.
"""


def _hierarchies() -> list[tuple[Path, bool]]:
    """Where each hierarchy is mounted, and whether it is of version 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(Path(point), kind == "cgroup2") for _, point, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


class ControlGroups:
    """The groups of one name, such as ``hosts77/vm1``, in all hierarchies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._hierarchies = _hierarchies()

    @property
    def folders(self) -> list[Path]:
        """The groups' folders, those that exist."""
        return [folder for root, _ in self._hierarchies if (folder := root / self.name).is_dir()]

    def create(self) -> None:
        """Make the groups, with all controllers.

        :raises OSError: if this machine does not allow it.
        """
        for root, version2 in self._hierarchies:
            folder = root
            for part in Path(self.name).parts:
                if version2:
                    _enable_controllers(folder)
                folder /= part
                folder.mkdir(exist_ok=True)
                for file in ("cpuset.cpus", "cpuset.mems"):
                    # In version 1 these are empty in a new group, which then accepts no process.
                    if not version2 and (folder / file).exists():
                        (folder / file).write_text((folder.parent / file).read_text())
            _set_share(root / Path(self.name).parts[0])

    def join(self) -> None:
        """Move this process into the groups."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> set[int]:
        """Ids of all processes in the groups and those below."""
        found: set[int] = set()
        for folder in self.folders:
            for group, _, _ in os.walk(folder):  # which does not mind that a group vanishes
                with suppress(OSError):  # a threaded one has no list
                    found.update(int(line) for line in Path(group, "cgroup.procs").read_text().split())
        return found - {0}

    def kill(self) -> None:
        """SIGKILL to every process, until there are none.

        :raises TimeoutError: if some do not end.
        """

        def killed() -> bool:
            pids = self.pids()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(killed, 30, f"the end of all processes in {self.name}")

    def remove(self) -> None:
        """Remove the groups, which must have no processes any more."""

        def removed() -> bool:
            for folder in self.folders:
                for path, _, _ in os.walk(folder, topdown=False):
                    with suppress(OSError):
                        Path(path).rmdir()
            return not self.folders

        # The kernel finishes with a dead process some moments after it has left the list.
        wait_until(removed, 30, f"the removal of the control groups {self.name}")

    def memory_bytes(self) -> int:
        """Memory that the processes themselves hold, without the kernel's caches of files."""
        for folder in self.folders:
            with suppress(OSError):
                fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                return int(fields.get("total_rss") or fields["anon"])
        raise OSError(f"no memory controller for {self.name}")

    def cpu_seconds(self) -> float:
        """CPU time used so far, of the processes that ended too."""
        for folder in self.folders:
            with suppress(OSError):
                return int((folder / "cpuacct.usage").read_text()) / 1e9
        for root, version2 in self._hierarchies:
            if version2:
                fields = dict(line.split() for line in (root / self.name / "cpu.stat").read_text().splitlines())
                return int(fields["usage_usec"]) / 1e6
        raise OSError(f"no CPU controller for {self.name}")


def _set_share(folder: Path) -> None:
    for file, usual in (("cpu.shares", 1024), ("cpu.weight", 100)):  # version 1 and 2
        if (folder / file).exists():
            (folder / file).write_text(str(SHARE * usual))


def _enable_controllers(folder: Path) -> None:
    for controller in (folder / "cgroup.controllers").read_text().split():
        with suppress(OSError):  # Some cannot be given to groups below, as cpu with realtime processes around.
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
