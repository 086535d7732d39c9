"""Two sites that all modules here share: Debian 12 with RabbitMQ 3.10, and Debian 13 with RabbitMQ 4.0."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.hosts import Bridge, Suite
from tests.support.hosts_package import RELEASES, Site
from tests.support.measured import Measured

Sites = dict[Suite, Site]


@pytest.fixture(scope="package")
def bridge() -> Iterator[Bridge]:
    """One network for all modules here."""
    with Bridge() as made:
        yield made


@pytest.fixture(scope="package")
def sites(bridge: Bridge, measured: Measured) -> Sites:
    """Both sites, up, with nothing of ha-monitor on them yet; a list of all files is in /root/before."""
    made: Sites = {suite: Site(bridge, suite) for suite in RELEASES}
    began = time.monotonic()
    bridge.start()
    measured("four hosts up", f"{time.monotonic() - began:.1f} s")
    for site in made.values():
        site.host.run("find / -xdev | sort >/root/before")
    return made


@pytest.fixture(params=list(RELEASES))
def site(request: pytest.FixtureRequest, sites: Sites) -> Site:
    """One of the sites, after the other, with three instances that run as installed and consume."""
    chosen = sites[request.param]
    chosen.restore()
    return chosen


@pytest.fixture
def both(sites: Sites) -> list[Site]:
    """Both sites, with three instances each, for what takes long."""
    for each in sites.values():
        each.restore()
    return list(sites.values())
