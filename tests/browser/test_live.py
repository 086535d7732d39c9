"""Pages that stay open: what is new comes to them, and what is being read stays where it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import Filled
from tests.support.browser import PHONE, Browser

MARK = "window.mark = 1"
MARKED = "return window.mark === 1"


def put_order(filled: Filled, *, fails: bool = False) -> str:
    """Have an order merged; returns the id of its root."""
    root = filled.bed.shop.order(time.time() - 6, fails=fails)
    filled.bed.publish(filled.bed.shop.messages())
    return root


def test_what_changed_is_swapped_in(filled: Filled, browser: Browser) -> None:
    """Given an open overview, more runs are counted on it without a reload; what is focused stays so, what is opened
    stays open, and the page does not scroll."""
    browser.look(size=PHONE)
    browser.open(f"{filled.bed.url}/names/shop.checkout")
    cell = "tbody tr:first-child td:nth-child(2)"
    runs = browser.text(cell)
    browser.run(MARK)
    browser.one("details summary").click()
    browser.run("document.querySelector('.tabs a[href*=\"3d\"]').focus(); scrollTo(0, 200)")

    put_order(filled)
    browser.wait(lambda: browser.text(cell) != runs, "the new number")
    assert browser.run(MARKED)
    assert browser.run("return document.activeElement.getAttribute('href').includes('3d')")
    assert browser.run("return document.querySelector('details').open")
    assert browser.run("return scrollY") == 200


def test_new_rows_wait_until_they_are_wanted(filled: Filled, browser: Browser) -> None:
    """Given an open list of tasks, new ones are counted and do not move those that are being read; with a key they are
    shown, on top. Those that are there change in their place."""
    filled.bed.shop.task("shop.checkout", time.time() - 20, until="started", task_id="changes-in-place")
    filled.bed.publish(filled.bed.shop.messages())
    browser.open(f"{filled.bed.url}/tasks?filter=name%3Dshop.*")
    first = "return document.querySelector('tbody tr').dataset.key"
    before = browser.run(first)

    root = put_order(filled)
    browser.wait(lambda: " new" in browser.text(".arrived button"), "the count of new rows")
    assert browser.run(first) == before
    filled.bed.shop.event(
        "task-succeeded", time.time(), "celery@app1", uuid="changes-in-place", result="1", runtime=1.0
    )
    filled.bed.publish(filled.bed.shop.messages())
    row = "tr[data-key='changes-in-place']"
    browser.wait(lambda: "SUCCESS" in browser.text(row), "the change of a row")

    browser.type("r")
    browser.wait(lambda: browser.all(f"tr[data-key='{root}']"), "the new rows")
    assert browser.run(first) != before
    assert browser.all(".arrived") == []


def test_a_selection_holds_the_page(filled: Filled, browser: Browser) -> None:
    """Given selected text, nothing is swapped under it, and the page says so; then it goes on."""
    browser.open(f"{filled.bed.url}/names/shop.checkout")
    browser.run("getSelection().selectAllChildren(document.querySelector('h1'))")
    put_order(filled)
    browser.wait(lambda: "text is selected" in browser.text("#live"), "the word that it is held")
    assert browser.run("return getSelection().toString()") == "shop.checkout"
    browser.run("getSelection().removeAllRanges()")
    browser.wait(lambda: "live" in browser.text("#live"), "the way on")


def test_pause(filled: Filled, browser: Browser) -> None:
    """Given a page that is paused, nothing changes and its age shows; when it goes on, it is as of now."""
    browser.open(f"{filled.bed.url}/names/shop.checkout")
    browser.one("#live button").click()
    assert "paused" in browser.text("#live")
    cell = "tbody tr:first-child td:nth-child(2)"
    runs = browser.text(cell)
    put_order(filled)
    browser.requested()
    browser.wait(lambda: " s old" in browser.text("#live"), "its age")
    assert browser.text(cell) == runs
    assert browser.requested() == []
    browser.one("#live button").click()
    browser.wait(lambda: browser.text(cell) != runs, "the new number")


def test_the_filter_is_typed_and_links_are_followed(filled: Filled, browser: Browser) -> None:
    """Given the keyboard alone, a filter is typed, what is wrong with it stands beside it, rows are stepped through and
    opened, and pages are gone to; every state is a URL."""
    browser.open(f"{filled.bed.url}/")
    browser.type("g", "t")
    browser.wait(lambda: browser.driver.current_url.endswith("/tasks"), "the list of tasks")
    browser.type("/", "stat=FAILURE", Keys.ENTER)
    browser.wait(lambda: "did you mean state?" in browser.text("#wrong"), "what is wrong with the filter")
    assert browser.one("[data-find]").get_attribute("value") == "stat=FAILURE"
    browser.type("/", "state=FAILURE name=shop.charge_card", Keys.ENTER)
    browser.wait(lambda: browser.all("tbody tr"), "the tasks")
    assert "filter=state" in browser.driver.current_url
    assert {one.text for one in browser.all("tbody th")} == {"shop.charge_card"}

    keys = browser.run("return [...document.querySelectorAll('tbody tr')].map((row) => row.dataset.key)")
    browser.type("j", "j", "j", "k")
    assert browser.run("return document.activeElement.closest('tr').dataset.key") == keys[1]
    browser.type(Keys.ENTER)
    browser.wait(lambda: browser.driver.current_url.endswith(keys[1]), "the task")
    browser.one("dd a[href^='/errors/']").click()
    browser.wait(lambda: "Newest traceback" in browser.text(), "the error")

    browser.type("?")
    assert "ask again" in browser.text("dialog")
    browser.type(Keys.ESCAPE)
    assert browser.run("return document.querySelector('dialog').open") is False
    utc = browser.text("main dd time")
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    browser.type("t")
    assert browser.text("main dd time") != utc
    browser.type("t")
    assert browser.text("main dd time") == utc
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_pages_of_a_list_have_every_task_once(filled: Filled, browser: Browser) -> None:
    """Given more tasks than a page has, the links to older ones lead to each exactly once, and back to the newest."""
    browser.open(f"{filled.bed.url}/tasks?filter=name%3Dshop.*%20state%3DSUCCESS&until=-1s")
    seen: list[str] = []
    for _ in range(4):
        seen += browser.run("return [...document.querySelectorAll('tbody tr')].map((row) => row.dataset.key)")
        browser.one("a[rel=next]").click()
    assert len(seen) == 4 * 50
    assert len(set(seen)) == len(seen)
    newest = [one for one in browser.all(".pages a") if one.text == "newest"]
    newest[0].click()
    assert browser.run("return document.querySelector('tbody tr').dataset.key") == seen[0]


def test_the_tail_goes_on_over_a_restart_of_the_server(filled: Filled, browser: Browser) -> None:
    """Given a page that follows the tail, what the fleet announces is on it; also what it announced while the server
    was down, or while the page was away, each once."""
    bed = filled.bed
    browser.open(f"{bed.url}/tail?filter=name%3Dshop.checkout")
    ids = "return [...document.querySelectorAll('#tail tbody a')].map((one) => one.href.split('/').pop())"
    browser.wait(
        lambda: "live" in browser.text("#live") and browser.run("return sessionStorage.length > 0"), "a cursor"
    )
    first = put_order(filled)
    browser.wait(lambda: browser.run(ids) == [first], "the first line")
    bed.kill_web()
    second = put_order(filled)
    browser.wait(lambda: "asking again" in browser.text("#live"), "the word that nobody answers")
    bed.start_web()
    browser.wait(lambda: browser.run(ids) == [second, first], "what came meanwhile")
    assert "live" in browser.text("#live")
    browser.open(f"{bed.url}/queues")
    third = put_order(filled)
    browser.open(f"{bed.url}/tail?filter=name%3Dshop.checkout")
    browser.wait(lambda: browser.run(ids)[:1] == [third], "what came while it was away")
    assert second not in browser.run(ids)


def test_the_tail_names_the_worker_of_what_tells_of_no_task(filled: Filled, browser: Browser) -> None:
    """Given a worker that starts and stops, on a phone, where there is no room for a column of workers, its lines in
    the tail say which one it is."""
    browser.look(size=PHONE)
    browser.open(f"{filled.bed.url}/tail?filter=worker%3Dguest%40app9")
    browser.wait(
        lambda: "live" in browser.text("#live") and browser.run("return sessionStorage.length > 0"), "a cursor"
    )
    for ago, kind in ((2, "worker-online"), (1, "worker-offline")):
        filled.bed.shop.event(kind, time.time() - ago, "guest@app9")
    filled.bed.publish(filled.bed.shop.messages())
    browser.wait(lambda: len(browser.all("#tail tbody th")) == 2, "both lines")
    assert [one.text for one in browser.all("#tail tbody th")] == ["guest@app9", "guest@app9"]


@pytest.fixture
def running_again(filled: Filled) -> Iterator[None]:
    yield
    if not filled.bed.redis.running:
        filled.bed.redis.restart()
    filled.bed.redis.resume()


def test_an_old_page_says_so_and_never_gives_up(filled: Filled, browser: Browser) -> None:
    """Given a server that is killed, an open page keeps what it had, says how old that is, in the colour of a warning,
    and shows no green; once a server answers again, it is live without anybody's doing."""
    browser.open(f"{filled.bed.url}/monitor")
    assert "instances consume" in browser.text("h1")
    filled.bed.kill_web()
    browser.wait(lambda: "no answer; this is of" in browser.text("#live"), "the word that nobody answers")
    assert "instances consume" in browser.text("h1")
    assert browser.run("return document.body.classList.contains('is-stale')")
    color = "return getComputedStyle(document.querySelector('h1')).color"
    stale = browser.run(color)
    filled.bed.start_web()
    browser.wait(lambda: "live" in browser.text("#live"), "the answer")
    assert browser.run(color) != stale


def test_a_store_that_is_away_is_said(filled: Filled, browser: Browser, running_again: None) -> None:
    """Given a store that does not answer, an open page keeps what it had and says so; a page that is opened then says
    that nothing is known, is not called live, and shows all once the store is there again."""
    browser.open(f"{filled.bed.url}/monitor")
    filled.bed.redis.pause()
    browser.wait(lambda: "store" in browser.text("#live") and "this is of" in browser.text("#live"), "the word")
    assert "instances consume" in browser.text("h1")
    browser.open(f"{filled.bed.url}/queues")
    assert "Service Unavailable" in browser.text("h1")
    assert browser.text("#live").startswith("no answer yet")
    filled.bed.redis.resume()
    browser.wait(lambda: browser.text("h1") == "Queues", "the queues")
    assert "live" in browser.text("#live")
