"""The program where no thread can be started, as at TasksMax: `python -m tests.support.threadless run …`."""

from __future__ import annotations

import sys

from ha_monitor.cli.main import main
from tests.support.threads import no_thread_left

if __name__ == "__main__":
    with no_thread_left():
        sys.exit(main())
