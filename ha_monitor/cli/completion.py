"""`ha-monitor completion`: the script with which a shell completes the command line, and the values that it offers."""

from __future__ import annotations

import argparse
import os
import signal
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.commands import DYNAMIC, commands_of
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_output

if TYPE_CHECKING:
    from types import FrameType

    from ha_monitor.store.reader import StoreReader

TIMEOUT = 0.3
"""Seconds after which no values are offered."""
MAX_VALUES = 1000


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "completion",
        parents=[common],
        help="write what bash, zsh or fish needs to complete the command line",
        description="Writes a script for a shell: source <(ha-monitor completion bash). The Debian package has it "
        f"installed. Values are those that the store names within {TIMEOUT:g} s; if it does not, none are offered.",
    )
    parser.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"))
    parser.add_argument("--values", choices=DYNAMIC, help="write the values of a field that are known instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Write a script, or the values that a script offers."""
    from ha_monitor.errors import UsageError

    if options.values is not None:
        return _values(options)
    if options.shell is None:
        raise UsageError("completion: expected bash, zsh or fish")
    from ha_monitor.cli.main import build_parser
    from ha_monitor.cli.shells import script

    standard_output().rows(script(options.shell, commands_of(build_parser())).splitlines())
    return ExitStatus.OK


def _values(options: argparse.Namespace) -> ExitStatus:
    """Write the values of a field, one per row, as a filter takes them; nothing if the store does not answer in time.

    A value that a terminal would show differently is left out, because it could not be typed.
    """
    from ha_monitor.cli.answers import store_of
    from ha_monitor.errors import HaMonitorError
    from ha_monitor.text.patterns import quoted
    from ha_monitor.text.visible import visible

    signal.signal(signal.SIGALRM, _on_timeout)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
    try:
        with store_of(options) as (_, reader):
            known = _known(reader, options.values)
    except HaMonitorError:
        return ExitStatus.OK
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    standard_output().rows(quoted(value) for value in known[:MAX_VALUES] if visible(value) == value)
    return ExitStatus.OK


def _known(reader: StoreReader, field: str) -> list[str]:
    if field == "worker":
        return [entry.name for entry in reader.workers(TIMEOUT).entries]
    queries = reader.queries
    if field == "queue":
        from ha_monitor.store.queue_flow import base_of

        return list(dict.fromkeys(base_of(queue.name) for queue in queries.known_queues()))
    return {"name": queries.names, "error": queries.error_ids}[field]()


def _on_timeout(_number: int, _frame: FrameType | None) -> None:
    os._exit(ExitStatus.OK)  # whatever it is waiting for: somebody is waiting at the prompt
