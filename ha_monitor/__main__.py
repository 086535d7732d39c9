"""`python -m ha_monitor`, and the program `ha-monitor`."""

from __future__ import annotations

import gc
import sys

SHORT = 100_000
"""New objects after which Python looks for cycles among them."""


def main() -> int:
    """Run the command line and return the exit status.

    Most commands are over before a cycle would be worth finding; yet Python would look through all that they import
    again and again, and once more at the end: a fifth of a command. What runs for long sets it back.
    """
    gc.set_threshold(SHORT)
    from ha_monitor.cli.main import main as run_command  # noqa: PLC0415

    try:
        return run_command()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
