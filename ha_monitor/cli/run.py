"""`ha-monitor run`: the service in the foreground."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ha_monitor.config.load import load
from ha_monitor.errors import HaMonitorError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.service import Service

OVERLAYS = Path("/etc/ha-monitor/instances")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("run", parents=[common], help="run one instance in the foreground")
    parser.add_argument("--instance", default="1", metavar="NAME", help="its name on this host (default: 1)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Run one instance until it is told to stop."""
    config = load(options.config, os.environ, OVERLAYS / f"{options.instance}.toml")
    service = Service(config, options.instance, os.environ)
    try:
        return service.run()
    except (HaMonitorError, BrokenPipeError):
        raise
    except Exception:
        service.logger.error("instance-crashed", exc_info=True)
        return ExitStatus.SOFTWARE
