"""`ha-monitor demo`: shows the whole system at work."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from ha_monitor.config.load import Loaded
from ha_monitor.config.schema import Config
from ha_monitor.errors import ServiceMissing
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_error, standard_output


def add_parser(commands: Any, _common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "demo",
        help="see it work: broker, worker, producer and three monitors, one of which is killed half-way",
        description="Starts its own Redis (broker and store), a Celery worker, a producer and the monitors, kills "
        "one of them half-way, and counts the events. Exit status 1 if one was lost or doubled. Cleans up at the end.",
    )
    parser.add_argument(
        "--broker", metavar="URL", help="a RabbitMQ to use instead of Redis, such as amqp://user:password@host//"
    )
    parser.add_argument("--monitors", type=_number, default=3, metavar="N", help="instances (default: 3)")
    parser.add_argument("--tasks", type=_number, default=400, metavar="N", help="tasks to send (default: 400)")
    parser.add_argument(
        "--web",
        action="store_true",
        help="keep the monitors and their pages after the summary, until ^C",
    )
    parser.add_argument("--json", action="store_true", help="end with the summary as one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Run the demo and print its summary."""
    import msgspec

    from ha_monitor.broker.address import urls_of
    from ha_monitor.demo.demo import Demo, Plan
    from ha_monitor.demo.show import Screen

    if options.broker:
        with Loaded(Config(), {"broker.url": "--broker"}).naming_sources():
            urls_of(options.broker)
    terminal = sys.stdout.isatty()
    output = standard_output(colors=terminal and not os.environ.get("NO_COLOR"))
    screen = Screen(output, cut=terminal)
    demo = Demo(Plan(options.monitors, options.tasks, options.broker, options.web), screen)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: demo.stop())
    try:
        summary = demo.run()
    except ServiceMissing as error:
        standard_error().row(f"ha-monitor: {error}")
        return ExitStatus.FAILURE
    if summary is None:
        screen.note("stopped, and cleaned up")
        return ExitStatus.FAILURE
    if options.json:
        output.json(msgspec.json.encode(summary))
    return ExitStatus.OK if summary.good else ExitStatus.FAILURE


def _number(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("expected a number from 1 to 100000")
    return number
