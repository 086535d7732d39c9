"""`ha-monitor` that learns in seconds what it learns in days: python -m tests.support.hasty run --instance 1"""

from __future__ import annotations

import sys

from ha_monitor.cli.main import main
from ha_monitor.incidents import habits
from ha_monitor.schedules import judge, learned, track


def run() -> int:
    """Run the command line with what takes long made short, and with what is regular on a busy machine."""
    for module, name, value in (
        (judge, "SETTLING_TIME", 2.0),
        (track, "SETTLING_TIME", 2.0),
        (habits, "TURN_EVERY", 2.0),
        (habits, "MIN_AVERAGE_INTERVAL", 1.0),
        (learned, "MIN_WATCHED_PERIOD", 2.0),
        (learned, "MIN_PERIOD", 1.0),
        (learned, "MIN_OBSERVED", 45.0),
        (learned, "TOLERANCE", 0.3),
        (learned, "SPARE", 6.0),
    ):
        assert hasattr(module, name)
        setattr(module, name, value)
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
