"""`python -m ha_monitor`, and the program `ha-monitor`."""

from __future__ import annotations

import sys

from ha_monitor.cli import garbage_collection


def main() -> int:
    """Run the command line and return the exit status."""
    garbage_collection.set_command_threshold()
    from ha_monitor.cli.main import main as run_command  # noqa: PLC0415

    try:
        return run_command()
    finally:
        garbage_collection.freeze_at_exit()


if __name__ == "__main__":
    sys.exit(main())
