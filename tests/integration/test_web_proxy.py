"""The documented nginx in front of `ha-monitor web`: the example of docs/web.md, with only its places replaced."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote

import pytest

from ha_monitor.web.headers import SECURITY
from tests.conftest import _empty_db, missing
from tests.integration.storing import Inside, Instance
from tests.support.nginx import Nginx, documented
from tests.support.process import ServiceMissing
from tests.support.services import PrivateRedis
from tests.support.web import Got, WebProcess, get
from tests.unit.builders import event

PASSWORDS = "/etc/nginx/ha-monitor.htpasswd"
HOST = "monitor.example.org"
SIGNED_IN = {"host": HOST, "Authorization": "Basic " + base64.b64encode(b"ops:s3cret").decode()}
QUEUES = ("celery", "mail/now", "a/../../../b", "..", ".", "a//b", "100%2F", "%2e%2e")


class Front(NamedTuple):
    """The pages behind an nginx."""

    nginx: Nginx
    web: WebProcess
    one: Instance

    def get(self, path: str, **headers: str) -> Got:
        """Ask through nginx, signed in if nothing else is said."""
        return get(self.nginx.port, path, encoded=False, **{**SIGNED_IN, **headers})


@pytest.fixture(scope="module")
def front(redis_server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    url = _empty_db(redis_server)
    one, now = Instance(url).start(), Inside(url).now()
    one.apply([event("task-sent", uuid=f"sent-{at}", at=now - 9, queue=name) for at, name in enumerate(QUEUES)])
    one.tick()
    folder = tmp_path_factory.mktemp("nginx")
    made = subprocess.run(["openssl", "passwd", "-apr1", "s3cret"], capture_output=True, text=True, check=True)
    (folder / "passwords").write_text(f"ops:{made.stdout}")
    settings = {"WEB_URL": f"https://{HOST}/celery", "WEB_USER_HEADER": "X-Forwarded-User", "WEB_PROXIES": "127.0.0.1"}
    web = WebProcess(url, folder, **settings)
    try:
        places = {"127.0.0.1:9550": f"127.0.0.1:{web.port}", PASSWORDS: str(folder / "passwords")}
        nginx = Nginx(folder, documented("nginx", places))
    except ServiceMissing as error:
        web.kill()
        missing(error)
    try:
        web.wait_ready()
        yield Front(nginx.wait_ready(), web, one)
    finally:
        nginx.kill()
        web.kill()


def test_nginx_signs_readers_in(front: Front) -> None:
    """Given the example, nobody reads without the password that nginx asks for, also not with the field of a proxy; who
    signed in reads every page below the path, with the fields that keep a browser from harm.
    """
    assert get(front.nginx.port, "/celery/queues", host=HOST, X_Forwarded_User="ops").status == 401
    assert front.get("/celery/queues", Authorization="Basic b3BzOndyb25n").status == 401

    for noun in ("", "problems", "tasks", "errors", "queues", "workers", "names", "schedules", "tail", "monitor"):
        got = front.get(f"/celery/{noun}")
        assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8"), noun
        assert {name.lower(): value for name, value in SECURITY}.items() <= got.headers.items()
        assert set(re.findall(r'(?:href|src)="(/[^/"]*)', got.text)) <= {"/celery"}, noun
    assert front.get("/celery").status in (301, 308)
    assert front.get("/queues").status == 404


def test_a_page_stays_live_through_nginx(front: Front) -> None:
    """Given a page that is asked for again with its tag, nothing is sent while nothing has changed; the tail waits
    through nginx, and brings what came meanwhile.
    """
    tag = front.get("/celery/names").headers["etag"]
    again = front.get("/celery/names", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")

    cursor = front.get("/celery/api/v1/tail").json["cursor"]
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(front.get, f"/celery/api/v1/tail?cursor={quote(cursor)}&wait=20s")
        front.one.apply([event("task-sent", uuid="told", at=1.0, name="shop.told", queue="celery")])
        assert [line["task_id"] for line in waits.result().json["lines"]] == ["told"]


def listed(front: Front) -> str:
    """The page of all queues."""
    return front.get("/celery/queues").text


@pytest.mark.parametrize("name", QUEUES)
def test_names_with_slashes_pass_nginx(front: Front, name: str) -> None:
    """Given a queue whose name has slashes, dots or percent signs, the address that the list links to leads to it
    through nginx, which resolves paths; so does the same one for programs.
    """
    (path,) = re.findall(rf'data-key="{re.escape(name)}"><th scope="row"><a href="([^"]*)"', listed(front))
    assert front.get(path).status == 200
    asked = front.get(path.replace("/celery/", "/celery/api/v1/", 1)).json
    assert [one["queue"] for one in asked["items"]] == [name]
