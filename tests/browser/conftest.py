"""One browser and one fleet for all tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import missing, served
from tests.support.browser import Browser
from tests.support.pages import PagesBed
from tests.support.process import ServiceMissing, fetch
from tests.support.services import PrivateRedis

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "build" / "axe" / "axe.min.js"


class Filled(NamedTuple):
    """The pages, and a task in them."""

    bed: PagesBed
    card: str
    """Id of a task that failed, after the worker that had it was lost."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        found = Browser()
    except ServiceMissing as error:
        missing(error)
    with found:
        yield found


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """The pages over the last hour of a shop."""
    for redis in served(PrivateRedis):
        with PagesBed(tmp_path_factory.mktemp("pages"), redis) as bed:
            card = bed.fill()
            bed.wait(lambda: "New error" in bed.get("/problems")[1], "the first incidents")
            bed.wait(lambda: "nightly report" in bed.get("/schedules")[1], "the first schedules")
            yield Filled(bed, card)


@pytest.fixture(autouse=True)
def fresh(filled: Filled, browser: Browser) -> None:
    """Each test begins with an ordinary look, live workers, and nothing in the logs of the browser."""
    filled.bed.live()
    browser.look()
    browser.open("about:blank")
    browser.complaints()
    browser.requested()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    if not AXE.exists():
        try:
            fetch("axe-core", [str(Path(__file__).parent / "fetch-axe"), str(AXE.parent)], 60)
        except ServiceMissing as error:
            missing(error)
    return AXE.read_text(encoding="utf-8")
