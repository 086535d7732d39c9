"""A virtual environment with Celery 5.2, the oldest release whose workers are monitored (Debian 12 has it)."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

from tests.support.process import fetch

VERSION = "5.2.7"
FOLDER = Path(__file__).resolve().parents[2] / ".venv-celery52"
# Of the same time as Celery itself: without an upper limit pip takes today's kombu, which is not what runs in
# the field. setuptools 81 dropped pkg_resources, which this Celery imports.
REQUIREMENTS = (
    f"celery=={VERSION}",
    "kombu==5.2.4",
    "amqp==5.1.1",
    "vine==5.0.0",
    "billiard==3.6.4.0",
    "redis==4.3.4",
    "click==8.1.3",
    "setuptools<81",
)


def celery52_python() -> Path:
    """The environment's interpreter; the environment is made if it is missing or incomplete.

    :raises ServiceMissing: if it cannot be installed, as without a network.
    """
    # Two sessions of tests may want it at once.
    with FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _made()


def _made() -> Path:
    python = FOLDER / "bin" / "python"
    done = FOLDER / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS) + "\n"
    # Written last, so that an installation that was interrupted is done again.
    if python.exists() and done.exists() and done.read_text() == wanted:
        return python
    fetch(f"Celery {VERSION}", [sys.executable, "-m", "venv", "--clear", str(FOLDER)], 240)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    fetch(f"Celery {VERSION}", install, 240)
    done.write_text(wanted)
    return python
