"""`ha-monitor`, to which a schedule need not be known for ten minutes before a run of it can be missed.

python -m tests.support.settled 2 run --instance 1
"""

from __future__ import annotations

import sys

from ha_monitor.cli.main import main
from ha_monitor.schedules import judge, track


def run() -> int:
    """Run the command line with so many seconds in their place."""
    seconds = float(sys.argv.pop(1))
    for module in (judge, track):
        module.SETTLING_TIME = seconds  # type: ignore[attr-defined]
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
