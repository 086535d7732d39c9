"""Where the configuration of this host's units is. The units and all commands use the same paths."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path("/etc/ha-monitor")
DEFAULT_FILE = _FOLDER / "ha-monitor.toml"
OVERLAYS = _FOLDER / "instances"
HANDLERS = _FOLDER / "handlers"
CREDENTIALS = _FOLDER / "credentials"
"""The units pass these files on in `$CREDENTIALS_DIRECTORY`."""
