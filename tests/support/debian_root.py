"""A Debian of a test's own to install packages in: a layer over a root that was made to build in. Needs root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_ENTER = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/merged"
mount -t proc proc "$2/merged/proc"
mount --rbind /dev "$2/merged/dev"
exec chroot "$2/merged" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive sh -eu -c "$3"
"""


class DebianRoot:
    """What is written to it goes to a layer above the root, which stays as it is."""

    def __init__(self, lower: Path, folder: Path) -> None:
        self._lower = lower
        self._folder = folder
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir(parents=True)
        self.put(Path("/etc/resolv.conf"), "/etc/resolv.conf")

    def put(self, source: Path, path: str) -> None:
        """Copy a file of this machine into it."""
        target = self._folder / "upper" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def run(self, script: str) -> str:
        """Run a shell script as root in there, and return what it printed.

        The mounts live as long as the script does, so that nothing is left behind whatever happens.

        :raises AssertionError: with all it printed, if a command in it failed.
        """
        result = subprocess.run(
            ["unshare", "--mount", "--fork", "sh", "-eu", "-c", _ENTER, "sh", self._lower, self._folder, script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout
