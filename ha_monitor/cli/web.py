"""`ha-monitor web`: serves the pages, in a process that only reads the store."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any

from ha_monitor.cli.garbage_collection import set_service_threshold
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_error

EXAMPLES = """\
examples:
  ha-monitor web                              http://127.0.0.1:9550/ until ^C
  ha-monitor web --listen 127.0.0.1:8080      on another port
"""
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "web",
        parents=[common],
        help="serve the pages, reading the store only",
        description="Serves the pages and the interface for programs until it is told to stop. It reads the store "
        "and nothing else; any number of them may run, on any machines, and give the same answers. Beyond loopback it "
        "needs web.username and web.password, or web.user_header.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen", type=_address, metavar="HOST:PORT", help="in place of web.listen (default: 127.0.0.1:9550)"
    )
    parser.set_defaults(run=run)


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError("expected HOST:PORT, such as 127.0.0.1:9550 or [::1]:9550")
    return text


def run(options: argparse.Namespace) -> ExitStatus:
    """Serve the pages until told to stop."""
    from msgspec.structs import replace

    from ha_monitor.clock import SystemClock
    from ha_monitor.config.load import Loaded, read
    from ha_monitor.supervision import Systemd
    from ha_monitor.threads import Threads
    from ha_monitor.web.server import AddressTaken, WebServer

    set_service_threshold()
    loaded, clock = read(options.config, os.environ, servers=("web",)), SystemClock()
    config = loaded.config
    if options.listen is not None:
        config = replace(config, web=replace(config.web, listen=options.listen))
        loaded = Loaded(config, {**loaded.sources, "web.listen": "--listen"})

    def say(text: str) -> None:
        standard_error().row(f"ha-monitor: {text}")

    threads = Threads(clock, lambda name, reason: say(f"thread {name}: {reason}"))
    try:
        with loaded.naming_sources():
            server = WebServer(config, clock=clock, threads=threads, supervisor=Systemd(os.environ, clock), report=say)
    except AddressTaken as error:
        say(str(error))
        return ExitStatus.UNAVAILABLE
    if sys.stderr.isatty():
        say(f"the pages are at {server.address}; ^C ends it")
    server.run()
    return ExitStatus.OK
