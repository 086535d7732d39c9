"""Events whose every field attacks whoever looks at it."""

from __future__ import annotations

import subprocess
import time
from shutil import which
from urllib.parse import quote, unquote

import pytest

from ha_monitor.incidents.address import NAME_PARAMETER
from tests.browser.conftest import Filled
from tests.conftest import missing
from tests.support.browser import PHONE, Browser
from tests.support.process import ServiceMissing
from tests.support.shop import recorded

HIT = "window.hit = 1"
ATTACKS = (
    f"<script>{HIT}</script>",
    f'"><img src=x onerror="{HIT}">',
    f"'\"--></style></script><svg/onload={HIT}>",
    f"javascript:{HIT}//",
    "{{ 7 * 7 }}{% raw %}",
    "</time><base href=//elsewhere.example/>",
    "../../../etc/passwd?x=1#y&z",
    "\u202egnp.exe \x1b[31m\x07 \x9b2J \u2028 \u0000",
    "W" * 3000,
    "..",
)
WIDER = """return document.documentElement.scrollWidth <= innerWidth ? [] :
[...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > innerWidth).slice(0, 5)
  .map((one) => location.pathname.slice(0, 30) + ' ' + one.outerHTML.slice(0, 200))"""
"""What is wider than the page."""
LISTS = (
    "/",
    "/problems",
    "/tasks",
    "/tasks?filter=state%3DFAILURE",
    "/errors",
    "/queues",
    "/workers",
    "/names",
    "/monitor",
)


@pytest.fixture(scope="module")
def attacked(filled: Filled) -> Filled:
    """The store with a task of each attack: in name, id, queue, worker, arguments, exception and traceback."""
    now, events = time.time(), []
    for number, text in enumerate(ATTACKS):
        about = {"name": text, "args": text, "kwargs": text, "root_id": text, "parent_id": text, "eta": text}
        own = {
            "hostname": text,
            "utcoffset": 0,
            "pid": 1,
            "clock": number,
            "uuid": text,
            "timestamp": now - 5 + number / 100,
        }
        sent = {**own, **about, "queue": text, "routing_key": text, "exchange": text, "retries": 0, "expires": text}
        events += [
            {**sent, "type": "task-sent"},
            {**own, **about, "type": "task-received", "retries": 0},
            {**own, "type": "task-started"},
            {
                **own,
                "type": "task-failed",
                "exception": text,
                "traceback": f'Traceback\n  File "{text}", line 1, in {text}\n{text}',
            },
            {
                **own,
                "type": "worker-heartbeat",
                "active": text,
                "processed": text,
                "loadavg": [text],
                "sw_ident": text,
                "sw_ver": text,
                "sw_sys": text,
                "freq": text,
            },
            {**sent, "type": "task-sent", "uuid": f"{text}!", "hostname": text},
        ]
    filled.bed.send(*map(recorded, events))
    script = quote(ATTACKS[0], safe="")
    filled.bed.wait(lambda: filled.bed.get(f"/tasks/{script}")[0] == 200, "the merge")
    filled.bed.wait(lambda: filled.bed.get(f"/workers/{script}")[0] == 200, "the worker")
    return filled


def check(browser: Browser, filled: Filled) -> None:
    """Nothing ran, nothing was refused that had tried to, and nothing left this machine."""
    assert browser.run("return window.hit === undefined")
    assert browser.run("return [...document.scripts].every((one) => one.src.includes('/static/'))")
    assert browser.run("return document.querySelectorAll('main img, main style, main base, main iframe').length") == 0
    assert browser.run(WIDER) == []
    assert [one for one in browser.complaints() if "404 (Not Found)" not in one] == []
    assert [url for url in browser.requested() if not url.startswith((filled.bed.url, "about:"))] == []


def test_lists_show_it_as_text(attacked: Filled, browser: Browser) -> None:
    """Given such events, no list runs anything of them, in none does a text leave its place, not even on a phone."""
    browser.look(size=PHONE)
    for path in LISTS:
        browser.open(attacked.bed.url + path)
        check(browser, attacked)
    browser.open(f"{attacked.bed.url}/names")
    assert ATTACKS[0] in browser.text()


def named_by(link: str) -> str:
    """The name of whose page it is the address."""
    return unquote(link.rsplit("/", 1)[1].removeprefix(f"?{NAME_PARAMETER}="))


@pytest.mark.parametrize("number", range(len(ATTACKS)))
def test_what_it_names_has_a_page(attacked: Filled, browser: Browser, number: int) -> None:
    """Given such a task, queue, worker and name, the links to it lead to its page, which shows it as text."""
    text = ATTACKS[number]
    browser.look(size=PHONE)
    browser.open(f"{attacked.bed.url}/tasks?limit=100")
    links = browser.run("return [...document.querySelectorAll('tbody a')].map((one) => one.getAttribute('href'))")
    # What is very long was cut when it was read.
    wanted = [link for link in dict.fromkeys(links) if named_by(link).startswith(text[:100])]
    assert len(wanted) >= 3
    for link in wanted:
        browser.open(attacked.bed.url + link)
        assert "Not Found" not in browser.text("h1")
        check(browser, attacked)


def test_no_terminal_obeys_it(attacked: Filled) -> None:
    """Given w3m, no character of such events gets to the terminal but as text."""
    program = which("w3m")
    if program is None:
        missing(ServiceMissing("w3m (Debian: w3m)"))
    for path in (*LISTS, f"/tasks/{quote(ATTACKS[7], safe='')}"):
        command = [program, "-dump", "-cols", "200", attacked.bed.url + path]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert [one for one in shown if not one.isprintable() and one != "\n"] == []
