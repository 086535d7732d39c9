"""`ha-monitor web` as a process, over a real Redis with tasks in it."""

from __future__ import annotations

import base64
import gzip
import json
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import jsonschema_rs
import pytest
from msgspec.structs import replace

from ha_monitor.cli.main import main
from ha_monitor.store.duties import Duties
from ha_monitor.store.keys import Keys
from ha_monitor.store.schedules import ScheduleChanges
from ha_monitor.web.endpoints import ENDPOINTS
from ha_monitor.web.headers import SECURITY
from tests.conftest import _empty_db
from tests.integration.storing import NODE, Inside, Instance
from tests.support.certificates import Certificate
from tests.support.process import wait_for_value, wait_until
from tests.support.rights import PASSWORD, reader_rules
from tests.support.services import PrivateRedis
from tests.support.store_contract import a_judgement
from tests.support.web import WebProcess
from tests.unit.builders import event

HOSTILE = "<script>alert(1)</script>\"'>&{{7*7}}"
FAILED = "f0000000-0000-4000-8000-000000000001"
QUEUE = "mail/now & <then>"
SCHEDULE = f"nightly/{HOSTILE}"


@pytest.fixture(scope="module")
def filled(redis_server: PrivateRedis) -> str:
    """URL of a store with tasks of several states, one of them with hostile texts, a worker, and a schedule."""
    url = _empty_db(redis_server)
    one, now = Instance(url).start(), Inside(url).now()
    bodies = [event("worker-online", at=now - 50, uuid=None), event("worker-heartbeat", at=now - 1, uuid=None)]
    for number in range(120):
        uuid = f"a0000000-0000-4000-8000-{number:012}"
        kinds = ("task-sent", "task-received", "task-started", "task-succeeded")[: 1 + number % 4]
        bodies += [event(kind, uuid=uuid, at=now - 400 + number + step / 10) for step, kind in enumerate(kinds)]
    bodies += [
        event("task-sent", uuid=FAILED, at=now - 30, name=HOSTILE, queue=QUEUE),
        event("task-received", uuid=FAILED, at=now - 29, name=HOSTILE, hostname=f"celery@{HOSTILE}"),
        event("task-started", uuid=FAILED, at=now - 28, hostname=f"celery@{HOSTILE}"),
        event(
            "task-failed", uuid=FAILED, at=now - 27, hostname=f"celery@{HOSTILE}", exception=f"KeyError({HOSTILE!r})"
        ),
    ]
    for start in range(0, len(bodies), 50):
        one.apply(bodies[start : start + 50])
    one.tick()
    judged = a_judgement()
    definition = replace(judged.definition, name=SCHEDULE, task=HOSTILE)
    assert Duties(one.store).schedules(ScheduleChanges([replace(judged, definition=definition)]))
    return url


@pytest.fixture(scope="module")
def pages(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    process = WebProcess(filled, tmp_path_factory.mktemp("web")).wait_ready()
    yield process
    process.end()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., WebProcess]]:
    """Starts processes, and ends them."""
    started: list[WebProcess] = []

    def start(store_url: str, *arguments: str, ready: bool = True, **settings: str) -> WebProcess:
        started.append(WebProcess(store_url, tmp_path, *arguments, **settings))
        return started[-1].wait_ready() if ready else started[-1]

    yield start
    for process in started:
        process.kill()


def one_of(noun: str) -> str:
    """A name or an id of which something is known."""
    names = {"tasks": FAILED, "names": "shop.pay", "queues": QUEUE, "workers": "celery@host", "errors": ""}
    names["schedules"] = SCHEDULE
    return quote(names[noun], safe="")


def api_paths(pages: WebProcess) -> dict[str, str]:
    """A question of each kind, by its path in the description."""
    (group,) = pages.get("/api/v1/errors").json["items"]
    found = {}
    for endpoint in ENDPOINTS:
        name = (group["group"] if endpoint.name == "errors" else one_of(endpoint.name)) if endpoint.takes_name else ""
        found[f"/{endpoint.name}{'/{name}' if name else ''}"] = f"/api/v1/{endpoint.name}{f'/{name}' if name else ''}"
    return found


def test_each_answer_is_what_its_description_says(pages: WebProcess) -> None:
    """Given the description of the interface, the answer to each kind of question fits its schema, has items, and comes
    with the fields that keep a browser from harm."""
    described = pages.get("/api/v1/openapi.json").json
    for path, asked in api_paths(pages).items():
        got = pages.get(asked)
        assert (got.status, got.headers["content-type"]) == (200, "application/json"), asked
        schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema_rs.validate({**schema, "components": described["components"]}, got.json)
        if asked not in ("/api/v1/monitor", "/api/v1/problems"):
            assert got.json["items"], asked
        assert {name.lower(): value for name, value in SECURITY}.items() <= got.headers.items()


def test_programs_get_what_the_commands_answer(
    pages: WebProcess, filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given the same filter, the interface answers what the command does with -o json."""
    monkeypatch.setenv("HA_MONITOR_STORE_URL", filled)
    monkeypatch.setenv("HA_MONITOR_NODE_ID", NODE)
    questions = (
        (["tasks", "state=FAILURE"], "/api/v1/tasks?filter=state%3DFAILURE"),
        (
            ["tasks", "name=shop.*", "state=SUCCESS", "-n", "7", "-r"],
            "/api/v1/tasks?filter=name%3Dshop.*+state%3DSUCCESS&limit=7&reverse=yes",
        ),
        (["task", FAILED], f"/api/v1/tasks/{FAILED[:8]}"),
        (["errors"], "/api/v1/errors"),
        (["names", "--sort", "runs"], "/api/v1/names?sort=runs"),
        (["workers"], "/api/v1/workers"),
        (["schedules"], "/api/v1/schedules"),
        (["schedules", SCHEDULE], f"/api/v1/schedules/{quote(SCHEDULE, safe='')}"),
    )
    for command, path in questions:
        main([*command, "-o", "json"])
        said, got = json.loads(capsys.readouterr().out), pages.get(path).json
        for moving in ("time", "searched", "after", "gaps"):
            said.pop(moving, None), got.pop(moving, None)
        for item in (*said["items"], *got["items"]):
            for moving in ("queue_time", "silent", "rate"):
                item.pop(moving, None)
        assert got == said, path


def test_a_list_goes_on_where_it_ended(pages: WebProcess) -> None:
    """Given more tasks than a page has, each page goes on behind the one before: together they are all, each once, in
    the same order; and the other way round likewise."""
    for filter_, reverse in (("", "no"), ("", "yes"), ("state=FAILURE,REVOKED", "no"), ("state=open", "no")):
        asked = f"/api/v1/tasks?filter={quote(filter_)}&reverse={reverse}"
        whole = [item["task_id"] for item in pages.get(f"{asked}&limit=1000").json["items"]]
        found: list[str] = []
        after = ""
        while True:
            got = pages.get(f"{asked}&limit=25&after={quote(after)}").json
            found += [item["task_id"] for item in got["items"]]
            after = got.get("after", "")
            if not after:
                break
        assert found == whole and len(set(found)) == len(found)
    refused = pages.get("/api/v1/tasks?sort=runtime&after=1.5:x")
    assert (refused.status, refused.json["error"][:40]) == (400, "after: a list that is ordered by a field")


def test_errors_are_answers_too(pages: WebProcess) -> None:
    """Given what is unknown, wrong or not allowed, the status says so, a page or a document says why in words, and
    nothing of the program's inside is told."""
    for path, status, said in (
        ("/nothing", 404, "there is no page /nothing"),
        ("/%3Cscript%3Ealert(1)%3C/script%3E", 404, "there is no page /&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("/names?sort=bad", 400, "sort = bad: expected one of failed"),
        ("/api/v1/nothing", 404, "there is nothing at /api/v1/nothing"),
        ("/api/v1/tasks/none", 404, "no task is known as none"),
        ("/api/v1/tasks/a0000000", 400, "ids or names begin so; give more characters"),
        ("/api/v1/tasks?filter=colour%3Dred", 400, "colour: unknown field"),
        ("/api/v1/tasks?filter=%27", 400, "no closing quotation"),
        ("/../../etc/passwd", 404, "there is no page /../../etc/passwd"),
        ("/static/../__init__.py", 404, "there is no page /static/../__init__.py"),
    ):
        got = pages.get(path)
        assert (got.status, said in got.text) == (status, True), (path, got.text)
        assert "Traceback" not in got.text and "<script>alert" not in got.text
        assert got.headers["cache-control"] == "no-store"
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert pages.get("/names", method).status == 405
    head = pages.get("/api/v1/tasks", "HEAD")
    assert (head.status, head.body, int(head.headers["content-length"]) > 100) == (200, b"", True)
    assert pages.get("/names", host="evil.example").status == 421


def test_what_has_not_changed_is_not_sent_again(pages: WebProcess) -> None:
    """Given the tag of an answer, the same question costs a status alone, also when it is made anew; and compressed
    answers are the same."""
    page = pages.get("/names")
    assert pages.get("/names", if_none_match=page.headers["etag"]).status == 304
    for path in ("/api/v1/names", "/api/v1/tasks?filter=state%3DFAILURE"):
        first = pages.get(path)
        assert first.status == 200 and first.headers["etag"].startswith('W/"')
        assert pages.get(path, if_none_match=first.headers["etag"]).status == 304
        made = first.json["time"]
        wait_until(lambda: pages.get(path).json["time"] != made, 30, "an answer that is not the shared one")  # noqa: B023
        again = pages.get(path, if_none_match=first.headers["etag"])
        assert (again.status, again.body) == (304, b""), path
    packed = pages.get("/api/v1/tasks", encoded=True)
    assert packed.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(packed.body))["items"]) == 50


def test_hostile_requests_harm_nobody(pages: WebProcess) -> None:
    """Given what is no HTTP, heads without end, and requests that stop half-way, each is refused or waits alone, and
    others are answered meanwhile."""
    held = []
    for raw in (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"", b"GET /"):
        half = socket.create_connection(("127.0.0.1", pages.port))
        half.sendall(raw)
        held.append(half)
    for raw, status in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40000, b"431"),
        (b"GET /" + b"a" * 40000, b"431"),
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /%ff%fe%00%1b HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /api/v1/queues/%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    ):
        with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as client:
            client.sendall(raw)
            assert client.recv(4096).split(b" ", 2)[1] == status, raw[:40]
    assert pages.get("/names").status == 200
    for half in held:
        half.close()


def test_the_store_may_go_and_come_back(serve: Callable[..., WebProcess]) -> None:
    """Given a store that is away when the pages start, each page and answer says so without telling where the store is,
    and asks again; when it is there, all is answered; likewise when it goes away again."""
    with PrivateRedis() as own:
        url = own.url(0)
        own.stop()
        web = serve(url)
        for _ in range(2):
            got = web.get("/names")
            assert (got.status, got.headers["retry-after"]) == (503, "5")
            assert '<meta http-equiv="refresh" content="5">' in got.text
            wait_for_value(lambda: web.get("/api/v1/names").status, 503, 20, "the end of what is shared")
            assert str(own.port) not in got.text
            own.start()
            wait_for_value(lambda: web.get("/names").status, 200, 20, "the store")
            wait_for_value(lambda: web.get("/api/v1/names").status, 200, 20, "the store")
            own.stop()
            wait_for_value(lambda: web.get("/names").status, 503, 20, "the end of what is shared")
        assert str(own.port) in web.output()


def test_a_user_who_only_reads_is_enough(
    serve: Callable[..., WebProcess], redis_server: PrivateRedis, filled: str
) -> None:
    """Given the documented user who only reads, all questions are answered, and the tail is; no broker is needed."""
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "webreader", "reset", "on", f">{PASSWORD}", *reader_rules())
    db = filled.rpartition("/")[2]
    web = serve(f"redis://webreader:{PASSWORD}@127.0.0.1:{redis_server.port}/{db}")
    for asked in api_paths(web).values():
        assert web.get(asked).status == 200, (asked, web.output())
    assert web.get("/names").status == 200
    cursor = web.get("/api/v1/tail").json["cursor"]
    assert web.get(f"/api/v1/tail?cursor={cursor}&wait=0s").status == 200
    assert web.output() == ""


def test_the_tail_goes_on_over_a_restart(serve: Callable[..., WebProcess], store_url: str) -> None:
    """Given who follows the tail, each event comes once, in order, while he waits; also what is announced between the
    end of the server and the start of another; a filter leaves out what it does not name."""
    one = Instance(store_url).start()
    first = serve(store_url)
    cursor = first.get("/api/v1/tail").json["cursor"]
    now = Inside(store_url).now()

    def announce(uuid: str, name: str = "shop.pay") -> None:
        one.apply(
            [event("task-sent", uuid=uuid, at=now, name=name), event("task-received", uuid=uuid, at=now, name=name)]
        )

    assert first.get(f"/api/v1/tail?cursor={cursor}&wait=0s").json["lines"] == []
    announce("a")
    got = first.get(f"/api/v1/tail?cursor={cursor}&wait=20s").json
    first.end()
    announce("b", "shop.book")
    announce("c")
    second = serve(store_url)
    later = second.get(f"/api/v1/tail?cursor={got['cursor']}&filter=name%3Dshop.pay").json

    assert [(line["task_id"], line["event"]) for line in got["lines"]] == [("a", "task-sent"), ("a", "task-received")]
    assert [(line["task_id"], line["event"]) for line in later["lines"]] == [("c", "task-sent"), ("c", "task-received")]
    assert got["gaps"] == later["gaps"] == []
    assert second.get(f"/api/v1/tail?cursor={later['cursor']}&wait=0s").json["lines"] == []
    Inside(store_url).redis.delete(Keys("ha-monitor", NODE).tail_wanted)
    (gap,) = second.get(f"/api/v1/tail?cursor={later['cursor']}&wait=0s&filter=runs%3D9").json["gaps"]
    assert gap["what"] == "events that were trimmed before they could be read"


def test_who_waits_for_the_tail_holds_up_nobody(pages: WebProcess) -> None:
    """Given many who wait for the tail, pages come at once meanwhile."""
    cursor = pages.get("/api/v1/tail").json["cursor"]
    waiting = []
    for _ in range(60):
        client = socket.create_connection(("127.0.0.1", pages.port))
        client.sendall(f"GET /api/v1/tail?cursor={cursor}&wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        waiting.append(client)
    began = time.monotonic()
    assert pages.get("/names").status == 200
    assert time.monotonic() - began < 10
    for client in waiting:
        client.close()


def test_a_reader_signs_in_below_a_path_with_tls(
    serve: Callable[..., WebProcess], filled: str, certificates: list[Certificate]
) -> None:
    """Given TLS, a password and an address with a path, the pages are below that path, for who gives the password; the
    probe needs none."""
    web = serve(
        filled,
        ready=False,
        WEB_URL="https://monitor.example.org/celery",
        WEB_USERNAME="ops",
        WEB_PASSWORD="s3cret",
        WEB_TLS_CERTIFICATE=str(certificates[0].cert),
        WEB_TLS_KEY=str(certificates[0].key),
    )

    def get(path: str, **headers: str) -> tuple[int, str]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", web.port), timeout=30)
        raw = b""
        with context.wrap_socket(plain) as client:
            fields = {"Host": "monitor.example.org", **headers}
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            while piece := client.recv(65536):
                raw += piece
        return int(raw.split(b" ", 2)[1]), raw.decode()

    def answers() -> bool:
        assert web.running, web.output()
        try:
            return get("/livez")[0] == 200
        except OSError:
            return False

    wait_until(answers, 20, "the pages")
    signed_in = {"Authorization": "Basic " + base64.b64encode(b"ops:s3cret").decode()}
    assert [get(path)[0] for path in ("/", "/celery/names", "/api/v1/names", "/celery/api/v1/names")] == [401] * 4
    status, found = get("/celery", **signed_in)
    assert (status, "location: /celery/" in found.lower()) == (308, True)
    assert get("/celery/names", **signed_in)[0] == get("/celery/api/v1/names", **signed_in)[0] == 200
    assert get("/names", **signed_in)[0] == 404
    assert json.loads(get("/celery/api/v1/openapi.json", **signed_in)[1].partition("\r\n\r\n")[2])["servers"] == [
        {"url": "/celery/api/v1"}
    ]


@pytest.mark.parametrize(
    ("arguments", "settings", "expected"),
    [
        (
            ["--listen", "0.0.0.0:0"],
            {},
            (78, "--listen: web.listen = 0.0.0.0:0: beyond loopback the pages need a sign-in"),
        ),
        (["--listen", "nonsense"], {}, (64, "expected HOST:PORT")),
        ([], {"WEB_USERNAME": "ops"}, (78, "web.username, web.password: expected both or neither")),
        ([], {"STORE_URL": "http://x"}, (78, "store.url")),
        ([], {"WEB_TLS_CERTIFICATE": "/none", "WEB_TLS_KEY": "/none"}, (78, "web.tls_certificate, web.tls_key")),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    serve: Callable[..., WebProcess],
    store_url: str,
    arguments: list[str],
    settings: dict[str, str],
    expected: tuple[int, str],
) -> None:
    """Given a configuration that it must not or cannot serve with, it ends at once with one line and a status."""
    web = serve(store_url, *arguments, ready=False, **settings)

    status, said = expected
    assert web.wait() == status
    (line,) = web.output().splitlines()
    assert line.startswith("ha-monitor: ") and said in line


def test_an_address_that_is_taken_is_said_so(
    serve: Callable[..., WebProcess], pages: WebProcess, store_url: str
) -> None:
    """Given the address of another process, it ends with 69, so that its unit is started again."""
    web = serve(store_url, "--listen", f"127.0.0.1:{pages.port}", ready=False)

    assert web.wait() == 69
    assert web.output() == f"ha-monitor: web.listen = 127.0.0.1:{pages.port}: Address already in use\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_systemd_that_it_lives_and_stops_when_told(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Given systemd's socket, it says that it is ready once it serves, that it lives while it does, and that it stops;
    a request that is being answered is, and it ends with 0 and no word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "4000000")
        web = WebProcess(store_url, tmp_path)
        assert systemd.recv(100) == b"READY=1"
        assert [systemd.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        cursor = web.get("/api/v1/tail").json["cursor"]
        waiting = socket.create_connection(("127.0.0.1", web.port), timeout=30)
        waiting.sendall(f"GET /api/v1/tail?cursor={cursor}&wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert web.get("/names").status == 200  # by then the other request is read
        web.send(number)
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
        waiting.close()
        told = b""
        while told != b"STOPPING=1":
            told = systemd.recv(100)
        assert web.wait() == 0
    assert web.output() == ""


def test_it_is_small(pages: WebProcess) -> None:
    """Given a process that has answered all kinds of questions, it takes at most 60 MB."""
    for asked in api_paths(pages).values():
        pages.get(asked)
    pages_of_memory = int(Path(f"/proc/{pages.pid}/statm").read_text().split()[1])

    assert pages_of_memory * resource.getpagesize() <= 60_000_000


def test_nothing_in_an_answer_is_taken_for_markup(pages: WebProcess) -> None:
    """Given a task whose name, queue, worker and exception are markup, no page has it but as text."""
    got = pages.get("/names?limit=1000")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in got.text
    assert "<script>alert" not in got.text and "49" not in got.text.partition("&lt;script")[2][:60]
