"""Clients that are slow, many, odd or gone: what they cost is bounded, and probes are answered."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ha_monitor.config.schema import Http
from ha_monitor.http import connections, exchange
from ha_monitor.http.connections import MAX_CONNECTIONS, Refusal
from ha_monitor.metrics.application import MAX_SCRAPERS
from tests.integration.test_http import get, made
from tests.support import clients
from tests.support.certificates import Certificate
from tests.support.clients import HEAD, Connect, is_over, many, over_tls
from tests.support.process import wait_for_value, wait_until

SLOW = {
    "silent": (clients.silent, False),
    "half a head": (clients.half_head, False),
    "does not read": (clients.does_not_read, False),
    "keeps the connection": (clients.stays, False),
    "silent, TLS": (clients.silent, True),
    "half a hello": (clients.half_hello, True),
    "hello, and no more": (clients.without_finish, True),
    "half a head, TLS": (clients.half_head, True),
    "does not read, TLS": (clients.does_not_read, True),
}


class Apples(Collector):
    """One large family; counts how often it is asked for, and may be made to wait."""

    def __init__(self) -> None:
        self.collected = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.collected += 1
        self.go_on.wait(60)
        family = GaugeMetricFamily("apples", "Apples eaten.", labels=["by"])
        for number in range(2000):
            family.add_metric([f"{number}-{'x' * 2000}"], number)
        yield family


class Served:
    """A server in this process."""

    def __init__(self, tls: Certificate | None, **settings: Any) -> None:
        self.apples = Apples()
        registry = CollectorRegistry()
        registry.register(self.apples)
        self.not_served: Counter[Refusal] = Counter()
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.askers: list[str] = []
        if tls is not None:
            settings |= {"tls_certificate": str(tls.cert), "tls_key": str(tls.key)}
        self.server = made(
            Http(listen="127.0.0.1:0", **settings),
            registry=registry,
            not_served=lambda why: self.not_served.update([why]),
            warn=lambda event, **fields: self.lines.append((event, fields)),
            scraped=self.askers.append,
        )
        self.context = ssl.create_default_context(cafile=str(tls.ca)) if tls is not None else None
        self.server.start()

    @property
    def port(self) -> int:
        return self.server.port

    def get(self, path: str, **more: Any) -> tuple[int, str]:
        scheme = "http" if self.context is None else "https"
        return get(f"{scheme}://127.0.0.1:{self.port}{path}", context=self.context, **more)


@contextmanager
def served(tls: Certificate | None = None, **settings: Any) -> Iterator[Served]:
    one = Served(tls, **settings)
    try:
        yield one
    finally:
        one.apples.go_on.set()
        one.server.stop()


def slow(kind: str, certificates: list[Certificate]) -> tuple[Connect, Certificate | None]:
    connect: Connect
    connect, tls = SLOW[kind]
    if tls and connect in (clients.half_head, clients.does_not_read):
        connect = over_tls(connect, certificates[0].ca)
    return connect, certificates[0] if tls else None


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_cost_no_thread_and_keep_nobody_waiting(kind: str, certificates: list[Certificate]) -> None:
    """Given half as many slow clients again as there are places, of each kind, probes and metrics are answered, no
    thread more is there than before, and those who came first have made room.
    """
    connect, tls = slow(kind, certificates)
    with served(tls) as one:
        assert one.get("/metrics")[0] == 200
        before = threading.active_count()
        with many(connect, one.port, MAX_CONNECTIONS + MAX_CONNECTIONS // 2) as held:
            assert one.get("/livez")[0] == 200
            assert one.get("/readyz")[0] == 200
            assert one.get("/metrics")[0] == 200
            assert threading.active_count() == before
            if kind != "keeps the connection":
                wait_until(lambda: one.not_served[Refusal.CROWDED] >= MAX_CONNECTIONS // 2, 30, "room")
            wait_until(lambda: is_over(held[0]), 30, "the end of the first")
    assert one.lines == []


@pytest.mark.parametrize("kind", [kind for kind in SLOW if kind != "keeps the connection"])
def test_a_slow_client_ends_at_the_deadline(
    kind: str, monkeypatch: pytest.MonkeyPatch, certificates: list[Certificate]
) -> None:
    """Given one slow client of each kind, and nobody else, its connection ends at the deadline all the same."""
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    connect, tls = slow(kind, certificates)
    with served(tls) as one:
        client = connect(one.port)
        wait_for_value(lambda: one.not_served[Refusal.DEADLINE], 1, 60, "the deadline")
        wait_until(lambda: is_over(client), 60, "the end")
        client.close()
    assert one.lines == []


def test_what_a_client_did_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a client that does not read its answer, the kernel does not go on to hold it after the deadline."""
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    with served() as one, clients.does_not_read(one.port) as client:
        wait_for_value(lambda: one.not_served[Refusal.DEADLINE], 1, 60, "the deadline")
        with pytest.raises(ConnectionResetError):
            while client.recv(65536):
                pass


def test_a_head_that_comes_byte_by_byte_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a client that sends one byte after the other for ever, its connection ends although it is never idle."""
    monkeypatch.setattr(connections, "DEADLINE", 0.5)
    sent = 0
    with served() as one, clients.silent(one.port) as client:

        def ended() -> bool:
            nonlocal sent
            try:
                client.send((HEAD + b"x" * 10_000)[sent : sent + 1])
            except OSError:
                return True
            sent += 1
            return is_over(client)

        wait_until(ended, 60, "the end", 0.02)
        assert one.not_served == {Refusal.DEADLINE: 1}
    assert sent > 1


def test_probes_are_answered_while_scrapers_wait_and_one_more_of_those_is_sent_away() -> None:
    """Given a scrape that does not end, and as many clients waiting for it as may, probes are answered, the next
    scraper is told to come again, and those who wait keep their places whoever comes: all get the one page.
    """
    with served() as one:
        one.apples.go_on.clear()
        with many(clients.silent, one.port, MAX_SCRAPERS) as waiting:
            for client in waiting:
                client.sendall(HEAD + b"\r\n")
            wait_for_value(lambda: len(one.askers), MAX_SCRAPERS, 30, "all to wait")
            assert one.get("/metrics")[0] == 503
            with many(clients.half_head, one.port, 2 * MAX_CONNECTIONS):
                assert one.get("/livez")[0] == 200
                assert one.get("/readyz")[0] == 200
            one.apples.go_on.set()
            for client in waiting:
                with client.makefile("rb") as answer:
                    assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
                    assert answer.read().count(b"\napples{") == 2000
    assert one.apples.collected == 1
    assert one.lines == []


def test_who_gives_up_does_not_take_the_scrape_from_the_others() -> None:
    """Given two scrapers of which the first reaches its deadline while the page is made, the second gets the page."""
    with served() as one:
        before = one.apples.collected
        one.apples.go_on.clear()
        with pytest.MonkeyPatch.context() as short, clients.silent(one.port) as second:
            wait_for_value(one.server.connections, 1, 30, "the second, with its long deadline")
            short.setattr(connections, "DEADLINE", 0.3)
            with clients.silent(one.port) as first:
                for client in (first, second):
                    client.sendall(HEAD + b"\r\n")
                wait_for_value(lambda: len(one.askers), 2, 30, "both to wait")
                wait_for_value(lambda: one.not_served[Refusal.DEADLINE], 1, 30, "the first one's deadline")
            one.apples.go_on.set()
            with second.makefile("rb") as answer:
                assert answer.read().count(b"\napples{") == 2000
    assert one.apples.collected == before + 1


def test_stopping_does_not_wait_for_a_scrape_and_says_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Given scrapes under way, the server stops at once, its clients are cut off, and the scrape's end is no event."""
    with served() as one:
        one.apples.go_on.clear()
        with many(clients.silent, one.port, 3) as waiting:
            for client, accept in zip(waiting, ("a/b", "application/openmetrics-text", "a/b"), strict=True):
                client.sendall(HEAD + f"Accept: {accept}\r\n\r\n".encode())
            wait_for_value(lambda: len(one.askers), 3, 30, "all to wait")
            # A scrape that has not begun when the server stops is given up.
            wait_for_value(lambda: one.apples.collected, 1, 30, "the first scrape")
            one.server.stop()
            for client in waiting:
                wait_until(partial(is_over, client), 30, "the end")
        one.apples.go_on.set()
        done = one.server._scrapes._thread.submit(lambda: "next")
        assert done.result(30) == "next"
        assert one.apples.collected == 1
    assert one.lines == []
    assert caplog.text == capfd.readouterr().err == ""


def hang_up(client: socket.socket) -> None:
    """Go with a reset instead of a word."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [socket.socket.close, hang_up])
@pytest.mark.parametrize("kind", SLOW)
def test_clients_that_hang_up_leave_nothing_behind(
    kind: str,
    leave: Callable[[socket.socket], None],
    certificates: list[Certificate],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Given clients that hang up at any point, in the TLS handshake or before it, nothing is written anywhere, no
    thread is held, and the next is answered.
    """
    connect, tls = slow(kind, certificates)
    with served(tls) as one:
        before = threading.active_count()
        for _ in range(20):
            leave(connect(one.port))
        assert one.get("/livez")[0] == 200
        held = one.server.connections
        wait_for_value(held, 0, 60, "all places to be free")
        assert threading.active_count() <= before + 1  # that of the scrapes
    assert one.lines == []
    assert capfd.readouterr().err == ""


def test_plain_http_to_tls_and_garbage_are_no_event(
    certificates: list[Certificate], capfd: pytest.CaptureFixture[str]
) -> None:
    """Given clients that do not speak TLS at all, nothing is written, and the next is answered."""
    with served(certificates[0]) as one:
        for garbage in (HEAD + b"\r\n", b"\x00" * 1000, b"\x16\x03\x01" + b"\xff" * 1000):
            with clients.silent(one.port) as client:
                client.sendall(garbage)
                wait_until(partial(is_over, client), 30, "the end")
        assert one.get("/livez")[0] == 200
    assert one.lines == []
    assert capfd.readouterr().err == ""


def raw(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields by lower-case names, and body."""
    with clients.silent(port) as client:
        client.sendall(request)
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (field.partition(": ") for field in fields)}, body


@pytest.mark.parametrize("close", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
def test_a_connection_is_closed_with_the_answer(monkeypatch: pytest.MonkeyPatch, close: str) -> None:
    """Given a client that stays, the server does not: it has no place for those who may ask again some day."""
    monkeypatch.setattr(exchange, "LINGER", 600.0)
    with served() as one, clients.silent(one.port) as client:
        client.sendall(f"GET /livez HTTP/1.1\r\nHost: here\r\n{close}\r\n".encode())
        wait_until(lambda: is_over(client), 30, "the end")
        wait_for_value(one.server.connections, 0, 60, "the place to be free")
        assert one.not_served == {}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_head_is_get_without_the_body_and_other_methods_are_refused(path: str) -> None:
    """Given each path, HEAD has the header fields of GET, and anything else is 405 with what is allowed."""
    with served() as one:
        got = raw(one.port, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head = raw(one.port, f"HEAD {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert (got[0], head[0], head[2]) == (200, 200, b"")
        assert int(got[1]["content-length"]) == len(got[2])
        assert {**head[1], "date": ""} == {**got[1], "date": ""}
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
            request = f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc".encode()
            status, fields, _ = raw(one.port, request)
            assert (status, fields["allow"]) == (405, "GET, HEAD"), method


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET http://here:9541/livez?x=1 HTTP/1.1\r\nHost: here\r\n\r\n", 200),
        (b"GET /%6civez HTTP/1.1\r\nHost: here\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\nHost: here\n\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n", 404),
        (b"GET //[ HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\nHost: here\r\n\r\n", 505),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 30_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 200_000, 431),
    ],
)
def test_what_is_no_http_is_refused_as_http_says(request_: bytes, status: int) -> None:
    """Given requests that are right in an odd way, and wrong ones, each has its status, and nothing is written."""
    with served() as one:
        assert raw(one.port, request_)[0] == status
        assert one.not_served[Refusal.MALFORMED] == (status in (400, 431, 505))
    assert one.lines == []


def test_whoever_guesses_the_password_is_slowed_down_told_of_and_counted() -> None:
    """Given a hundred wrong passwords, ten are compared, the others hear when to come again, the probes do not mind,
    and there is one line.
    """
    wrong = {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}
    with served(username="prometheus", password="hunter2") as one:
        statuses = [one.get("/metrics", headers=wrong)[0] for _ in range(100)]
        request = HEAD + b"Authorization: Basic d3Jvbmc6d3Jvbmc=\r\n\r\n"
        status, fields, _ = raw(one.port, request)
        assert one.get("/livez")[0] == 200

    assert statuses == [401] * 10 + [429] * 90
    assert (status, fields["retry-after"]) == (429, "60")
    assert one.lines == [("http-auth-failed", {"client": "127.0.0.1", "times": 1})]
    assert one.not_served == {Refusal.PASSWORD: 10, Refusal.TOO_MANY_PASSWORDS: 91}


def test_an_error_of_ours_is_an_answer_and_a_line() -> None:
    """Given a bug, the client gets 500, one line says what it was, and the server goes on."""
    with served() as one:
        one.server._application._probes["/livez"] = lambda: json.loads("")
        for _ in range(5):
            assert one.get("/livez")[0] == 500
        assert one.get("/readyz")[0] == 200
    assert [event for event, _ in one.lines] == ["http-request-failed"]


def test_it_needs_no_thread_for_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a system that has no thread for the scrapes, they are made all the same."""
    from tests.support.threads import no_thread_left

    with served() as one, no_thread_left("scrapes") as tried:
        assert one.get("/metrics")[0] == 200
    assert tried == ["scrapes"]
