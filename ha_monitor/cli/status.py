"""`ha-monitor status`: all instances, from any machine."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ha_monitor.config.load import read
from ha_monitor.errors import StoreUnavailable
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_output


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "status",
        parents=[common],
        help="show all instances, the queue, the workers",
        description="Shows all instances, the queue and the workers, as recorded in the store. "
        "Exit status 0 if an instance consumes, 1 if none does, 69 if the store is unreachable.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Print the state of the fleet."""
    import msgspec

    from ha_monitor.clock import SystemClock
    from ha_monitor.on_demand import import_redis

    import_redis()
    from ha_monitor.status.fleet import read_fleet
    from ha_monitor.status.render import render

    loaded, output = read(options.config, os.environ), standard_output()
    try:
        with loaded.naming_sources():
            fleet = read_fleet(loaded.config, SystemClock())
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error} ({loaded.origin_of('store.url')})") from None
    if options.json:
        output.json(msgspec.json.encode(fleet))
    else:
        output.rows(render(fleet, loaded.origin_of("store.url")))
    consuming = any(one.alive and one.state == "consuming" for one in fleet.instances)
    return ExitStatus.OK if consuming else ExitStatus.FAILURE
