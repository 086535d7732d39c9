"""`check --store`: whether the records of tasks agree with the indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ha_monitor.check.findings import Finding, failed, ok
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.store.reader import StoreReader

MAX_SHOWN = 20
"""Disagreements that are listed individually."""


def check_records(config: Config, clock: Clock, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    """Check all records and indexes.

    :param progress: called with the number of entries checked, and about how many there are.
    :raises StoreUnavailable: if Redis is not available.
    """
    reader = StoreReader(config.store, config.node_id)
    reader.connect()
    try:
        agreement = reader.agreement(clock, keeps_open=config.stuck.enabled)
        found = agreement.disagreements(progress)
    finally:
        reader.close()
    if not found:
        yield ok("records", f"{agreement.records:,} records and {agreement.entries:,} entries of indexes agree")
        return
    for one in found[:MAX_SHOWN]:
        yield failed("records", f"task {one.task_id} is {one.what}")
    count = f"{'more than ' if agreement.is_cut else ''}{len(found):,}"
    yield failed(
        "records",
        f"{count} entries do not agree with the records of {agreement.records:,} tasks, so lists may miss or "
        "repeat them; please report it with the lines above",
    )
