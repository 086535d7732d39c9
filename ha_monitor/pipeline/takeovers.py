"""Reports outboxes that this instance took over."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.results import Takeover


def report_takeovers(taken: Iterable[Takeover], stats: Stats, logger: Logger) -> None:
    """Write one warning for each instance whose outbox was taken over."""
    for takeover in taken:
        stats.takeovers += 1
        logger.warning(
            "outbox-taken-over",
            of_instance=takeover.who.get("instance"),
            of_host=takeover.who.get("host"),
            of_pid=takeover.who.get("pid"),
            silent_for=takeover.silent,
            entries=takeover.entries,
        )
