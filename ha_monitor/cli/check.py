"""`ha-monitor check`: validates the configuration, and tests what an instance needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

from ha_monitor.check.findings import Finding, Severity, ok, warning
from ha_monitor.cli.run import named
from ha_monitor.config.load import REQUIRED, Loaded, read, settings
from ha_monitor.config.paths import OVERLAYS
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_error, standard_output


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "check",
        parents=[common],
        help="validate the configuration; with --online also test broker, store, workers, result backend, channels",
        description="Validates the configuration as `run` does. Exit status 0 if it is valid, even with warnings; "
        "78 if the configuration is wrong, or with --online if the broker or the store refuses it, as it does a wrong "
        "password, or nobody knows their names; 1 if an instance could not run now, and waiting may help.",
        epilog="environment variables, one per key:\n  "
        + "\n  ".join(f"{setting.variable:36} {setting.dotted}" for setting in settings()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--instance", type=named, metavar="NAME", help="also read the overlay of this instance")
    parser.add_argument("--online", action="store_true", help="test all connections; changes nothing")
    parser.add_argument(
        "--store",
        action="store_true",
        help="go through all records of tasks and see whether the indexes agree; takes minutes with millions",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Print one line per finding."""
    overlay = OVERLAYS / f"{options.instance}.toml" if options.instance else None
    loaded = read(options.config, os.environ, overlay, servers=("http", "web"))
    output, found = standard_output(), [ExitStatus.OK]
    with loaded.naming_sources():
        for finding in _findings(loaded, options):
            output.row(f"{finding.severity:8} {finding.subject}: {finding.text}")
            if finding.severity is Severity.FAILED:
                found.append(ExitStatus.CONFIGURATION if finding.lasting else ExitStatus.FAILURE)
    return max(found)


def _findings(loaded: Loaded, options: argparse.Namespace) -> Iterator[Finding]:
    from ha_monitor.backend.results import ResultBackend
    from ha_monitor.broker.address import urls_of
    from ha_monitor.metrics.http import address_of
    from ha_monitor.notify.routes import require_kinds, unrouted_channels
    from ha_monitor.outputs.handlers import load_handlers
    from ha_monitor.store.reader import StoreReader
    from ha_monitor.web.sign_in import require_sign_in

    config = loaded.config
    loaded.require_channels()
    require_kinds(config.notify.routes)
    urls_of(config.broker.url)
    StoreReader(config.store, config.node_id).validate()
    if config.http.listen:
        address_of(config.http.listen, options.instance or "1")
    require_sign_in(config.web)
    handlers = load_handlers(config.handlers.modules)
    if config.result_backend.url:
        ResultBackend(config.result_backend)
    yield ok("configuration", f"valid; node_id {config.node_id}, queue {config.queue_name}, {len(handlers)} handlers")
    yield ok("configuration", "; ".join(loaded.origin_of(key) for key in REQUIRED))
    for name in unrouted_channels(config.notify):
        yield warning("channel", f"{name}: no route leads to it, so it is told of nothing")
    if options.online:
        from ha_monitor.check.online import check_broker, check_result_backend, check_store
        from ha_monitor.check.schedules import check_schedules
        from ha_monitor.check.workers import check_workers

        reported: set[str] = set()
        for finding in check_broker(config):
            reported.add(finding.text)
            yield finding
        yield from check_store(config)
        yield from check_workers(config, reported)
        yield from check_result_backend(config)
        yield from check_schedules(config)
        if config.notify.channels:
            from ha_monitor.check.channels import check_channels

            yield from check_channels(config)
    if options.store:
        from ha_monitor.check.records import check_records
        from ha_monitor.clock import SystemClock

        yield from check_records(config, SystemClock(), _show_progress)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        standard_error().progress(done, total)
