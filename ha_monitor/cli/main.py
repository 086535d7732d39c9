"""`ha-monitor`: reads the command line and calls the command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ha_monitor.cli import bug, check, demo, status, units
from ha_monitor.cli import run as run_command
from ha_monitor.errors import ConfigurationError, HaMonitorError, OutputLost, StoreUnavailable
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.descriptors import forget_output, open_closed
from ha_monitor.text.terminal import standard_error, standard_output
from ha_monitor.version import __version__

EXAMPLES = """\
examples:
  ha-monitor demo                      see it work, with its own broker, worker and producer
  ha-monitor check --online            validate the configuration, test broker and store
  ha-monitor run --instance 1          one instance in the foreground
  ha-monitor status                    all instances, as seen from any machine
  HA_MONITOR_BROKER_URL=amqp://… HA_MONITOR_STORE_URL=redis://… ha-monitor run

exit statuses:
  0 done or stopped   1 negative result   64 wrong usage   69 store unreachable
  70 a bug            74 output is gone, or the disk is full
  78 wrong configuration (a restart would change nothing)
"""
Command = Callable[[argparse.Namespace], ExitStatus]
STATUSES = {
    ConfigurationError: ExitStatus.CONFIGURATION,
    StoreUnavailable: ExitStatus.UNAVAILABLE,
    OutputLost: ExitStatus.OUTPUT,
}
"""Of the errors that a person is told of in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        standard_error().row(f"ha-monitor: {message}; see ha-monitor --help")
        self.exit(ExitStatus.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:
        output = standard_output() if file is sys.stdout else standard_error()
        output.rows(message.splitlines())


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="ha-monitor",
        description="Highly available monitor of Celery events.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ha-monitor {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file (default: $HA_MONITOR_CONFIG, else /etc/ha-monitor/ha-monitor.toml if it exists)",
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in (run_command, check, status, demo, units):
        command.add_parser(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    closed = open_closed()
    logging.lastResort = bug.Complaints()
    try:
        options = build_parser().parse_args(arguments)
        options.closed = closed
        command: Command = options.run
        return command(options)
    except HaMonitorError as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader of a command's output has seen enough.
        forget_output()
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        bug.report(error)
        return ExitStatus.SOFTWARE


def _fail(error: HaMonitorError) -> int:
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        bug.report(error)
        return ExitStatus.SOFTWARE
    if status is ExitStatus.OUTPUT:
        forget_output()
    with suppress(OSError, OutputLost):  # standard error may be gone as well
        standard_error().row(f"ha-monitor: {error}")
    return status
