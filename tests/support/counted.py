"""What scrapes of instances would bring of what they have counted in the store."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest

from ha_monitor.config.schema import Metrics
from ha_monitor.metrics.series import Series
from ha_monitor.metrics.task_text import TaskText
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.store.counts import Counts
from tests.support.scraping import Samples


class Clients:
    """Scrape in some interval."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def interval(self) -> float:
        return self.seconds


def page(series: Series, settings: Metrics, *, openmetrics: bool = False) -> str:
    """The first page of a process."""
    pieces = TaskText(series, settings, "tests", Clients()).pieces(0.0, openmetrics=openmetrics)
    return b"".join(pieces).decode()


def exported(all_counts: Iterable[Counts], settings: Metrics) -> Samples:
    """The sums over instances, of which each has counted some."""
    total = Samples("")
    for counts in all_counts:
        series = Series(settings)
        series.load(counts, 0.0)
        for key, value in Samples(page(series, settings)).values.items():
            total.values[key] = total.values.get(key, 0.0) + value
    return total


def scraped(telemetry: Telemetry, now: float, *, openmetrics: bool = False) -> str:
    """A whole page of an instance."""
    encode = openmetrics_latest if openmetrics else generate_latest
    pieces = telemetry.tasks.pieces(now, openmetrics=openmetrics)
    return b"".join([*pieces, encode(telemetry.registry)]).decode()
