"""The store behind a real Redis Sentinel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, StoreSettings
from ha_monitor.config.schema import ResultBackend as ResultSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.store import RedisStore
from tests.support.certificates import Certificate
from tests.support.instances import Fleet
from tests.support.machine import patient
from tests.support.process import free_port, wait_until
from tests.support.rights import PASSWORD, STORE_USER, documented
from tests.support.sentinel import Sentinel, fail_over, replica_of, sentinel_of, three_sentinels_of
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads

LONG = 60.0
"""A time-out that a busy machine does not reach."""
UNNAMED = "Redis: no sentinel names the primary of main: "


def test_the_primary_is_found_by_a_sentinel(redis_server: PrivateRedis, sentinel: int) -> None:
    """Given a sentinel that watches a Redis, an instance that knows only the sentinel registers in that Redis."""
    store = RedisStore(
        StoreSettings(url=f"sentinel://127.0.0.1:{sentinel}/main/9", timeout=LONG), "sentinel", SystemClock()
    )
    store.connect()
    store.register({"instance": "1"})
    with redis_server.client(9) as client:
        assert client.exists(f"{{ha-monitor:sentinel}}:instance:{store.token}") == 1
    assert store.unregister() == 0


def test_an_instance_leaves_a_primary_that_the_sentinels_replaced(own_redis: PrivateRedis, tmp_path: Path) -> None:
    """Given a fail-over by hand, an instance goes to the new primary while the old one still takes writes."""
    with sentinel_of(own_redis, tmp_path) as sentinel, replica_of(own_redis, sentinel) as replica:
        settings = StoreSettings(url=f"sentinel://127.0.0.1:{sentinel}/main", timeout=LONG)
        store = RedisStore(settings, "sentinel", SystemClock())
        store.connect()
        store.register({"instance": "1"})
        with replica.client() as client:
            wait_until(lambda: client.exists(store.keys.instance(store.token)), what="the replica to have it")
        fail_over(sentinel)

        def leaves() -> bool:
            try:
                store.tick(b"{}", [])
            except StoreUnavailable as error:
                return f"another primary now: 127.0.0.1:{replica.port}" in str(error)
            return False

        wait_until(leaves, 60, "the instance to leave the old primary", 0.1)
        with own_redis.client() as client:
            assert client.info("replication")["role"] == "master", "the old one was turned away first: no proof"
        store.connect()
        store.recover()
        assert store.unregister() == 0


def test_sentinels_that_hang(tmp_path: Path, redis_server: PrivateRedis, store_url: str, redis_broker_url: str) -> None:
    """Given three sentinels of which one hangs, an instance starts as if it did not. Given that all hang when it has to
    connect again, it says so and waits, `status` says the same, and SIGTERM ends it.
    """
    with three_sentinels_of(redis_server, tmp_path) as sentinels:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        url = f"sentinel://{places}/main{urlsplit(store_url).path}"
        sentinels[0].hang()
        fleet = Fleet(tmp_path, redis_broker_url, url, size=1, settings={"store": {"lease": 7.0, "timeout": 4.0}})
        with fleet.start(), redis_server.client() as client:
            for sentinel in sentinels:
                sentinel.hang()
            client.execute_command("CLIENT", "KILL", "USER", STORE_USER)
            wait_until(
                lambda: any(UNNAMED in line["reason"] for line in fleet.said("store-unavailable")), 30, "the line"
            )

            (instance,) = fleet.instances
            status = [sys.executable, "-m", "ha_monitor", "status", "--config", str(tmp_path / "fleet.toml")]
            said = subprocess.run(status, capture_output=True, text=True, timeout=patient(20), check=False)
            assert (said.returncode, said.stderr.count("\n")) == (69, 1)
            assert f"127.0.0.1:{sentinels[2].port}: no answer within" in said.stderr
            assert instance.stop() == 0


def test_sentinels_with_tls_and_users(tmp_path: Path, certificates: list[Certificate]) -> None:
    """Given a Redis and its sentinel that listen with TLS alone, and a sentinel that wants users with just the
    documented rights, store, broker and result backend are reached; nothing is, if the authority is another one or the
    password of the sentinel is missing.
    """
    ours, others = certificates
    tls_port = free_port()
    tls = [
        f"tls-cert-file {ours.cert}",
        f"tls-key-file {ours.key}",
        f"tls-ca-cert-file {ours.ca}",
        "tls-auth-clients no",
    ]
    options = [f"--{line}" for line in (f"tls-port {tls_port}", *tls)]
    rules = documented("ACL SETUSER monitor-sentinel ")[5:]
    for_store = [rule for rule in rules if rule != "+sentinel|masters"]
    users = [f"user {name} on >{PASSWORD} {' '.join(of)}" for name, of in (("ann", for_store), ("bob", rules))]
    locked = ["requirepass everything", "tls-replication yes", *users]
    with PrivateRedis(options=tuple(word for line in options for word in line.split(" ", 1))):
        sentinel = Sentinel(tls_port, tmp_path, port_is="tls-port", settings=[*tls, *locked])
        try:
            sentinel.wait()
            place, ca = f"sentinel://127.0.0.1:{sentinel.port}", f"?ssl_ca_certs={ours.ca}"
            login = f"&sentinel_password={PASSWORD}&sentinel_username="
            store = StoreConnection(StoreSettings(url=f"{place}/main{ca}{login}ann", timeout=LONG))
            store.connect()
            assert store.call("PING") == b"PONG"
            store.close()
            reader = StoreReader(StoreSettings(url=f"{place}/main{ca}{login}ann"), "ha-monitor")
            (problem,) = reader.sentinel_problems()
            assert problem.startswith(f"sentinel 127.0.0.1:{sentinel.port}: there is no replica of the service main")

            named = {"master_name": "main"}
            settings = Broker(url=f"{place}/0{ca}{login}bob", transport_options=named, connect_timeout=LONG)
            broker = Config(broker=settings)
            source = RedisSource(broker, SystemClock(), plain_threads())
            source.connect()
            source.close()
            results = ResultBackend(ResultSettings(url=f"{place}/1{ca}{login}bob", transport_options=named))
            assert results.results(["none"]) == {"none": None}

            for url, reason in (
                (f"{place}/main{ca}", "it requires a password: set sentinel_password"),
                (f"{place}/main?ssl_ca_certs={others.ca}{login}ann", "certificate verify failed"),
                (f"{place}/main?sentinel_username=ann&sentinel_password={PASSWORD}", f"127.0.0.1:{sentinel.port}: "),
            ):
                with pytest.raises(StoreUnavailable, match=reason):
                    StoreConnection(StoreSettings(url=url, timeout=LONG)).connect()
        finally:
            sentinel.end()
