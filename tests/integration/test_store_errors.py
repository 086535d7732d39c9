"""A Redis that is away, frozen, full, read-only, empty or locked: what the store says, and how it comes back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from ha_monitor.check.online import check_store
from ha_monitor.config.schema import Config
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.store.connection import StoreConnection
from tests.integration.storing import Inside, Instance
from tests.support.certificates import Certificate
from tests.support.machine import Timed
from tests.support.process import free_port, wait_for_value, wait_until
from tests.support.proxy import CutLink
from tests.support.services import PrivateRedis
from tests.unit.builders import TIME, decode, event

EVENTS = [event("task-received"), event("task-started", at=TIME + 1)]


@pytest.fixture
def link(redis_server: PrivateRedis) -> Iterator[CutLink]:
    with CutLink(redis_server.port) as link:
        yield link


def through(link: CutLink, store_url: str) -> str:
    return f"redis://127.0.0.1:{link.url_port}/{store_url.rpartition('/')[2]}"


def why(instance: Instance) -> str:
    """Why an instance cannot start."""
    with pytest.raises(StoreUnavailable) as caught:
        instance.start()
    assert not instance.store.connected
    return str(caught.value)


def test_a_redis_that_is_not_there(store_url: str, link: CutLink) -> None:
    """Given a machine that refuses connections, the error says so, and starting later works."""
    instance = Instance(through(link, store_url))
    link.refuse()
    assert "Connection refused" in why(instance)

    link.heal()
    instance.start()
    assert len(instance.apply(EVENTS).items) == 2


def test_a_half_open_connection_is_noticed(store_url: str, link: CutLink) -> None:
    """Given a network that swallows everything, a call ends after store.timeout; on return nothing is lost or
    announced twice.
    """
    instance = Instance(through(link, store_url), timeout=0.5).start()
    instance.apply(EVENTS)
    link.cut()

    with Timed() as timed, pytest.raises(StoreUnavailable):
        instance.apply(event("task-succeeded", at=TIME + 2))
    assert timed.seconds > 0.4
    assert timed.undisturbed < 5, timed
    assert not instance.store.connected
    assert "imeout" in why(Instance(through(link, store_url), timeout=0.5))

    link.drop()
    link.heal()
    wait_for_value(lambda: link.connections, 0, what="the end of the old connections")
    instance.recover()
    instance.apply(event("task-succeeded", at=TIME + 2))
    assert instance.types == ["task-received", "task-started", "task-succeeded"]


def test_a_reply_that_is_lost_loses_no_announcement(store_url: str) -> None:
    """Given a batch that Redis merged but whose reply never came, recovering brings what is to be announced."""
    instance, inside = Instance(store_url).start(), Inside(store_url)
    instance.store.send_apply(decode(EVENTS))
    wait_for_value(lambda: inside.outbox(instance.store.token), 2, what="the merge")
    instance.store.close()
    with pytest.raises(StoreUnavailable):
        instance.store.receive_apply()

    instance.recover()
    again = instance.apply(EVENTS)

    assert (again.new, again.repeated) == (0, 2)
    assert instance.types == ["task-received", "task-started"]


def test_scripts_that_redis_forgot_are_loaded_again(store_url: str, redis_server: PrivateRedis) -> None:
    """Given SCRIPT FLUSH, the call fails once as if Redis were away, and works after connecting again."""
    instance = Instance(store_url).start()
    with redis_server.client() as client:
        client.script_flush()

    with pytest.raises(StoreUnavailable, match="has forgotten the scripts"):
        instance.apply(EVENTS)
    instance.recover()
    instance.apply(EVENTS)

    assert instance.types == ["task-received", "task-started"]


def test_a_redis_that_is_busy_with_a_script_of_others(own_redis: PrivateRedis) -> None:
    """Given somebody else's script that does not end, the error says so; when it is killed, nothing was lost."""
    instance = Instance(own_redis.url(), timeout=5.0).start()
    with own_redis.client() as others, own_redis.client() as operator:
        others.config_set("lua-time-limit", 50)

        def run_on() -> None:
            with suppress(redis.RedisError):
                others.eval("while true do end", 0)

        endless = threading.Thread(target=run_on)
        endless.start()

        def is_busy() -> bool:
            try:
                return not operator.ping()
            except redis.ResponseError as error:
                return str(error).startswith("BUSY")

        try:
            wait_until(is_busy, 30, "that Redis is busy")
            with pytest.raises(StoreUnavailable) as caught:
                instance.apply(EVENTS)
        finally:
            operator.script_kill()
            endless.join()
    instance.recover()
    instance.apply(EVENTS)

    assert "busy" in str(caught.value).lower()
    assert instance.types == ["task-received", "task-started"]


def test_a_redis_that_was_killed_and_kept_its_data(own_redis: PrivateRedis) -> None:
    """Given a Redis that is killed and comes back with its file, the instance keeps its outbox, under a new token."""
    instance = Instance(own_redis.url()).start()
    instance.apply(EVENTS, announce=False)
    token = instance.store.token
    own_redis.kill()
    with pytest.raises(StoreUnavailable):
        instance.tick()

    own_redis.start()
    instance.recover()

    assert instance.types == ["task-received", "task-started"]
    assert instance.store.token > token
    assert instance.apply(EVENTS).repeated == 2


def test_a_redis_that_came_back_empty(own_redis: PrivateRedis) -> None:
    """Given a Redis that lost everything, the instance learns it, and goes on as a new one."""
    instance = Instance(own_redis.url()).start()
    with own_redis.client() as client:
        client.flushall()

    with pytest.raises(LeaseLost):
        instance.apply(EVENTS)
    instance.store.register({})
    instance.apply(EVENTS)

    assert instance.types == ["task-received", "task-started"]


def test_a_redis_that_still_loads_its_data(own_redis: PrivateRedis) -> None:
    """Given a frozen Redis, the instance does not hang; when it runs again, nothing was lost."""
    instance = Instance(own_redis.url(), timeout=0.5).start()
    own_redis.pause()
    with pytest.raises(StoreUnavailable):
        instance.apply(EVENTS)

    own_redis.resume()
    instance.recover()
    instance.apply(EVENTS)

    assert sorted(instance.types) == ["task-received", "task-started"]


def test_a_password_is_needed_or_wrong(own_redis: PrivateRedis) -> None:
    """Given a Redis with a password, each way of not having it is said, without showing any."""
    with own_redis.client() as client:
        client.config_set("requirepass", "opensesame")
    address = f"127.0.0.1:{own_redis.port}/0"

    missing = why(Instance(f"redis://{address}"))
    wrong = why(Instance(f"redis://:hunter2@{address}"))

    assert "Redis requires a password in store.url" in missing
    assert "the user name or password in store.url is wrong" in wrong
    assert "hunter2" not in wrong
    Instance(f"redis://:opensesame@{address}").start()


def test_a_replica_is_refused(own_redis: PrivateRedis) -> None:
    """Given the address of a replica, the error says to name the primary."""
    with PrivateRedis() as replica:
        replica.follow(own_redis)

        assert "this is a replica; name the primary" in why(Instance(replica.url()))


def test_keys_that_redis_drops_are_told(own_redis: PrivateRedis) -> None:
    """Given a Redis that drops keys to make room, the instance and the check learn that it may, and that it did."""
    instance = Instance(own_redis.url()).start()
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "volatile-ttl")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)
        assert instance.store.info().dropped == 0
        for number in range(30):
            client.set(f"other:{number}", b"x" * 100_000, ex=100)
        dropped = client.info("stats")["evicted_keys"]

    told = instance.store.info()

    assert told.dropped == dropped > 0
    checked = [finding.text for finding in check_store(Config(store=instance.settings))]
    for said in (*told.risks, f"Redis has dropped {dropped} keys"):
        assert any(said in text for text in checked)
    assert any("maxmemory-policy is volatile-ttl" in risk for risk in told.risks)


def test_replicas_that_a_primary_does_not_wait_for_are_a_risk(own_redis: PrivateRedis) -> None:
    """Given a primary with a replica, that is a risk for the instance and for the check, until the primary waits."""
    instance = Instance(own_redis.url()).start()
    config = Config(store=instance.settings)

    def told() -> list[str]:
        checked = [finding.text for finding in check_store(config) if "min-replicas" in finding.text]
        assert [risk for risk in instance.store.info().risks if "min-replicas" in risk] == checked
        return checked

    assert told() == []
    with PrivateRedis() as replica, own_redis.client() as primary:
        replica.follow(own_redis)
        (risk,) = told()
        primary.config_set("min-replicas-to-write", 1)

        assert "min-replicas-to-write is 0 on a Redis with 1 replicas" in risk
        assert told() == []


def test_a_primary_that_became_a_replica_is_left(own_redis: PrivateRedis) -> None:
    """Given a fail-over under a running instance, the next call fails and closes the connection, so that the next
    attempt asks again who the primary is.
    """
    instance = Instance(own_redis.url()).start()
    with own_redis.client() as client:
        client.replicaof("127.0.0.1", "1")

    with pytest.raises(StoreUnavailable, match="this is a replica"):
        instance.apply(EVENTS)

    assert not instance.store.connected


def test_a_full_redis_takes_nothing_and_says_what_to_do() -> None:
    """Given a Redis at its maxmemory, the error says what to do; with more memory the batch goes through."""
    with PrivateRedis(options=("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")) as server:
        instance = Instance(server.url()).start()
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
            with pytest.raises(StoreUnavailable, match="Redis is at its maxmemory; give it more"):
                instance.apply(EVENTS)
            client.config_set("maxmemory", "100mb")
        instance.recover()
        instance.apply(EVENTS)

        assert instance.types == ["task-received", "task-started"]


def test_what_is_no_redis(redis_server: PrivateRedis) -> None:
    """Given a database number that does not exist, the error is one line that says so."""
    reason = why(Instance(f"redis://127.0.0.1:{redis_server.port}/9999"))

    assert "out of range" in reason
    assert "\n" not in reason


def test_a_late_reply_is_not_taken_for_the_next_one(own_redis: PrivateRedis) -> None:
    """Given a call that timed out, its late reply is not read as that of another call."""
    instance = Instance(own_redis.url(), timeout=0.3).start()
    own_redis.pause()
    with pytest.raises(StoreUnavailable):
        instance.tick()
    own_redis.resume()
    with redis.Redis(port=own_redis.port) as client:
        client.ping()

    with pytest.raises(StoreUnavailable, match="not connected to Redis"):
        instance.tick()
    instance.recover()
    assert instance.tick().items == []


def test_tls_is_verified(certificates: list[Certificate]) -> None:
    """Given a Redis with TLS, it is used if its certificate is of the authority named in the URL, and only then."""
    ours, others = certificates
    port = free_port()
    options: tuple[str, ...] = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(ours.ca))
    options += ("--tls-cert-file", str(ours.cert), "--tls-key-file", str(ours.key))
    with PrivateRedis(options=options):
        url = f"rediss://127.0.0.1:{port}/0"
        for wrong in ("", f"?ssl_ca_certs={others.ca}"):
            assert "certificate verify failed" in why(Instance(url + wrong)).lower()

        verified = Instance(f"{url}?ssl_ca_certs={ours.ca}").start()
        assert len(verified.apply(EVENTS).items) == 2


def test_connecting_hands_over_all_scripts_in_one_round_trip(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a Redis that may be far away, connecting waits for it once, not once a script."""
    instance = Instance(store_url)
    steps: list[str] = []
    for name in ("send", "receive"):
        step = getattr(StoreConnection, name)
        monkeypatch.setattr(
            StoreConnection, name, lambda self, *args, step=step, name=name: steps.append(name) or step(self, *args)
        )

    instance.store.connect()

    turns = [name for name, _ in itertools.groupby(steps)]
    assert turns == ["send", "receive"]
    assert len(steps) > 20
