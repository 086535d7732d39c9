"""A host with RabbitMQ and Redis serves the others, with each of the two releases of Debian."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import amqp
import pytest
import redis

from tests.support.hosts import RABBITMQ, REDIS, Bridge, Services
from tests.support.machine import patient
from tests.support.measured import Measured
from tests.support.process import wait_for_value
from tests.support.services import NO_RETRY

RULES = Path(__file__).parents[2] / "packaging/prometheus/ha-monitor.rules.yml"
VERSIONS = {"bookworm": ("3.10", "7."), "trixie": ("4.0", "8.")}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def services(request: pytest.FixtureRequest, bridge: Bridge, measured: Measured) -> Iterator[Services]:
    made = Services(bridge, f"services-{request.param}", request.param)
    began = time.monotonic()
    with made.host as host:
        took = time.monotonic() - began
        measured(f"services of {host.suite}", f"{took:.1f} s to start, {host.memory_bytes() / 1e6:.0f} MB memory")
        yield made


def connect(services: Services, *, password: str = "", vhost: str = "/") -> amqp.Connection:
    connection = amqp.Connection(
        f"{services.host.address}:5672",
        userid=services.user,
        password=password or services.password,
        virtual_host=vhost,
        connect_timeout=patient(10),
    )
    connection.connect()
    return connection


def test_rabbitmq_serves_its_user_and_keeps_a_durable_queue_over_a_restart(services: Services) -> None:
    services.add_vhost("events")
    connection = connect(services, vhost="events")
    version = connection.server_properties["version"]
    assert version.startswith(VERSIONS[services.host.suite][0])
    channel = connection.channel()
    channel.confirm_select()
    channel.queue_declare("kept", durable=True, auto_delete=False)
    channel.basic_publish_confirm(amqp.Message("hello", delivery_mode=2), routing_key="kept")

    services.host.run(f"systemctl restart {RABBITMQ}", timeout=120)

    connection.collect()
    connection = connect(services, vhost="events")
    assert connection.channel().basic_get("kept", no_ack=True).body == "hello"
    connection.close()


def test_rabbitmq_refuses_a_wrong_password_and_the_built_in_user(services: Services) -> None:
    with pytest.raises(amqp.AccessRefused):
        connect(services, password="wrong")
    assert "guest" not in services.host.run("rabbitmqctl -q list_users").stdout


def test_rabbitmq_counts_what_a_limited_queue_drops_by_the_names_in_the_alert(services: Services) -> None:
    """Given the plugin for Prometheus, both series of the alert are there, with its labels, and count exactly."""
    services.host.run("rabbitmq-plugins enable rabbitmq_prometheus", timeout=120)
    address = f"http://{services.host.address}:15692/metrics"
    services.add_vhost("limited")
    before = dropped(address)

    connection = connect(services, vhost="limited")
    channel = connection.channel()
    channel.confirm_select()
    for queue, limit in (("short", {"x-max-length": 10}), ("quick", {"x-message-ttl": 1})):
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum", **limit})
        for _ in range(50):
            channel.basic_publish_confirm(amqp.Message("event"), routing_key=queue)
    # A quorum queue looks at the time when somebody asks for a message, and then not of the one that is handed out.
    in_time = sum(channel.basic_get("quick", no_ack=True) is not None for _ in range(50))

    wait_for_value(
        lambda: dropped(address), [before[0] + 40, before[1] + 50 - in_time], 60, "the counters", interval=0.5
    )
    connection.close()
    services.delete_vhost("limited")


def dropped(address: str) -> list[int]:
    """What the two series of the alert CeleryEventsDropped are at."""
    with urllib.request.urlopen(address, timeout=patient(10)) as reply:
        text = reply.read().decode()
    rules = RULES.read_text()
    found = []
    for name, labels in re.findall(r"increase\((rabbitmq_global_\w+)\s*\{(.+?)\}", rules):
        wanted = sorted(labels.split(", "))
        series = re.findall(rf"(?m)^{name}\{{(.+?)\}} (\d+)$", text)
        (value,) = [int(value) for found_labels, value in series if sorted(found_labels.split(",")) == wanted]
        found.append(value)
    return found


def test_redis_serves_with_the_password_and_keeps_its_data_over_a_power_cut(services: Services) -> None:
    with redis.Redis.from_url(services.redis_url(3), decode_responses=True, retry=NO_RETRY) as client:
        assert client.info("server")["redis_version"].startswith(VERSIONS[services.host.suite][1])
        client.set("kept", "yes")

    services.host.power_cut()
    services.host.start()

    with redis.Redis.from_url(services.redis_url(3), decode_responses=True, retry=NO_RETRY) as client:
        assert client.get("kept") == "yes"
    with redis.Redis(host=services.host.address, retry=NO_RETRY) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert services.host.run(f"systemctl is-active {REDIS} {RABBITMQ}").stdout.split() == ["active", "active"]
