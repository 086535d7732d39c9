"""RabbitMQ: the documented permissions are enough, each is needed, and the application is out of reach."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest

from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker
from ha_monitor.config.schema import Broker, Config
from ha_monitor.errors import BrokerUnavailable
from tests.integration.rights_uses import EVENT, QUEUE, Uses, failures, refused, uses_of
from tests.support.recording import publish
from tests.support.rights import (
    PASSWORD,
    STORE_USER,
    Permissions,
    as_monitor,
    documented_permissions,
)
from tests.support.services import PrivateRabbitMQ
from tests.support.workers import CeleryWorker


def alternatives(pattern: str) -> list[str]:
    """The names that a documented pattern allows, one by one: each way through `(a|(b)?c)`."""
    found: list[str] = []
    for part in re.split(r"\|(?![^(]*\)\?)", pattern.removeprefix("^(").removesuffix(")$")):
        optional = re.search(r"\(([^()]*)\)\?", part)
        found += [part.replace(optional[0], ""), part.replace(optional[0], optional[1])] if optional else [part]
    return found


RABBITMQ_RIGHTS = [
    (right, name) for right, pattern in documented_permissions()._asdict().items() for name in alternatives(pattern)
]


@pytest.fixture(scope="module")
def rabbit_vhost(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    name = "rights"
    rabbitmq.add_vhost(name)
    yield name
    rabbitmq.delete_vhost(name)


@pytest.fixture(scope="module")
def rabbit_worker(rabbitmq: PrivateRabbitMQ, rabbit_vhost: str) -> Iterator[str]:
    with CeleryWorker(rabbitmq.url(rabbit_vhost), "rights", pool="solo") as worker:
        yield worker.nodename


@pytest.fixture
def rabbit_uses(rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, rabbit_worker: str) -> Iterator[Uses]:
    """What the monitor's user does; afterwards it has its rights again."""
    url = rabbitmq.url(rabbit_vhost)
    config = Config(node_id="rights", broker=Broker(url=as_monitor(url)))
    yield uses_of(config, AmqpSource(config, "rights"), lambda: publish(url, [EVENT]), rabbit_worker)
    rabbitmq.set_permissions(STORE_USER, rabbit_vhost, documented_permissions())


def test_the_documented_permissions_are_enough(rabbit_uses: Uses) -> None:
    """Given a user with the documented permissions, events arrive, and the workers can be asked in every way."""
    assert refused(rabbit_uses) == {}


@pytest.mark.parametrize(("right", "name"), RABBITMQ_RIGHTS)
def test_each_permission_is_needed_and_named_where_it_is_missing(
    rabbit_uses: Uses, rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, right: str, name: str
) -> None:
    """Given the documented permissions but for one, something is refused: the line names that right, what it is for,
    and the command that grants it.
    """
    less = documented_permissions()._asdict()
    less[right] = less[right].replace("^", f"^(?!{name}$)", 1)
    rabbitmq.set_permissions(STORE_USER, rabbit_vhost, Permissions(**less))

    ((use, reason),) = refused(rabbit_uses).items()

    # Nothing answers a publication: it is said all the same.
    assert (use == "broadcast") == (name == r"celery\.pidbox")
    told = re.search(rf"user monitor may not {right} the \w+ (\S+) in vhost rights; grant it: (.*)", reason)
    assert told, reason
    assert re.fullmatch(name, told[1])
    assert told[2].startswith("rabbitmqctl set_permissions -p rights monitor ")
    assert all(pattern in told[2] for pattern in documented_permissions())


@pytest.mark.parametrize(
    "attempt",
    [
        lambda channel: channel.queue_declare("mine", durable=True),
        lambda channel: channel.queue_delete(QUEUE),
        lambda channel: channel.queue_purge(QUEUE),
        lambda channel: channel.queue_bind(QUEUE, "celeryev", "#"),
        lambda channel: channel.basic_get(QUEUE),
        lambda channel: channel.exchange_declare("mine", "topic"),
        lambda channel: channel.exchange_delete("celeryev"),
        lambda channel: publish_to(channel, "celeryev"),
        lambda channel: publish_to(channel, ""),
        lambda channel: publish_to(channel, "reply.celery.pidbox"),
    ],
)
def test_nothing_of_the_application_can_be_touched(
    rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, rabbit_worker: str, attempt: Callable[[Any], object]
) -> None:
    """Given the documented permissions, the application's queues can be neither changed nor read, nor events forged."""
    with (
        rabbitmq.connection(rabbit_vhost, userid=STORE_USER, password=PASSWORD) as connection,
        pytest.raises(amqp.exceptions.AccessRefused),
    ):
        attempt(connection.channel())


def publish_to(channel: Any, exchange: str) -> None:
    channel.basic_publish(amqp.Message("{}"), exchange=exchange, routing_key=QUEUE)
    channel.basic_qos(0, 1, False)  # a refusal comes before the answer


def test_an_exchange_that_no_worker_has_declared_yet_is_waited_for(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    """Given no worker so far, the line says what is waited for; with the exchange the same instance connects."""
    config = Config(broker=Broker(url=as_monitor(broker_url)))
    source = AmqpSource(config, "early")
    with pytest.raises(BrokerUnavailable, match="does not exist yet; the first worker that starts declares it"):
        source.connect()
    with rabbitmq.connection(broker_url.rpartition("/")[2]) as connection:
        connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)

    source.connect()

    source.close()


def test_the_check_says_beforehand_that_an_exchange_will_be_waited_for(
    rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given no worker so far, `check --online` says that an instance would wait, and what to do; it says nothing where
    the exchange is there, or the user may declare it, and declares none itself."""
    vhost = broker_url.rpartition("/")[2]

    def warnings(url: str) -> list[str]:
        findings = list(check_broker(Config(broker=Broker(url=url))))
        assert [one for one in findings if one.severity is Severity.FAILED] == []
        return [one.text for one in findings if one.severity is Severity.WARNING]

    (told,) = warnings(as_monitor(broker_url))

    assert f"user monitor may not configure the exchange celeryev in vhost {vhost}, which does not exist yet" in told
    assert told.endswith("Until then an instance waits: start a worker")
    assert warnings(broker_url) == []
    with rabbitmq.connection(vhost) as connection:
        channel = connection.channel()
        with pytest.raises(amqp.exceptions.NotFound):
            channel.exchange_declare("celeryev", "topic", passive=True)
        connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
    assert warnings(as_monitor(broker_url)) == []


def test_a_vhost_that_may_not_be_used_is_named(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    """Given a user without any right in the virtual host, the line says so, with the command."""
    vhost = broker_url.rpartition("/")[2]
    rabbitmq.evaluate(
        f'rabbit_auth_backend_internal:clear_permissions(<<"{STORE_USER}">>, <<"{vhost}">>, <<"tests">>).'
    )

    with pytest.raises(
        BrokerUnavailable, match=f"user monitor may not use the vhost {vhost}; grant it: rabbitmqctl set"
    ):
        AmqpSource(Config(broker=Broker(url=as_monitor(broker_url))), "no vhost").connect()


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("right", "name"), [("configure", r"celeryev\..*"), ("write", r"celeryev\..*"), ("read", r"celeryev\..*")]
)
def test_the_check_finds_a_missing_permission_and_changes_nothing(
    rabbitmq: PrivateRabbitMQ, broker_url: str, right: str, name: str, exists: bool
) -> None:
    """Given a queue with a message, or none, and a permission that is missing, `check --online` names it; without one
    missing it finds nothing. The queue stays as it is.
    """
    vhost = broker_url.rpartition("/")[2]
    config = Config(broker=Broker(url=as_monitor(broker_url)))
    if exists:
        with rabbitmq.connection(vhost) as connection:
            connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        source = AmqpSource(config, "first")
        source.connect()
        source.close()
        publish(broker_url, [EVENT])
    assert failures(check_broker(config)) == []
    less = documented_permissions()._asdict()
    less[right] = less[right].replace("^", f"^(?!{name}$)", 1)
    rabbitmq.set_permissions(STORE_USER, vhost, Permissions(**less))

    (reason,) = failures(check_broker(config))

    assert f"user monitor may not {right} the queue celeryev.ha-monitor in vhost {vhost}; grant it: " in reason
    with rabbitmq.connection(vhost) as connection:
        channel = connection.channel()
        if exists:
            message = channel.basic_get("celeryev.ha-monitor")
            assert message.delivery_info["redelivered"] is False
        else:
            with pytest.raises(amqp.exceptions.NotFound):
                channel.queue_declare("celeryev.ha-monitor", passive=True)
