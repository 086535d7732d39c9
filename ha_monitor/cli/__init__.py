"""The command line."""

from ha_monitor.cli.main import main

__all__ = ["main"]
