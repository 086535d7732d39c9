"""The source on a real RabbitMQ: what it declares, what it refuses, and how it comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest

from ha_monitor.broker import buffered
from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.broker.inspection import queue_state, verify_arguments
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import BatchSettings, Broker, Config, Queue, QueueType
from ha_monitor.errors import BrokerUnavailable, ConfigurationError
from ha_monitor.events.decode import Decoder, Message
from ha_monitor.events.redact import Redactor
from ha_monitor.pipeline.collector import Collected, Collector
from tests.support import corpus
from tests.support.certificates import Certificate
from tests.support.machine import Timed, patient
from tests.support.process import free_port, wait_for_value, wait_until
from tests.support.proxy import CutLink
from tests.support.recording import Recorded, publish
from tests.support.services import PrivateRabbitMQ
from tests.unit.builders import event, fact_builder

QUEUE = "celeryev.ha-monitor"


def config(url: str, *, broker: dict[str, Any] | None = None, **queue: Any) -> Config:
    # The tests wait, for RabbitMQ's statistics and lists, for longer than it lets a silent client live by default; and
    # nothing connects a second time.
    usual = {"url": url, "heartbeat": 60.0, "connect_timeout": patient(4)}
    return Config(broker=Broker(**{**usual, **(broker or {})}), queue=Queue(**queue))


@pytest.fixture(scope="module")
def vhost_url(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    """A virtual host for all these tests: making one takes longer than most of them."""
    yield rabbitmq.add_vhost("sources")
    rabbitmq.delete_vhost("sources")


@pytest.fixture
def broker_url(rabbitmq: PrivateRabbitMQ, vhost_url: str) -> Iterator[str]:
    """URL of a virtual host without the queue and the exchange."""
    yield vhost_url
    with rabbitmq.connection(vhost_of(vhost_url)) as connection:
        channel = connection.channel()
        channel.queue_delete(QUEUE)
        channel.exchange_delete("celeryev")


@pytest.fixture
def source(broker_url: str) -> Iterator[Callable[..., AmqpSource]]:
    """Makes sources, and closes them."""
    made: list[AmqpSource] = []

    def make(url: str = broker_url, *, name: str = "ha-monitor@1.host", **changes: Any) -> AmqpSource:
        made.append(AmqpSource(config(url, **changes), name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def send(url: str, *bodies: str) -> None:
    publish(url, [Recorded("task.sent", "application/json", "utf-8", body) for body in bodies])


def take(source: AmqpSource, count: int, timeout: float = 30) -> list[str]:
    """The bodies of the next messages."""
    messages: list[Message] = []
    deadline = time.monotonic() + patient(timeout)
    while len(messages) < count and time.monotonic() < deadline:
        messages += source.receive(count - len(messages), 0.2)
        source.heartbeat()
    return [message.body.decode() for message in messages]


def vhost_of(url: str) -> str:
    return url.rpartition("/")[2]


def queue_of(rabbitmq: PrivateRabbitMQ, url: str, *columns: str) -> dict[str, Any]:
    return rabbitmq.queues(vhost_of(url), *columns)[QUEUE]


# --- what it declares ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [QueueType.QUORUM, QueueType.CLASSIC])
def test_the_queue_is_declared_as_configured(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str, kind: QueueType
) -> None:
    """Given settings for the queue, RabbitMQ shows them in its own units; it is durable and shared."""
    settings = {"type": kind, "message_ttl": 60.5, "max_length": 1000, "expires": 120.0, "delivery_limit": 5000}
    source(**settings).connect()

    queue = queue_of(rabbitmq, broker_url, "durable", "auto_delete", "type", "arguments")
    arguments = queue.pop("arguments")

    expected = {"x-queue-type": kind.value, "x-message-ttl": 60500, "x-max-length": 1000, "x-expires": 120000}
    expected |= {"x-overflow": "drop-head"}
    if kind is QueueType.QUORUM:
        expected["x-delivery-limit"] = 5000
    assert arguments == expected
    assert queue == {"durable": True, "auto_delete": False, "type": kind.value}


def test_two_instances_share_the_queue(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given two instances, both consume one queue, each message reaches one of them, and each can be told apart."""
    one, two = source(name="ha-monitor@1.host"), source(name="ha-monitor@2.host")
    one.connect()
    two.connect()
    send(broker_url, *map(str, range(40)))

    got: list[str] = []
    wait_until(lambda: got.extend(take(one, 1, 0.1) + take(two, 1, 0.1)) or len(got) >= 40, what="40 messages")

    assert sorted(got, key=int) == [str(number) for number in range(40)]
    # RabbitMQ counts the consumers now and then.
    wait_for_value(
        lambda: queue_of(rabbitmq, broker_url, "consumers"), {"consumers": 2}, what="two consumers", interval=0.5
    )

    def listed() -> bool:
        consumers = rabbitmq.evaluate(f'rabbit_amqqueue:consumers_all(<<"{vhost_of(broker_url)}">>).')
        return "ha-monitor@1.host" in consumers and "ha-monitor@2.host" in consumers

    wait_until(listed, 30, "both in RabbitMQ's list", 0.5)
    state = queue_state(config(broker_url))
    assert state is not None
    assert (state.name, state.consumers) == (QUEUE, 2)


def test_an_exchange_that_others_declared_is_taken_as_it_is(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given Celery's exchange declared in another way, the source does not insist on its own."""
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        connection.channel().exchange_declare("celeryev", "topic", durable=False, auto_delete=False)

    assert source().connect() == f"127.0.0.1:{rabbitmq.port}/{vhost_of(broker_url)}"


# --- what it refuses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"message_ttl": 60.0}, {},
         "different x-message-ttl: 60000; configured is 43200000; set queue.message_ttl = 60,"),
        ({"expires": 60.5}, {}, "different x-expires: 60500; configured is 86400000; set queue.expires = 60.5,"),
        ({"max_length": 5}, {}, "different x-max-length: 5; configured is 1000000; set queue.max_length = 5,"),
        ({}, {"delivery_limit": 2000},
         "different x-delivery-limit: 1000000; configured is 2000; "
         "set queue.delivery_limit = 1000000,"),
        ({"type": QueueType.CLASSIC}, {},
         "different x-queue-type: classic; configured is quorum; set queue.type = classic,"),
    ],
)  # fmt: skip
def test_instances_that_differ_are_told_how(
    source: Callable[..., AmqpSource], broker_url: str, first: dict[str, Any], second: dict[str, Any], says: str
) -> None:
    """Given a queue that another instance declared with other arguments, the second says which and what to do."""
    source(**first).connect()

    with pytest.raises(ConfigurationError) as caught:
        source(**second).connect()
    assert says in str(caught.value)
    assert f"rabbitmqctl delete_queue {QUEUE}" in str(caught.value)
    with pytest.raises(ConfigurationError):
        verify_arguments(broker_url, config(broker_url, **second))


def test_a_receiver_of_celerys_own_with_the_same_name_is_told_of(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given an exclusive queue of the same name, as Celery's own receiver makes it, a person has to choose."""
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        connection.channel().queue_declare(QUEUE, durable=False, exclusive=True, auto_delete=True)

        with pytest.raises(
            ConfigurationError, match=r"RESOURCE_LOCKED .* choose another queue\.prefix, or delete the queue"
        ):
            source().connect()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace("guest:guest", "guest:hunter2"), "the user name or password in broker.url is wrong"),
        (lambda url: url.rpartition("/")[0] + "/none", "vhost none not found"),
        (lambda url: f"amqp://127.0.0.1:{free_port()}//", "Connection refused"),
        (lambda url: "amqp://name.invalid//", "name.invalid//: "),
    ],
)
def test_what_may_come_right_is_tried_again(
    source: Callable[..., AmqpSource], broker_url: str, change: Callable[[str], str], says: str
) -> None:
    """Given a broker that refuses for now, the error is one to be tried again, and shows no password."""
    with pytest.raises(BrokerUnavailable) as caught:
        source(change(broker_url)).connect()

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- deliveries ----------------------------------------------------------------------------


def test_what_was_not_acknowledged_comes_again(source: Callable[..., AmqpSource], broker_url: str) -> None:
    """Given an instance that goes away with messages in flight, another one gets exactly those, marked as such."""
    one = source()
    one.connect()
    send(broker_url, "1", "2", "3", "4", "5")
    assert take(one, 3) == ["1", "2", "3"]
    mark = one.mark()
    assert take(one, 2) == ["4", "5"]
    one.acknowledge(mark)
    one.depth()  # answered behind the acknowledgement, which may be lost with a connection that ends
    one.close()

    two = source()
    two.connect()

    assert take(two, 2) == ["4", "5"]
    assert two.redelivered == 2
    two.acknowledge(two.mark())
    assert two.receive(10, 0.3) == []


def test_an_acknowledgement_covers_all_before_it(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given a hundred messages, one acknowledgement lets the broker forget all of them."""
    one = source()
    one.connect()
    send(broker_url, *map(str, range(100)))
    assert len(take(one, 100)) == 100

    one.acknowledge(one.mark())

    def depth() -> int:
        return queue_of(rabbitmq, broker_url, "messages")["messages"]

    wait_for_value(depth, 0, what="the empty queue", interval=0.5)


def test_a_mark_of_an_earlier_connection_is_ignored(source: Callable[..., AmqpSource], broker_url: str) -> None:
    """Given a mark from before a reconnect, acknowledging it touches nothing of the new connection."""
    one = source()
    one.connect()
    send(broker_url, "1", "2")
    take(one, 2)
    old = one.mark()
    one.connect()
    assert take(one, 2) == ["1", "2"]

    one.acknowledge(old)
    one.connect()

    assert take(one, 2) == ["1", "2"]


def test_no_more_than_prefetch_is_in_hand(source: Callable[..., AmqpSource], broker_url: str) -> None:
    """Given a prefetch of 5, the sixth message waits for an acknowledgement, and may go to another instance."""
    one = source(broker={"prefetch": 5})
    one.connect()
    send(broker_url, *map(str, range(8)))

    assert take(one, 6, timeout=1) == ["0", "1", "2", "3", "4"]
    one.acknowledge(one.mark())
    assert take(one, 3) == ["5", "6", "7"]


def test_properties_and_large_bodies_arrive_as_they_were(source: Callable[..., AmqpSource], broker_url: str) -> None:
    """Given bodies of no bytes and of several frames, and other content types, each arrives whole."""
    one = source()
    one.connect()
    large = "x" * 700_000
    publish(
        broker_url,
        [
            Recorded("task.sent", "application/json", "utf-8", ""),
            Recorded("task.sent", "application/x-python-serialize", "us-ascii", large),
            Recorded("worker.heartbeat", "text/plain", "us-ascii", "end"),
        ],
    )

    got: list[Message] = []
    wait_until(lambda: got.extend(one.receive(10, 0.2)) or len(got) == 3, what="three messages")

    assert got == [
        Message(b"", "application/json", "utf-8"),
        Message(large.encode(), "application/x-python-serialize", "us-ascii"),
        Message(b"end", "text/plain", "us-ascii"),
    ]


# --- faults --------------------------------------------------------------------------------


def lost(source: AmqpSource, timeout: float = 30) -> str:
    """Use the source until it says that the broker is gone; how it says it."""
    deadline = time.monotonic() + patient(timeout)
    with pytest.raises(BrokerUnavailable) as caught:
        while time.monotonic() < deadline:
            source.receive(10, 0.2)
            source.heartbeat()
    return str(caught.value)


def test_a_queue_that_is_deleted_is_declared_again(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given a queue deleted under the consumer, the source notices it at once, and events arrive after a reconnect."""
    one = source()
    one.connect()
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        connection.channel().queue_delete(QUEUE)

    assert "the queue was deleted or moved; declaring it again" in lost(one)
    one.connect()
    send(broker_url, "1")

    assert take(one, 1) == ["1"]


def test_a_binding_that_is_removed_is_restored(
    rabbitmq: PrivateRabbitMQ, source: Callable[..., AmqpSource], broker_url: str
) -> None:
    """Given a queue that somebody unbound from Celery's exchange, the regular question about its length binds it again,
    on the same connection.
    """
    one = source()
    one.connect()
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        connection.channel().queue_unbind(QUEUE, "celeryev", routing_key="#")
        verify_arguments(broker_url, config(broker_url))  # which changes nothing
        send(broker_url, "lost")
        assert one.depth() == 0
        send(broker_url, "a")

    assert take(one, 1) == ["a"]
    assert one.mark().generation == 1


@pytest.mark.parametrize("first", ["binding", "length"])
def test_a_question_ends_if_too_much_is_delivered_before_its_answer(
    rabbitmq: PrivateRabbitMQ,
    source: Callable[..., AmqpSource],
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    """Given messages that are delivered before a question, more than is read at once, it ends without an answer,
    whichever request comes first; nothing is lost, and its late answer is not taken for that to the next question.
    """
    monkeypatch.setattr(buffered, "MAX_READS", 1)
    monkeypatch.setattr(buffered, "READ_SIZE", 50_000)
    one = source(broker={"prefetch": 50})
    one.connect()
    connection = one._connection
    assert connection is not None
    bodies = [f"{number:020000}" for number in range(80)]
    send(broker_url, *bodies)
    with rabbitmq.connection(vhost_of(broker_url)) as other:
        wait_for_value(
            lambda: other.channel().queue_declare(QUEUE, passive=True).message_count, 30, what="the prefetch"
        )
    if first == "length":
        monkeypatch.setattr(one, "_bind_again", lambda: None)
    read = connection.bytes_read

    assert one.depth() is None
    assert one.is_behind
    assert 0 < connection.bytes_read - read <= 100_000
    one.prove_delivery()
    assert 0 < connection.bytes_read - read <= 200_000
    one.heartbeat()
    assert one.is_behind

    assert take(one, 50) == bodies[:50]
    one.acknowledge(one.mark())
    assert take(one, 30) == bodies[50:]
    one.acknowledge(one.mark())
    wait_until(lambda: one.heartbeat() or not one.is_behind, what="the late answer")
    assert one.depth() == 0
    assert not one.is_behind
    wait_until(lambda: one.receive(1, 0.0) or len(connection.channels) == 2, what="the end of the channels")


def test_a_late_answer_is_not_awaited_forever(source: Callable[..., AmqpSource]) -> None:
    """Given a question whose answer does not come although nothing else does, the broker counts as unavailable."""
    one = source(broker={"connect_timeout": 1.0})
    one.connect()
    one.heartbeat()
    one._channel.unanswered = 1

    with pytest.raises(BrokerUnavailable):
        one.heartbeat()


def test_the_proof_that_the_queue_delivers_takes_nothing(
    rabbitmq: PrivateRabbitMQ, source: Callable[..., AmqpSource], broker_url: str
) -> None:
    """Given an instance that has nothing to do, and one that has its hands full, each can have the broker show that it
    delivers; no message is kept from the other one, and no consumer is left."""
    idle, busy = source(name="ha-monitor@1.host", broker={"prefetch": 3}), source(name="ha-monitor@2.host")
    idle.connect()
    for number in range(3):
        idle.prove_delivery()
        send(broker_url, str(number))
    assert take(idle, 3) == ["0", "1", "2"]
    send(broker_url, "3", "4")
    idle.prove_delivery()
    busy.connect()
    busy.prove_delivery()

    assert sorted(take(busy, 2)) == ["3", "4"]
    wait_for_value(
        lambda: queue_of(rabbitmq, broker_url, "consumers"), {"consumers": 2}, what="two consumers", interval=0.5
    )
    assert idle.mark().generation == 1


def test_an_exchange_that_is_deleted_is_said_and_declared_again(
    rabbitmq: PrivateRabbitMQ, source: Callable[..., AmqpSource], broker_url: str
) -> None:
    """Given Celery's exchange that somebody deleted, the regular question about the queue says so; connecting declares
    and binds it.
    """
    one = source()
    one.connect()
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        connection.channel().exchange_delete("celeryev")
    with pytest.raises(BrokerUnavailable, match="no exchange 'celeryev'"):
        one.depth()

    one.connect()
    send(broker_url, "a")

    assert take(one, 1) == ["a"]


def test_a_vhost_without_room_for_the_queue_is_waited_for(
    rabbitmq: PrivateRabbitMQ, source: Callable[..., AmqpSource], broker_url: str
) -> None:
    """Given a vhost with a limit of queues that is reached, the error names the cure and is no wrong configuration;
    when the limit is raised, the source consumes.
    """
    vhost, one = vhost_of(broker_url), source()
    rabbitmq.limit_queues(vhost, 0)
    try:
        with pytest.raises(BrokerUnavailable, match="raise it: rabbitmqctl set_vhost_limits"):
            one.connect()
    finally:
        rabbitmq.limit_queues(vhost, None)

    one.connect()
    send(broker_url, "a")
    assert take(one, 1) == ["a"]


def test_an_acknowledgement_that_the_broker_refuses_is_not_for_a_person(source: Callable[..., AmqpSource]) -> None:
    """Given a channel closed over an acknowledgement, as after RabbitMQ's consumer time-out, it is tried again."""
    one = source()
    one.connect()
    one._channel.basic_ack(77, multiple=True)

    assert "unknown delivery tag 77" in lost(one)


def test_a_half_open_connection_is_noticed_by_heartbeats(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given a network that swallows everything, the source notices within three heartbeats and comes back."""
    with CutLink(rabbitmq.port) as link:
        one = source(broker_url.replace(f":{rabbitmq.port}/", f":{link.url_port}/"), broker={"heartbeat": 1.0})
        one.connect()
        send(broker_url, "1")
        assert take(one, 1) == ["1"]
        link.cut()

        with Timed() as timed:
            lost(one)

        assert timed.undisturbed < 8, timed
        link.drop()
        link.heal()
        one.connect()
        assert take(one, 1) == ["1"]


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
@pytest.mark.parametrize("fault", ["silent", "swallowed", "refused"])
def test_one_attempt_takes_no_longer_than_it_may(
    source: Callable[..., AmqpSource], unanswering: Callable[[str], int], scheme: str, fault: str
) -> None:
    """Given a broker that accepts and says nothing, or whose network swallows everything, connecting takes
    `broker.connect_timeout`; given one that refuses, no time at all: the lease is to be renewed meanwhile.
    """
    one = source(f"{scheme}://127.0.0.1:{unanswering(fault)}//", broker={"connect_timeout": 1.0})

    with Timed() as timed, pytest.raises(BrokerUnavailable):
        one.connect()

    if fault == "refused":
        assert timed.undisturbed < 0.5, timed
    else:
        assert timed.seconds > 0.9
        assert timed.undisturbed < 1.7, timed


def test_fail_over_goes_on_to_the_next_broker(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given several URLs, each attempt takes the next one, round and round."""
    with CutLink(rabbitmq.port) as link:
        other = broker_url.replace(f":{rabbitmq.port}/", f":{link.url_port}/")
        dead = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
        one = source(f"{dead};{other};{broker_url}")

        with pytest.raises(BrokerUnavailable):
            one.connect()
        assert one.connect() == f"127.0.0.1:{link.url_port}/{vhost_of(broker_url)}"
        link.refuse()
        lost(one)
        assert one.connect() == f"127.0.0.1:{rabbitmq.port}/{vhost_of(broker_url)}"
        assert one.url == broker_url


def test_a_quorum_queue_keeps_events_over_a_restart(own_rabbitmq: PrivateRabbitMQ) -> None:
    """Given a broker that is killed and started again, all events that it had are delivered, acknowledged ones not."""
    url = own_rabbitmq.url()
    one = AmqpSource(config(url), "ha-monitor@1.host")
    one.connect()
    send(url, *map(str, range(50)))
    assert len(take(one, 20)) == 20
    one.acknowledge(one.mark())
    wait_for_value(lambda: own_rabbitmq.queues("/", "messages")[QUEUE]["messages"], 30, what="the acknowledgement")
    own_rabbitmq.kill()
    lost(one)

    own_rabbitmq.start()

    def connected() -> bool:
        try:
            one.connect()
        except BrokerUnavailable:
            return False
        return True

    wait_until(connected, what="the reconnect")
    assert take(one, 30) == [str(number) for number in range(20, 50)]
    one.close()


# --- TLS -----------------------------------------------------------------------------------


def test_tls_is_verified(certificates: list[Certificate]) -> None:
    """Given a broker with TLS, its certificate is checked: against the configured CA it passes, and against another
    CA, the system's, or under another host name, the broker is not talked to.
    """
    ours, others = certificates
    port = free_port()
    options = {"cacertfile": ours.ca, "certfile": ours.cert, "keyfile": ours.key}
    lines = [f"listeners.ssl.1 = 127.0.0.1:{port}", *(f"ssl_options.{key} = {path}" for key, path in options.items())]
    with PrivateRabbitMQ(config="\n".join(lines)) as server:
        url = f"amqps://guest:guest@127.0.0.1:{port}//"

        def connect(**tls: Any) -> AmqpSource:
            one = AmqpSource(config(url, broker={"tls": tls}), "ha-monitor@1.host")
            one.connect()
            return one

        for wrong in ({"ca_certs": str(others.ca)}, {}, {"ca_certs": str(ours.ca), "server_hostname": "other"}):
            with pytest.raises(BrokerUnavailable, match=r"(?i)certificate verify failed"):
                connect(**wrong)

        verified = connect(ca_certs=str(ours.ca))
        send(server.url(), *map(str, range(300)), "x" * 500_000)
        assert [body[:3] for body in take(verified, 301)] == [*map(str, range(300)), "xxx"]
        verified.close()
        connect(cert_reqs="none").close()


def test_a_connection_is_kept_while_nothing_is_received(source: Callable[..., AmqpSource], broker_url: str) -> None:
    """Given an instance that merges for longer than some heartbeats and receives nothing meanwhile, the connection
    stays: the broker's signs of life are seen, and its messages are there afterwards.
    """
    one = source(broker={"heartbeat": 1.0})
    one.connect()
    send(broker_url, "[1]", "[2]", "[3]")
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        one.heartbeat()
        time.sleep(0.2)

    received: list[Message] = []
    wait_until(lambda: received.extend(one.receive(10, 0.1)) or len(received) == 3, 10, "the messages")


def test_each_place_in_the_stream_is_acknowledged_once(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given messages of 24 events that are received at once and fill several batches, RabbitMQ is told of each place
    once: it closes the channel of who tells it twice. In the end it has forgotten all of them."""
    one = source()
    one.connect()
    body = json.dumps([event("task-custom", clock=number, uuid=f"t{number}") for number in range(24)])
    send(broker_url, *[body] * 300)
    collector = Collector(one, Decoder(fact_builder(), Redactor((), 500)), BatchSettings(events=500), SystemClock())
    batches: list[Collected] = []

    def acknowledge() -> int:
        collector.collect(0.1)
        while collector:
            batches.append(collector.take())
            if batches[-1].mark is not None:
                one.acknowledge(batches[-1].mark)
        one.heartbeat()
        return sum(collected.batch.message_count for collected in batches)

    wait_for_value(acknowledge, 300, 30, "all messages")
    assert len(batches) > 10
    wait_for_value(lambda: queue_of(rabbitmq, broker_url, "messages"), {"messages": 0}, 30, "an empty queue", 0.2)
    acknowledge()


# --- what anybody could send -------------------------------------------------------------------


def test_no_properties_raise_out_of_the_source(
    source: Callable[..., AmqpSource], rabbitmq: PrivateRabbitMQ, broker_url: str
) -> None:
    """Given messages with any properties that RabbitMQ passes on, and one of 20 MB, among good ones, nothing is raised,
    all arrive, and the large one without its body."""
    one = source()
    one.connect()
    hostile = corpus.properties()
    with rabbitmq.connection(vhost_of(broker_url)) as connection:
        channel = connection.channel()
        for body, properties in hostile.values():
            channel.basic_publish(amqp.Message(body, **properties), "celeryev", "task.sent")
            channel.basic_publish(amqp.Message("good", content_type="application/json"), "celeryev", "task.sent")
        channel.basic_publish(amqp.Message(b"x" * 20_000_000), "celeryev", "task.sent")
        channel.basic_publish(amqp.Message("last", content_type="application/json"), "celeryev", "task.sent")
        channel.exchange_declare("celeryev", "topic", passive=True)

    got: list[Message] = []
    wait_until(lambda: got.extend(one.receive(100, 0.1)) or len(got) >= 2 * len(hostile) + 2, 60, "all messages")

    assert sum(message.body == b"good" for message in got) == len(hostile)
    assert [message.body for message in got[-2:]] == [b"", b"last"]
    assert got[-2].fault.startswith("body of 20000000 bytes is larger than")
    compressions = {message.compression for message in got}
    assert {"application/x-gzip", "application/x-bz2", "application/x-lzma", "rot13"} < compressions
