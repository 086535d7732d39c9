"""The HTTP server of an instance: who is answered, and with what."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Http
from ha_monitor.errors import ConfigurationError
from ha_monitor.metrics import http
from ha_monitor.metrics.health import Health
from ha_monitor.metrics.http import HttpServer, address_of
from tests.support.certificates import Certificate
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.threads import plain_threads
from tests.unit.builders import TurnedClock


def working() -> tuple[Health, TurnedClock]:
    """The health of an instance that does everything it should."""
    clock = TurnedClock()
    health = Health(clock, 30.0, 5.0)
    health.store(None)
    health.broker(None)
    return health, clock


def made(settings: Http, health: Health | None = None, registry: Any = None, **more: Any) -> HttpServer:
    """A server that was not started yet."""
    options: dict[str, Any] = {"threads": plain_threads(), "clock": SystemClock(), "warn": lambda *_, **__: None} | more
    return HttpServer(settings, "1", health or working()[0], registry or CollectorRegistry(), **options)


@contextmanager
def serving(health: Health, **settings: Any) -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("apples", "Apples eaten.", registry=registry).inc(3)
    server = made(Http(listen="127.0.0.1:0", **settings), health, registry)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def get(url: str, **more: Any) -> tuple[int, str]:
    """Status and body."""
    headers = more.pop("headers", {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=patient(10), **more) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ready(health: Health) -> tuple[int, dict[str, Any]]:
    with serving(health) as port:
        status, body = get(f"http://127.0.0.1:{port}/readyz")
    return status, json.loads(body)


def test_a_working_instance_is_live_and_ready_and_has_metrics() -> None:
    """Given an instance that consumes and whose store answers, all three say so."""
    health, _ = working()
    health.batch_began()
    health.batch_committed()

    with serving(health) as port:
        base = f"http://127.0.0.1:{port}"
        assert get(f"{base}/livez") == (200, '{"status": "ok", "progress_age": 0.0, "stalled_after": 30.0}\n')
        status, body = get(f"{base}/readyz")
        assert (status, json.loads(body)) == (
            200,
            {"status": "ok", "reasons": [], "consuming": True, "store": True, "last_commit_age": 0.0},
        )
        status, body = get(f"{base}/metrics")
        assert status == 200 and "apples_total 3.0" in body.splitlines()
        assert get(f"{base}/other")[0] == 404


def test_what_a_person_or_a_celery_exporter_probe_asks_is_answered() -> None:
    """Given `/`, there is a list of what is served; `/health`, which celery-exporter's users probe, is `/readyz`; HEAD
    has the status and the length, and no body. A password is needed for none of them."""
    health, clock = working()

    with serving(health, username="prometheus", password="s3cret") as port:
        base = f"http://127.0.0.1:{port}"
        status, index = get(f"{base}/")
        assert status == 200
        assert [line.split()[0] for line in index.splitlines()[1:]] == ["/metrics", "/readyz", "/livez"]
        assert get(f"{base}/health") == get(f"{base}/readyz")
        for path in ("/", "/health", "/livez"):
            asked = urllib.request.Request(f"{base}{path}", method="HEAD")
            with urllib.request.urlopen(asked, timeout=patient(10)) as reply:
                assert reply.status == 200
                assert int(reply.headers["Content-Length"]) > 0
                assert reply.read() == b""
        clock.now += 31
        assert get(f"{base}/health")[0] == 503


def test_a_stuck_loop_is_neither_live_nor_ready() -> None:
    """Given a loop without progress for longer than stalled_after, both probes fail until it goes on."""
    health, clock = working()
    clock.now += 30.5

    with serving(health) as port:
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 503
        assert get(f"http://127.0.0.1:{port}/readyz")[0] == 503
        health.progress()
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 200
        assert get(f"http://127.0.0.1:{port}/readyz")[0] == 200


def test_a_consumer_without_a_store_for_longer_than_its_lease_does_not_consume() -> None:
    """Given a broker that delivers and a store that is away, it consumes for as long as the lease may last."""
    health, clock = working()
    health.store("Connection refused")
    clock.now += 5
    assert health.ready().details["consuming"] is True

    clock.now += 1
    health.store("Connection refused")
    assert health.ready().details["consuming"] is False

    health.store(None)
    assert health.ready().details["consuming"] is True


def test_not_ready_says_why() -> None:
    """Given a store and a broker that are away, and a batch that does not get done, each is named."""
    health, clock = working()
    health.store("Connection refused")
    health.broker("timed out")
    health.batch_began()
    clock.now += 31
    health.progress()

    assert ready(health) == (
        503,
        {
            "status": "failing",
            "reasons": [
                "store: Connection refused",
                "broker: timed out",
                "a batch has not been committed for 31.0 s",
            ],
            "consuming": False,
            "store": False,
            "last_commit_age": None,
        },
    )


def test_an_instance_that_stops_is_not_ready() -> None:
    health, _ = working()
    health.stopping()

    assert ready(health)[1]["reasons"] == ["stopping"]


def test_metrics_only_for_those_who_know_the_password() -> None:
    """Given a user name and password, metrics need both; the probes, which a service manager asks, do not."""
    health, _ = working()

    with serving(health, username="prometheus", password="s3cret:ü") as port:
        base = f"http://127.0.0.1:{port}"
        right = "Basic " + base64.b64encode("prometheus:s3cret:ü".encode()).decode()
        wrong = "Basic " + base64.b64encode(b"prometheus:other").decode()
        assert get(f"{base}/metrics")[0] == 401
        assert get(f"{base}/metrics", headers={"Authorization": wrong})[0] == 401
        assert get(f"{base}/metrics", headers={"Authorization": right})[0] == 200
        assert get(f"{base}/livez")[0] == 200


def test_tls(certificates: list[Certificate]) -> None:
    """Given a certificate, a client that trusts it gets metrics, and a silent one does not keep others waiting."""
    health, _ = working()
    ours = certificates[0]
    trusting = ssl.create_default_context(cafile=str(ours.ca))

    with (
        serving(health, tls_certificate=str(ours.cert), tls_key=str(ours.key)) as port,
        socket.create_connection(("127.0.0.1", port)),
    ):
        assert get(f"https://127.0.0.1:{port}/metrics", context=trusting)[0] == 200


def test_a_wrong_certificate_is_a_configuration_error(certificates: list[Certificate]) -> None:
    key = str(certificates[0].key)
    settings = Http(listen="127.0.0.1:0", tls_certificate=key, tls_key=key)

    with pytest.raises(ConfigurationError, match=r"http\.tls_certificate"):
        made(settings)


def test_an_encrypted_key_is_a_configuration_error(certificates: list[Certificate], tmp_path: Path) -> None:
    """Given a key with a passphrase, nobody is asked for it at the terminal: the text names the file and what to do."""
    ours, key = certificates[0], tmp_path / "key.pem"
    encrypt = ["openssl", "pkey", "-in", str(ours.key), "-aes256", "-passout", "pass:hunter2", "-out", str(key)]
    subprocess.run(encrypt, check=True, capture_output=True, timeout=patient(60))
    settings = Http(listen="127.0.0.1:0", tls_certificate=str(ours.cert), tls_key=str(key))

    with pytest.raises(ConfigurationError) as raised:
        made(settings)

    assert str(raised.value) == (
        f"http.tls_key = {key}: it is encrypted, and a service cannot be asked for its passphrase; write it without: "
        f"openssl pkey -in {key} -out …"
    )


def test_an_address_in_use_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a port that another program has, that is told once; when it is free, it is bound after all."""
    monkeypatch.setattr(http, "BIND_RETRY_AFTER", 0.05)
    reasons: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen = f"127.0.0.1:{port}"
        server = made(Http(listen=listen), refused=reasons.append)
        server.start()
        assert reasons == [f"http.listen = {listen}: Address already in use"]
    wait_until(lambda: server.port, 30, "the port")

    assert get(f"http://127.0.0.1:{port}/livez")[0] == 200
    server.stop()
    assert len(reasons) == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid"])
def test_an_address_that_is_not_there_yet_does_not_keep_the_instance_from_its_work(host: str) -> None:
    """Given an address or a name that nobody has, as before a fail-over, it is told, and stopping is possible."""
    reasons: list[str] = []
    server = made(Http(listen=f"{host}:9541"), refused=reasons.append)
    server.start()
    server.stop()

    assert len(reasons) == 1
    assert reasons[0].startswith(f"http.listen = {host}:9541: ")


@pytest.mark.parametrize(
    ("listen", "instance", "expected"),
    [
        ("127.0.0.1:954%i", "2", ("127.0.0.1", 9542)),
        ("[::1]:9540", "1", ("::1", 9540)),
        ("0.0.0.0:%i", "9541", ("0.0.0.0", 9541)),
    ],
)
def test_the_instance_is_part_of_the_port(listen: str, instance: str, expected: tuple[str, int]) -> None:
    assert address_of(listen, instance) == expected


@pytest.mark.parametrize(("listen", "instance"), [("127.0.0.1:954%i", "blue"), ("127.0.0.1:954%i", "123")])
def test_a_name_that_makes_no_port_is_a_configuration_error(listen: str, instance: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a port"):
        address_of(listen, instance)
