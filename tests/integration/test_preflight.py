"""What `check --online` finds before an instance is started, and what it says: each fault of a service in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from ha_monitor.broker.inspection import prefixes_of_workers
from ha_monitor.check.findings import Finding, Severity
from ha_monitor.check.online import check_broker, check_store
from ha_monitor.check.workers import check_workers
from ha_monitor.config.schema import Broker, Config, StoreSettings
from ha_monitor.store.reader import StoreReader
from tests.integration.storing import Instance
from tests.support.certificates import Certificate
from tests.support.instances import vhost_of
from tests.support.process import wait_for_value, wait_until
from tests.support.rights import PASSWORD, STORE_USER, as_monitor, broker_rules, broker_user, documented_permissions
from tests.support.sentinel import SERVICE, sentinel_of
from tests.support.services import PrivateRabbitMQ, PrivateRedis, free_port

NOWHERE = "redis://127.0.0.1:1/0"


def broken(findings: Iterator[Finding]) -> list[tuple[str, bool]]:
    """What an instance could not run with, and whether waiting alone does not help."""
    return [(one.text, one.lasting) for one in findings if one.severity is Severity.FAILED]


def warned(findings: Iterator[Finding]) -> list[str]:
    return [one.text for one in findings if one.severity is Severity.WARNING]


def store_at(url: str) -> Config:
    return Config(store=StoreSettings(url=url, timeout=0.5))


def broker_at(url: str, **settings: Any) -> Config:
    return Config(broker=Broker(url=url, connect_timeout=0.5, **settings), store=StoreSettings(url=NOWHERE))


def test_a_store_that_takes_no_writes_is_found(own_redis: PrivateRedis) -> None:
    """Given a Redis that answers and takes no writes, as it is full, lacks replicas, or cannot save, the check fails
    with the cure; none of these is a matter of the configuration. It has written nothing.
    """
    config, where = store_at(own_redis.url()), f"Redis at 127.0.0.1:{own_redis.port}/0 refused: "
    with own_redis.client() as client:
        assert broken(check_store(config)) == []
        for setting, value, said in (
            ("maxmemory", "1mb", "Redis is at its maxmemory; give it more, or keep less (store.success_ttl)"),
            (
                "min-replicas-to-write",
                "1",
                "it takes no writes, since fewer replicas follow it than its min-replicas-to-write demands: start "
                "them, or lower that",
            ),
        ):
            client.config_set(setting, value)
            assert broken(check_store(config)) == [(where + said, False)]
            client.config_set(setting, "0")
        assert list(client.scan_iter()) == []

        client.config_set("save", "3600 1")
        shutil.rmtree(own_redis.dir)
        client.bgsave()
        wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], 30, "the save that fails")
        ((said, lasting),) = broken(check_store(config))
        client.config_set("stop-writes-on-bgsave-error", "no")

        assert (said.startswith(f"{where}it takes no writes, since its last save to disk failed: "), lasting) == (
            True,
            False,
        )
        assert broken(check_store(config)) == []
        assert any("Redis could not save to disk" in text for text in warned(check_store(config)))
        client.config_set("save", "")  # it would not stop before it has saved


def test_a_store_without_a_command_is_found() -> None:
    """Given a Redis whose administrator took SCRIPT away, the check and an instance say which command is missing, and
    nothing of the script that was sent.
    """
    with PrivateRedis(options=("--rename-command", "SCRIPT", "")) as server:
        with pytest.raises(Exception, match="does not know the command SCRIPT") as caught:
            Instance(server.url()).start()
        ((said, lasting),) = broken(check_store(store_at(server.url())))

    assert said == str(caught.value)
    assert lasting
    assert "local" not in said


def test_a_store_that_does_not_answer_is_named(own_redis: PrivateRedis) -> None:
    """Given a frozen Redis, the line has its address, and the setting that says how long was waited."""
    own_redis.pause()

    ((said, lasting),) = broken(check_store(store_at(own_redis.url())))

    assert said.startswith(f"Redis at 127.0.0.1:{own_redis.port}/0: no answer within 0.5 s (store.timeout): it hangs")
    assert not lasting


def test_scheme_and_port_that_do_not_fit(certificates: list[Certificate], rabbitmq: PrivateRabbitMQ) -> None:
    """Given URLs with the scheme of another port, and files of TLS that are missing or of another authority, each line
    names the setting to correct.
    """
    ours, others = certificates
    tls = free_port()
    options: tuple[str, ...] = ("--tls-port", str(tls), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(ours.ca))
    options += ("--tls-cert-file", str(ours.cert), "--tls-key-file", str(ours.key))
    with PrivateRedis(options=options) as server:
        plain, amqp = server.port, rabbitmq.port
        for url, said, lasting in (
            (f"redis://127.0.0.1:{amqp}/0", "RabbitMQ answers there, not Redis: correct", True),
            (f"rediss://127.0.0.1:{amqp}/0", "what answers there does not speak TLS (", True),
            (f"rediss://127.0.0.1:{plain}/0", "is not one for rediss://", False),
            (f"rediss://127.0.0.1:{tls}/0", "nobody trusted here signed it; set ", True),
            (f"rediss://127.0.0.1:{tls}/0?ssl_ca_certs={others.ca}", "nobody trusted here signed it; set ", True),
            (f"rediss://127.0.0.1:{tls}/0?ssl_ca_certs=/none", "url = /none: No such file or directory", True),
            (f"redis://127.0.0.1:{tls}/0", "then use rediss:// instead of redis://", False),
        ):
            for found in (broken(check_store(store_at(url))), broken(check_broker(broker_at(url)))):
                assert [(said in text, told) for text, told in found] == [(True, lasting)], (url, found)
        for url, said, lasting in (
            (f"amqps://u:hunter22@127.0.0.1:{amqp}//", "use amqp:// instead of amqps://", True),
            (f"amqp://u:hunter22@127.0.0.1:{plain}//", "or the port in broker.url is not one for amqp://", False),
            (f"amqps://u:hunter22@127.0.0.1:{tls}//", "nobody trusted here signed it; set broker.tls.ca_certs", True),
        ):
            ((text, told),) = broken(check_broker(broker_at(url)))
            assert (said in text, told, "hunter22" in text) == (True, lasting, False), (url, text)
        ((text, told),) = broken(check_broker(broker_at(f"amqps://127.0.0.1:{amqp}//", tls={"hunger": 1})))
        assert (text, told) == ("broker.tls.hunger: unknown option", True)


def test_rights_that_an_instance_would_miss_are_found(
    rabbitmq: PrivateRabbitMQ, broker_url: str, redis_server: PrivateRedis, redis_broker_url: str
) -> None:
    """Given a user of RabbitMQ who may not declare the queue, and one of Redis who may use no channel, the check names
    right and cure before an instance needs it; so it does of loading scripts, as kombu does when Redis was restarted.
    """
    vhost, permissions = vhost_of(broker_url), documented_permissions()
    rabbitmq.set_permissions(STORE_USER, vhost, permissions._replace(configure="^$"))
    ((said, lasting),) = broken(check_broker(broker_at(as_monitor(broker_url))))
    assert f"user monitor may not configure the queue celeryev.ha-monitor in vhost {vhost}; grant it: " in said
    assert lasting

    database = int(redis_broker_url.rpartition("/")[2])
    rules, url = broker_rules(database), as_monitor(redis_broker_url, broker=True)
    with redis_server.client() as client:

        def set_rules(*missing: str) -> None:
            kept = [rule for rule in rules if rule not in missing]
            client.execute_command("ACL", "SETUSER", broker_user(database), "reset", "on", f">{PASSWORD}", *kept)

        try:
            set_rules(f"&/{database}.celeryev/*")
            ((said, lasting),) = broken(check_broker(broker_at(url)))
            set_rules("+script|load")
            (warning,) = warned(check_workers(broker_at(url)))
        finally:
            set_rules()
    assert f"may not use the channels /{database}.celeryev/* /{database}.celery.pidbox; grant it: ACL SETUSER" in said
    assert lasting
    assert f"user {broker_user(database)} may not run SCRIPT LOAD; grant it: ACL SETUSER" in warning


def test_a_queue_on_a_node_that_is_down_is_not_missing(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    """Given a queue of another node of the cluster, which is down, the check names the node to start; it does not say
    that the queue is still to be declared.
    """
    vhost = vhost_of(broker_url)
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"celeryev.ha-monitor">>)'
    with rabbitmq.connection(vhost) as connection:
        connection.channel().queue_declare("celeryev.ha-monitor", durable=True, auto_delete=False)
    # What a node of the cluster knows while that of the queue is down.
    rabbitmq.evaluate(
        f"Name = {name}, "
        "{ok, Queue} = rabbit_amqqueue:lookup(Name), "
        'Elsewhere = binary_to_term(<<131, 88, 119, 8, "rabbit@b", 1:32, 0:32, 1:32>>), '
        "ok = mnesia:dirty_write(rabbit_durable_queue, amqqueue:set_pid(Queue, Elsewhere)), "
        "ok = mnesia:dirty_delete(rabbit_queue, Name)."
    )
    try:
        findings = list(check_broker(broker_at(broker_url)))
    finally:
        rabbitmq.evaluate(f"mnesia:dirty_delete(rabbit_durable_queue, {name}).")

    assert [one.severity for one in findings] == [Severity.FAILED]
    assert "home node 'rabbit@b'" in findings[0].text
    assert findings[0].text.endswith("start rabbit@b, or use a quorum queue on three nodes")


def test_sentinels_that_cannot_fail_over_are_found(own_redis: PrivateRedis, tmp_path: Path) -> None:
    """Given sentinels without a replica, without a quorum, or that do not answer, the check says what to start; with
    all of them it says nothing.
    """
    away = free_port()
    with PrivateRedis() as replica, own_redis.client() as primary:
        replica.follow(own_redis)
        with sentinel_of(own_redis, tmp_path) as sentinel, redis.Redis(port=sentinel) as watcher:

            def told(service: str = SERVICE, more: str = "") -> list[str]:
                url = f"sentinel://127.0.0.1:{sentinel}{more}/{service}"
                return StoreReader(StoreSettings(url=url, timeout=0.5), "ha-monitor").sentinel_problems()

            wait_for_value(told, [], 60, "that the sentinel knows the replica")
            watcher.execute_command("SENTINEL", "SET", SERVICE, "quorum", "2")
            too_few = told()
            replica.kill()
            wait_until(lambda: not primary.info("replication")["connected_slaves"], 60, "the end of the replica")
            watcher.execute_command("SENTINEL", "SET", SERVICE, "quorum", "1")
            watcher.execute_command("SENTINEL", "RESET", SERVICE)
            alone = told(more=f",127.0.0.1:{away}")
            unknown = told("other")

    assert too_few == [
        f"sentinel 127.0.0.1:{sentinel}: too few sentinels see each other (1 usable) for the quorum of the service "
        "main, or for a majority: start the others; until then a failed primary is not replaced"
    ]
    assert alone == [
        f"sentinel 127.0.0.1:{sentinel}: there is no replica of the service main: start one; until then a failed "
        "primary is not replaced",
        f"sentinel 127.0.0.1:{away}: Connection refused",
    ]
    assert unknown == [f"sentinel 127.0.0.1:{sentinel}: it does not know other; correct the name in store.url"]


def test_a_key_prefix_that_only_one_side_has_is_found(redis_server: PrivateRedis, redis_broker_url: str) -> None:
    """Given workers whose application sets `global_keyprefix`, an instance without it hears nothing of them: the check
    says so, and names theirs. With the same prefix, or no workers at all, nothing is said of it.
    """
    ours = broker_at(redis_broker_url)
    same = broker_at(redis_broker_url, transport_options={"global_keyprefix": "shop:"})
    assert prefixes_of_workers(redis_broker_url, ours) == set()
    with Connection(redis_broker_url, transport_options={"global_keyprefix": "shop:"}) as worker:
        Queue("w@h.celery.pidbox", Exchange("celery.pidbox", "fanout"), channel=worker.default_channel).declare()

        (text,) = warned(check_workers(ours))
        (others,) = warned(check_workers(same))

    assert text.partition(": ")[2].startswith(
        "no worker answered, and there are workers with global_keyprefix 'shop:', here it is '': neither their events"
    )
    assert "global_keyprefix" not in others
