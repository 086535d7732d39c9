"""`ha-monitor`: reads the command line and calls the command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ha_monitor.cli import bug, check, demo, status, units
from ha_monitor.cli import run as run_command
from ha_monitor.errors import ConfigurationError, StoreUnavailable
from ha_monitor.exit_status import ExitStatus
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
  70 a bug            78 wrong configuration (a restart would change nothing)
"""
Command = Callable[[argparse.Namespace], ExitStatus]


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
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever called closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
    options = build_parser().parse_args(arguments)
    command: Command = options.run
    logging.lastResort = bug.Complaints()
    try:
        return command(options)
    except ConfigurationError as error:
        return _fail(ExitStatus.CONFIGURATION, str(error))
    except StoreUnavailable as error:
        return _fail(ExitStatus.UNAVAILABLE, str(error))
    except BrokenPipeError:
        # The reader of the output is gone. Python would report that again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        bug.report(error)
        return ExitStatus.SOFTWARE


def _fail(status: ExitStatus, text: str) -> int:
    standard_error().row(f"ha-monitor: {text}")
    return status
