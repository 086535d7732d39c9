"""A scrape: made once for all who ask, in the form that each asks for, and whole but for what is broken."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Config, Http
from ha_monitor.metrics.scrapes import FRESH_FOR, MAX_CACHED_PAGES, Guarded, Page, Scrapes
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.counts import Counts
from ha_monitor.store.results import Watched, WorkerState
from ha_monitor.threads import CallThread
from tests.support.scraping import Samples
from tests.support.threads import no_thread_left, plain_threads
from tests.unit.builders import TurnedClock

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Given(Collector):
    """Gives what a function gives."""

    def __init__(self, give: Callable[[], Iterator[Metric]]) -> None:
        self._give = give
        self.asked = 0

    def __str__(self) -> str:
        return "given"

    def collect(self) -> Iterator[Metric]:
        self.asked += 1
        yield from self._give()


def apples(*values: Any, name: str = "apples") -> Iterator[Metric]:
    family = GaugeMetricFamily(name, "Apples eaten.", labels=["by"])
    for number, value in enumerate(values):
        family.add_metric([f"{number}"], value)
    yield family


def scrapes(*collectors: Collector, clock: Any = None, broken: list[str] | None = None) -> Scrapes:
    told = [] if broken is None else broken
    registry = CollectorRegistry()
    for one in collectors:
        registry.register(Guarded(one, told.append))
    return Scrapes(registry, CallThread(plain_threads(), "scrapes"), clock or SystemClock(), told.append)


def pages(made: Scrapes, *kinds: tuple[str, str]) -> list[Page]:
    """What clients get who ask at once."""

    async def asked() -> list[Page]:
        return list(await asyncio.gather(*(made.page(*kind) for kind in kinds)))

    return asyncio.run(asked())


def samples(page: Page) -> dict[str, float]:
    """By name and labels."""
    found = Samples(page.body.decode())
    return {
        name + "".join(f"|{value}" for _, value in sorted(labels)): value
        for (name, labels), value in found.values.items()
    }


def test_many_who_ask_at_once_get_one_page() -> None:
    """Given a hundred scrapers at once, the collectors are asked once, and all get the same bytes."""
    given = Given(lambda: apples(1, 2))
    made = scrapes(given)

    got = pages(made, *[("", "")] * 100)

    assert given.asked == made.made == 1
    assert len({id(page.body) for page in got}) == 1


def test_a_page_is_given_again_for_a_moment_and_then_made_anew() -> None:
    """Given one scraper after another, those within half a second share a page, and the next has new values."""
    clock, eaten = TurnedClock(), [1]
    made = scrapes(Given(lambda: apples(*eaten)), clock=clock)

    (first,) = pages(made, ("", ""))
    eaten[0] = 2
    clock.now += FRESH_FOR * 0.9
    (second,) = pages(made, ("", ""))
    clock.now += FRESH_FOR * 0.2
    (third,) = pages(made, ("", ""))

    assert (samples(first), samples(second)) == ({"apples|0": 1}, {"apples|0": 1})
    assert samples(third) == {"apples|0": 2}


def test_a_page_that_takes_long_is_kept_for_as_long() -> None:
    """Given metrics that take three seconds to write, scrapers who never pause leave half of the time to others."""
    clock = TurnedClock()

    def slowly() -> Iterator[Metric]:
        clock.now += 3
        yield from apples(1)

    made = scrapes(Given(slowly), clock=clock)
    for _ in range(120):
        pages(made, ("", ""))
        clock.now += 0.5

    assert made.made * 3 <= 120 * 0.5 + 3


def test_each_gets_the_form_that_it_asks_for() -> None:
    """Given scrapers at once that want text, OpenMetrics, or either compressed, each gets its own, with what is in it
    said in the header fields.
    """
    made = scrapes(Given(lambda: apples(5)))

    text, packed, om, om_packed = pages(made, ("", ""), ("", "br, gzip"), (OPENMETRICS, ""), (OPENMETRICS, "gzip"))

    assert text.body.endswith(b'apples{by="0"} 5.0\n') and om.body.endswith(b"# EOF\n")
    assert (gzip.decompress(packed.body), gzip.decompress(om_packed.body)) == (text.body, om.body)
    for page, kind, compressed in (
        (text, "text/plain", False),
        (packed, "text/plain", True),
        (om, "application/openmetrics-text", False),
        (om_packed, "application/openmetrics-text", True),
    ):
        fields = dict(page.headers)
        assert fields["Content-Type"].startswith(kind)
        assert ("Content-Encoding" in fields) == compressed
        assert fields["Vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=abc", "text/plain; version=x.y", ",;=,;", "\xff"]
)
def test_odd_wishes_get_plain_text(accept: str) -> None:
    (page,) = pages(scrapes(Given(lambda: apples(5))), (accept, "gzip;q=x"))

    assert gzip.decompress(page.body).endswith(b'apples{by="0"} 5.0\n')


def test_what_is_kept_is_bounded() -> None:
    """Given a client that thinks of a new version at each request, only a few pages are kept."""
    made = scrapes(Given(lambda: apples(5)))

    pages(made, *[(f"application/openmetrics-text; version=1.{number}.0", "") for number in range(50)])

    assert len(made._cached) <= MAX_CACHED_PAGES


def test_a_collector_that_raises_costs_its_own_families_alone() -> None:
    """Given a collector that raises half-way, what it had given and what the others give is there."""

    def breaks() -> Iterator[Metric]:
        yield from apples(1, name="before")
        raise ValueError("invalid literal for int()\nwith base 10: b'inf'")

    broken: list[str] = []
    made = scrapes(Given(breaks), Given(lambda: apples(2, name="other")), broken=broken)

    for accept in ("", OPENMETRICS):
        (page,) = pages(made, (accept, ""))
        assert page.body.count(b'{by="0"}') == 2
    assert broken == ["given: ValueError: invalid literal for int() with base 10: b'inf'"] * 2


@pytest.mark.parametrize("value", ["many", object(), 10**400, b"three"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_value_that_is_no_number_costs_its_series_alone(accept: str, value: Any) -> None:
    """Given one value among others that cannot be written, all other series are there, of its family, too."""
    broken: list[str] = []
    made = scrapes(Given(lambda: apples(1, value, 3)), Given(lambda: apples(4, name="pears")), broken=broken)

    (page,) = pages(made, (accept, ""))

    found = samples(Page(page.body.replace(b"# EOF\n", b""), ()))
    assert found == {"apples|0": 1, "apples|2": 3, "pears|0": 4}
    assert len(broken) == 1 and broken[0].startswith("apples: ")


@pytest.mark.parametrize("label", ["\ud800", None, 7])
def test_a_label_that_is_no_text_costs_its_series_alone(label: Any) -> None:
    """Given a lone surrogate, or something that is no text, in a label, all other series are there."""

    def families() -> Iterator[Metric]:
        counter = CounterMetricFamily("runs", "Runs.", labels=["name"])
        counter.add_metric(["shop.pay"], 1)
        counter.add_metric([label], 2)
        yield counter
        histogram = HistogramMetricFamily("took", "Seconds.", labels=["name"])
        histogram.add_metric([label], [("1.0", 1), ("+Inf", 1)], 0.5)
        histogram.add_metric(["shop.pay"], [("1.0", 1), ("+Inf", 1)], 0.5)
        yield histogram

    broken: list[str] = []
    (page,) = pages(scrapes(Given(families), broken=broken), ("", ""))

    assert page.body.count(b"shop.pay") == 1 + 4
    assert {name for name in samples(page) if "shop.pay" not in name} == set()
    assert len(broken) >= 1


def test_an_instance_with_a_broken_record_says_so_once_and_counts_it() -> None:
    """Given counts and a fleet in the store that cannot be read, the instance's own metrics are there, what is left out
    is counted, and one line says why, however often it is scraped.
    """
    clock, lines = TurnedClock(), []
    telemetry = Telemetry(
        Config(http=Http(listen="127.0.0.1:0")), clock, Stats(depth=3), lambda event, **fields: lines.append(event)
    )
    telemetry.series.load(Counts([b"not", b"a number"]), clock.now)
    telemetry.leads(clock.now + 1000, followed=False)
    watched: Any = WorkerState("celery@host", "online", "several")  # type: ignore[arg-type]
    telemetry.fleet = Watched([], 1, 2, 3, 4, [watched, watched], ["celery"])
    made = Scrapes(telemetry.registry, CallThread(plain_threads(), "scrapes"), clock, telemetry.broken)

    for _ in range(3):
        (page,) = pages(made, ("", ""))
        clock.now += 1

    found = Samples(page.body.decode())
    assert found.sum("ha_monitor_leader") == 1
    assert found.sum("ha_monitor_store_up") == 0
    assert found.sum("ha_monitor_metrics_left_out_total") > 0
    assert lines == ["metrics-incomplete"]


def test_without_a_thread_a_page_is_made_once_all_the_same() -> None:
    """Given no thread for scrapes, those who ask at once still share a page."""
    given = Given(lambda: apples(1))
    with no_thread_left("scrapes"):
        got = pages(scrapes(given), *[("", "")] * 10)

    assert given.asked == 1
    assert {page.body for page in got} == {got[0].body}
