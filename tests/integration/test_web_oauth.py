"""The documented nginx that asks oauth2-proxy who somebody is, before the pages: the example of docs/web.md, with only
its ports replaced. A stand-in answers as oauth2-proxy's documentation says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import pytest

from tests.conftest import _empty_db, missing
from tests.integration.storing import Inside, Instance
from tests.support.nginx import Nginx, documented
from tests.support.process import ServiceMissing
from tests.support.services import PrivateRedis
from tests.support.web import Got, WebProcess, get
from tests.unit.builders import event

HOST = "monitor.example.org"
QUEUE = "a/../../../b//c"
SIGNED_IN, NAMELESS, BROKEN = "_oauth2_proxy=good", "_oauth2_proxy=nameless", "_oauth2_proxy=broken"


class StandIn(BaseHTTPRequestHandler):
    """What nginx sees of oauth2-proxy."""

    def do_GET(self) -> None:
        cookie = self.headers.get("Cookie", "")
        if cookie == BROKEN:
            return
        body, headers = b"", {}
        if self.path == "/oauth2/auth":
            status = 202 if cookie in (SIGNED_IN, NAMELESS) else 401
            headers = {"X-Auth-Request-User": "ops"} if cookie == SIGNED_IN else {}
        elif self.path == "/oauth2/sign_in":
            status, body = 200, f"sign in for {self.headers['X-Auth-Request-Redirect']}".encode()
        else:
            status = 404
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


class Front(NamedTuple):
    """The pages behind an nginx that asks."""

    nginx: Nginx
    oauth: ThreadingHTTPServer

    def get(self, path: str, cookie: str = SIGNED_IN, **headers: str) -> Got:
        """Ask through nginx."""
        return get(self.nginx.port, path, encoded=False, host=HOST, Cookie=cookie, **headers)


@pytest.fixture(scope="module")
def front(redis_server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    url = _empty_db(redis_server)
    one = Instance(url).start()
    one.apply([event("task-sent", uuid="sent", at=Inside(url).now() - 9, queue=QUEUE)])
    one.tick()
    folder = tmp_path_factory.mktemp("nginx")
    settings = {"WEB_URL": f"https://{HOST}", "WEB_USER_HEADER": "X-Forwarded-User", "WEB_PROXIES": "127.0.0.1"}
    web, oauth = WebProcess(url, folder, **settings), ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    places = {"127.0.0.1:9550": f"127.0.0.1:{web.port}", "127.0.0.1:4180": f"127.0.0.1:{oauth.server_port}"}
    thread = Thread(target=oauth.serve_forever, daemon=True)
    try:
        nginx = Nginx(folder, documented("nginx with oauth2-proxy", places))
    except ServiceMissing as error:
        web.kill()
        oauth.server_close()
        missing(error)
    thread.start()
    try:
        web.wait_ready()
        yield Front(nginx.wait_ready(), oauth)
    finally:
        nginx.kill()
        web.kill()
        oauth.shutdown()
        thread.join()
        oauth.server_close()


def test_who_is_signed_in_reads_all(front: Front) -> None:
    """Given a session that oauth2-proxy knows, every page is shown, and a name with slashes leads where it should."""
    for noun in ("", "problems", "tasks", "errors", "queues", "workers", "names", "schedules", "tail", "monitor"):
        assert front.get(f"/{noun}").status == 200, noun
    (path,) = re.findall(rf'data-key="{re.escape(QUEUE)}"><th scope="row"><a href="([^"]*)"', front.get("/queues").text)
    assert front.get(path).status == 200


@pytest.mark.parametrize("cookie", ["", "_oauth2_proxy=old"])
def test_who_is_not_signed_in_gets_the_way_to_do_so(front: Front, cookie: str) -> None:
    """Given no session, or one that is over, nothing is shown, whatever name is claimed: the page to sign in is, which
    knows the whole address to come back to. The status says it to what asks in the background."""
    address = "/tasks?filter=state%3DFAILURE&since=-1h"

    got = front.get(address, cookie, X_Forwarded_User="ops", X_Auth_Request_User="ops")

    assert (got.status, got.text) == (401, f"sign in for {address}")
    assert front.get("/oauth2/auth").status == 404, "what only nginx asks"


def test_nobody_gets_in_without_a_name(front: Front) -> None:
    """Given an oauth2-proxy that does not say who it is, nobody gets in, not by a name of their own either."""
    got = front.get("/", NAMELESS, X_Forwarded_User="ops", X_Auth_Request_User="ops")

    assert (got.status, got.text) == (403, "not signed in; use the address of the sign-in proxy\n")


def test_nobody_gets_in_while_oauth2_proxy_does_not_answer(front: Front) -> None:
    """Given an oauth2-proxy that breaks off, nothing is shown."""
    assert front.get("/", BROKEN, X_Forwarded_User="ops").status == 500
