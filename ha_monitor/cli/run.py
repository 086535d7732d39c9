"""`ha-monitor run`: the service in the foreground."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.bug import report_of_thread
from ha_monitor.cli.garbage_collection import set_service_threshold
from ha_monitor.config.load import Loaded, instance_name, read
from ha_monitor.config.paths import OVERLAYS
from ha_monitor.errors import ConfigurationError, OutputLost
from ha_monitor.exit_status import ExitStatus

if TYPE_CHECKING:
    from ha_monitor.outputs.log import Logger


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("run", parents=[common], help="run one instance in the foreground")
    parser.add_argument(
        "--instance", type=named, default="1", metavar="NAME", help="name of the instance on this host (default: 1)"
    )
    parser.set_defaults(run=run)


def named(text: str) -> str:
    """The name of an instance, for argparse."""
    try:
        return instance_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> ExitStatus:
    """Run one instance until it is told to stop."""
    from ha_monitor.notify.routes import require_kinds
    from ha_monitor.service import Service, plain_logger

    set_service_threshold()
    if sys.stdout.fileno() in options.closed:
        raise OutputLost("standard output is closed, so lines would be lost; redirect it to a file or to /dev/null")
    faulthandler.enable()  # on the watchdog's SIGABRT, the stacks of all threads go to standard error
    for number in (signal.SIGUSR1, signal.SIGQUIT):
        faulthandler.register(number)  # these write the stacks as well, and the instance continues
    threading.excepthook = report_of_thread

    def configuration() -> Loaded:
        return read(options.config, os.environ, OVERLAYS / f"{options.instance}.toml")

    logger: Logger | None = None
    try:
        loaded = configuration()
        loaded.require_channels()
        with loaded.naming_sources():
            require_kinds(loaded.config.notify.routes)
            service = Service(loaded.config, options.instance, os.environ, reread=lambda: configuration().config)
            logger = service.logger
            return service.run()
    except ConfigurationError as error:
        if sys.stdout.isatty():
            raise
        # The error must also be in the JSON log.
        logger = logger or plain_logger(options.instance, os.environ)
        logger.error("configuration-invalid", reason=str(error))
        return ExitStatus.CONFIGURATION
    except OutputLost:
        raise
    except Exception:
        if logger is None:
            raise
        logger.error("instance-crashed", exc_info=True)
        return ExitStatus.SOFTWARE
