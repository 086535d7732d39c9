"""`ha-monitor`: reads the command line and calls the command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from ha_monitor.cli import bug
from ha_monitor.errors import ConfigurationError, HaMonitorError, OutputLost, StoreUnavailable, UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.descriptors import forget_output, open_closed
from ha_monitor.text.suggestions import did_you_mean
from ha_monitor.text.terminal import standard_error, standard_output
from ha_monitor.version import __version__

EXAMPLES = """\
examples:
  ha-monitor demo                      see it work, with its own broker, worker and producer
  ha-monitor check --online            validate the configuration, test broker and store
  ha-monitor run --instance 1          one instance in the foreground
  ha-monitor status                    all instances, as seen from any machine
  ha-monitor problems                  what is wrong now; exit status 1 if anything is
  ha-monitor tasks state=FAILURE --since -1h     what failed in the last hour
  ha-monitor task 8d3b9c4e --tree      one task's story, and its workflow
  ha-monitor tail state=FAILURE,RETRY  what comes, as it comes, from all instances
  ha-monitor errors                    what fails, in groups
  ha-monitor queues                    what waits, for how long, and whether it empties
  ha-monitor schedules                 what celery beat should run, and whether it did
  ha-monitor web                       all this as pages for a browser
  ha-monitor notify test               send a test message to the channels
  HA_MONITOR_BROKER_URL=amqp://… HA_MONITOR_STORE_URL=redis://… ha-monitor run

exit statuses:
  0 done or stopped   1 negative result   64 wrong usage   69 store unreachable
  70 a bug            74 output is gone, or the disk is full
  78 wrong configuration (a restart would change nothing)
"""
COMMANDS = (
    *("run", "check", "status", "problems", "tasks", "task", "tail", "errors", "names", "queues", "workers"),
    *("schedules", "silence", "deploy", "dead-letters", "web", "notify", "demo", "units", "completion"),
)
"""In the order of the help. Each is a module in this folder."""
TIME_FLAGS = ("--since", "--until")
Command = Callable[[argparse.Namespace], ExitStatus]
STATUSES = {
    ConfigurationError: ExitStatus.CONFIGURATION,
    StoreUnavailable: ExitStatus.UNAVAILABLE,
    OutputLost: ExitStatus.OUTPUT,
    UsageError: ExitStatus.USAGE,
}
"""Exit statuses for the errors that are reported in one line."""


class _Parser(argparse.ArgumentParser):
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = list(map(str, action.choices))
        meant = did_you_mean(str(value), known)
        if action.dest == "command":
            self._refuse(f"{value}: unknown command{meant or '.'} The commands are {', '.join(known)}", self.prog)
        # argparse puts the name of the flag before this text.
        raise argparse.ArgumentError(action, f"{value}: expected one of {', '.join(known)}{meant}")

    def error(self, message: str) -> None:  # type: ignore[override]
        self._refuse(message, self.prog)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Also accepts times such as -1h as values, and words of a filter after flags."""
        options, rest = self.parse_known_args(joined(sys.argv[1:] if args is None else args), namespace)
        words = getattr(options, "words", None)
        if words is not None:
            words += [word for word in rest if not word.startswith("-")]
            rest = [word for word in rest if word.startswith("-")]
        if rest:
            # A time has been joined with its flag; the error names only the flag.
            refused = " ".join(word.partition("=")[0] if word.startswith("-") else word for word in rest)
            self._refuse(f"{options.command} does not take {refused}", f"{self.prog} {options.command}")
        return options

    def _refuse(self, message: str, command: str) -> None:
        standard_error().row(f"ha-monitor: {message}; see {command} --help")
        self.exit(ExitStatus.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:
        output = standard_output() if file is sys.stdout else standard_error()
        output.rows(message.splitlines())


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, with times joined to their flags: argparse would take `-1h` for another flag."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] in TIME_FLAGS and argument.startswith("-") and argument[1:2].isdigit():
            found[-1] += f"={argument}"
        else:
            found.append(argument)
    return found


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line.

    :param commands: the commands that it knows; their modules are imported.
    """
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
    found = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in commands:
        import_module(f"ha_monitor.cli.{command.replace('-', '_')}").add_parser(found, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    closed = open_closed()
    logging.lastResort = bug.LibraryMessages()
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        options = build_parser(_meant(given)).parse_args(given)
        options.closed = closed
        command: Command = options.run
        return command(options)
    except HaMonitorError as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader of the command's output has seen enough.
        forget_output()
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        bug.report(error)
        return ExitStatus.SOFTWARE


def _meant(arguments: Sequence[str]) -> Sequence[str]:
    """The commands that a command line may mean: only the one that it names, if it names one."""
    first = arguments[0] if arguments else ""
    return (first,) if first in COMMANDS else () if first == "--version" else COMMANDS


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
