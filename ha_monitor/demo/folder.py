"""The demo's folder for temporary files. A killed demo cannot remove its folder; the next demo does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "ha-monitor-demo-"
_LOCK = "lock"
"""This file in the folder is locked as long as its demo lives: the system unlocks it however the demo ends."""


@contextlib.contextmanager
def demo_folder() -> Iterator[Path]:
    """A folder that is removed at the end; the folders of killed demos are removed, too."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with (folder / "unlocked").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Renamed only now, because otherwise another demo might find a lock file that nobody has locked yet.
            (folder / "unlocked").rename(folder / _LOCK)
            remove_abandoned(folder.parent)
            yield folder


def remove_abandoned(parent: Path) -> None:
    """Remove the folders that killed demos of this user have left. Never raises."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            state = folder.lstat()
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and _is_abandoned(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    """Whether nobody holds this lock.

    :raises OSError: if there is no lock file.
    """
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
