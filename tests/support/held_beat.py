"""`celery`, which has loaded all that it needs before it begins, so that a beat starts in a moment on a busy machine.

python -m tests.support.held_beat FILE -A tests.support.celery_app beat
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from tests.support.forge import MODULES

LOADED = "held until it may begin"


def run() -> None:
    """Load, say so, and begin as soon as the file is there."""
    begin = Path(sys.argv.pop(1))
    for name in (*MODULES, "tests.support.celery_app"):
        importlib.import_module(name)
    sys.stdout.write(f"{LOADED}\n")
    sys.stdout.flush()
    while not begin.exists():
        time.sleep(0.01)
    importlib.import_module("celery.__main__").main()


if __name__ == "__main__":
    run()
