"""Every page, as people and their tools see it."""

from __future__ import annotations

import subprocess
from functools import partial
from shutil import which
from urllib.parse import quote

import pytest

from tests.browser.conftest import Filled
from tests.conftest import missing
from tests.support.browser import PHONE, WIDE, Browser
from tests.support.pages import MINUTE, Answer, PagesBed
from tests.support.process import ServiceMissing, wait_until
from tests.support.shop import LOST

PAGES = {
    "/": ["shop.charge_card", "mail", "New error PermissionError in shop.charge_card", "ha-monitor problems"],
    "/problems": ["New error PermissionError in shop.charge_card", "Queue late", "ha-monitor errors"],
    "/tasks": ["mail.send", "SENT", "older", "in 1 h", "ha-monitor tasks"],
    "/tasks?filter=state%3DFAILURE%20name%3Dshop.*": [
        "FAILURE",
        "PermissionError",
        "tasks state=FAILURE 'name=shop.*'",
    ],
    "/tasks/{card}": ["failed: PermissionError('card of order 174 was declined')", "run 2", "shop.checkout", "FAILURE"],
    "/errors": ["PermissionError in shop.charge_card", "shop/cards.py:charge", "new"],
    "/queues": ["mail", "reports", "needed"],
    "/queues/mail": ["late", "never", "Waiting longest", "mail.send"],
    "/workers": ["celery@app1", "py-celery 5.6.0"],
    "/workers/celery@app1": ["online", "What failed there", "PermissionError"],
    "/names": ["shop.checkout", "reports.nightly"],
    "/names/shop.charge_card": ["a day before", "What failed", "Latest tasks"],
    "/schedules": ["nightly report", "reports.nightly", "0 2 * * *", "toml", "ha-monitor schedules"],
    "/schedules/nightly%20report": ["nightly report", "why", "0 2 * * *, UTC", "Latest due times"],
    "/monitor": ["1 of 1 instances consume", "consuming, leads"],
    "/tail": ["what the whole fleet announces"],
    "/nowhere": ["there is no page /nowhere"],
    "/tasks/none": ["no task has the id none"],
}
"""What each shows."""
IGNORED = "404 (Not Found)"
"""Chromium says so of each such page."""
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
  .then((found) => done(found.violations.map((one) => one.id + ": " + one.nodes.map((node) => node.html).join(" "))));
"""


def _shows(browser: Browser, text: str) -> bool:
    return text in browser.text("body")


def shows(browser: Browser, text: str) -> bool:
    return text in browser.text("body")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["light", "dark phone"])
@pytest.mark.parametrize("path", PAGES)
def test_each_page_can_be_used_by_everybody(
    filled: Filled, browser: Browser, axe: str, path: str, size: tuple[int, int]
) -> None:
    """Given what happened in a shop, each page shows it, in light on a wide screen and in dark on a phone of 390 pixels
    without scrolling sideways; contrast, names and structure are those that WCAG 2.2 AA asks for; the console has
    nothing to say, nothing is against the policy, and nothing is asked for elsewhere."""
    browser.look(size=size, dark=size == PHONE)
    browser.open(filled.bed.url + path.format(card=filled.card))

    for text in PAGES[path] if size == WIDE else PAGES[path][:1]:
        browser.wait(partial(_shows, browser, text), text)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    refused = [one for one in browser.complaints() if not one.endswith(IGNORED)]
    assert refused == []
    assert {url for url in browser.requested() if not url.startswith((filled.bed.url, "about:", "data:"))} == set()
    # Under the policy a script can only come from the server; the driver's own may do more.
    browser.run(axe)
    assert browser.driver.execute_async_script(AXE) == []


def test_a_lost_worker_says_what_became_of_its_tasks(filled: Filled, browser: Browser) -> None:
    """Given a worker that is silent, its page says what it had, and a task that it had links there and back."""
    browser.open(f"{filled.bed.url}/workers/{quote(LOST)}")
    assert "Tasks that it has" in browser.text()
    browser.all("tbody tr[data-key] a.id")[0].click()
    assert LOST in browser.text()
    browser.all(f"dd a[href='/workers/{quote(LOST, safe='')}']")[0].click()
    assert browser.text("h1").startswith(LOST)


def _asked_twice(bed: PagesBed, path: str) -> list[Answer]:
    """An answer, the next one that was made anew, and what a client gets that has the first; nothing if a minute of the
    store's clock ended meanwhile: figures are those of whole minutes."""
    first = bed.ask(path)

    def made_anew() -> list[Answer]:
        answer = bed.ask(path)
        return [answer] if answer.as_of != first.as_of else []

    (second,) = wait_until(made_anew, 60, "an answer that is not the shared one", 0.2)
    known = bed.ask(path, known=first.tag)
    return [first, second, known] if bed.minute() == first.as_of[:MINUTE] else []


@pytest.mark.parametrize("path", ["/names", "/tasks?filter=state%3Dopen", "/errors", "/tail"])
def test_time_alone_makes_no_new_page(filled: Filled, path: str) -> None:
    """Given a store in which nothing happens, a page that is asked for again is not sent again, though ages grow."""
    first, second, known = wait_until(partial(_asked_twice, filled.bed, path), 120, "two answers within a minute")
    assert first.tag != ""
    assert second.tag == first.tag
    assert (known.status, known.text) == (304, "")


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/nowhere"])
def test_each_page_can_be_read_in_a_terminal(filled: Filled, path: str) -> None:
    """Given w3m, which knows no script and no styles, each page says the same, and nothing commands the terminal."""
    program = which("w3m")
    if program is None:
        missing(ServiceMissing("w3m (Debian: w3m)"))
    url = filled.bed.url + path.format(card=filled.card)
    command = [program, "-dump", "-cols", "160", url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    joined = " ".join(shown.split())
    for text in PAGES[path]:
        assert text in joined
    assert [one for one in shown if not one.isprintable() and one != "\n"] == []
