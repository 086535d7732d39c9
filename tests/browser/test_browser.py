"""The browser of these tests: what else the machine does is not its business."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from tests.conftest import missing
from tests.support.browser import Browser
from tests.support.hosts.runs import delete_link, ip
from tests.support.machine import patient
from tests.support.process import ServiceMissing

SCRIPTS = 60
"""Ten times as many as a browser loads at once; those that wait are the ones that it gives up."""


class SlowSite(BaseHTTPRequestHandler):
    """A page with scripts that come slowly."""

    def do_GET(self) -> None:
        tags = "".join(f'<script src="/{number}.js"></script>' for number in range(SCRIPTS))
        kind, body = (
            ("text/html", f"<p>{tags}") if self.path == "/" else ("text/javascript", "window.loaded ??= 0;loaded++")
        )
        time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def changing_links() -> Iterator[None]:
    """A link of this machine that gets and loses its address again and again, as those of hosts do."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a link of its own")
    if shutil.which("ip") is None:
        missing(ServiceMissing("ip (Debian: iproute2)"))
    name, changed, ended = f"news{os.getpid()}", Event(), Event()
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    ip("link", "set", f"{name}p", "up")

    def change() -> None:
        while not ended.wait(0.2):
            ip("address", "add", "192.0.2.1/32", "dev", name)
            ip("link", "set", name, "up")
            ended.wait(0.2)
            ip("link", "set", name, "down")
            ip("address", "flush", "dev", name)
            changed.set()

    changing = Thread(target=change)
    changing.start()
    is_at_work = changed.wait(patient(30))
    yield
    is_at_work = is_at_work and changing.is_alive()
    ended.set()
    changing.join()
    delete_link(name)
    assert is_at_work, "the link did not change all the while"


def test_a_page_is_loaded_whole_while_links_come_and_go(browser: Browser, changing_links: None) -> None:
    """Given hosts that start and stop beside it, the browser loads all of a page from its own machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowSite) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
        loaded, complaints = browser.run("return window.loaded"), browser.complaints()
        browser.open("about:blank")
        server.shutdown()
    assert [one for one in complaints if "favicon" not in one] == []
    assert loaded == SCRIPTS
