"""A broker that restarts, goes silent, loses the queue, or has another one of its name."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from ha_monitor.config.schema import Config
from tests.acceptance.faults.conftest import FaultTable
from tests.support.instances import Fleet, queue_depth, through, vhost_of
from tests.support.ledger import Published, assert_guarantee
from tests.support.machine import Timed
from tests.support.process import wait_until
from tests.support.proxy import CutLink
from tests.support.publishing import Load
from tests.support.recording import Recorded, publish, read_stream, replicate
from tests.support.services import PrivateRabbitMQ

QUEUE = "celeryev.fleet"


def test_broker_restarts(
    tmp_path: Path, own_rabbitmq: PrivateRabbitMQ, store_url: str, fault_table: FaultTable
) -> None:
    """given events in the queue and in the instances' hands, when RabbitMQ is restarted, and killed and started later,
    then the instances come back by themselves and nothing is lost, though Celery's messages are transient
    """
    url = own_rabbitmq.url()
    messages = replicate(read_stream("small"), 1000, start=time.time())
    published = Published()
    # While the queue is filled the instances are frozen: no lease may run out, however busy the machine is.
    with Fleet(tmp_path, url, store_url, settings={"store": {"lease": 30.0}}).start() as fleet:
        # In this order: RabbitMQ 3.10 writes to disk where a new queue's messages are only some time after its
        # declaration, and a kill before that loses them.
        for number, end in enumerate((own_rabbitmq.stop, own_rabbitmq.kill), 1):
            fleet.wait_until_connected("broker", number)
            slice_ = list(islice(messages, 2000))
            fill_queue(fleet, url, slice_)
            for message in slice_:
                published.add(message)
            end()
            for instance in fleet.instances:
                instance.thaw()
            own_rabbitmq.start()
            fleet.wait_until_connected("broker", number + 1)
            fleet.wait_until_announced(published)
        account = fault_table.add("RabbitMQ: stop, start; kill -9, start", fleet.close_account(published))
    assert_guarantee(account)


def fill_queue(fleet: Fleet, url: str, messages: list[Recorded]) -> None:
    """Freeze the fleet and publish: some are in the instances' hands then, and the rest is in the queue."""
    for instance in fleet.instances:
        instance.freeze()
    publish(url, messages)
    in_flight = len(fleet.instances) * fleet.config.broker.prefetch
    # Workers ask for no confirmation, so what has only just arrived may be in RabbitMQ's memory only.
    wait_until(lambda: queue_depth(url) >= len(messages) - in_flight, 30, "that all is in the queue")


def test_link_to_the_broker_is_cut_without_a_word(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given a load, when the network swallows all packets for a while, then the instances notice by the missing
    heartbeats, come back when it is healed, and nothing is lost or doubled
    """
    with (
        CutLink(rabbitmq.port) as link,
        Fleet(tmp_path, through(link, broker_url), store_url, settings={"broker": {"connect_timeout": 1.0}}) as fleet,
    ):
        fleet.start()
        load = Load(broker_url, replicate(read_stream("small"), 1000, start=time.time()), rate=400)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        link.cut()
        with Timed() as timed:
            wait_until(
                lambda: all(one.said("broker-unavailable") for one in fleet.instances), 30, "that all instances notice"
            )
        link.heal()
        wait_until(lambda: all(one.said("broker-connected") >= 2 for one in fleet.instances), 60, "their return")
        published = load.stop()
        account = fault_table.add("RabbitMQ: link half-open", fleet.close_account(published))
    assert timed.undisturbed < 10, f"twice the heartbeat of 2 s, and some: {timed}"
    assert_guarantee(account)
    assert queue_depth(broker_url) == 0


def test_a_silent_broker_costs_no_lease(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str
) -> None:
    """given a broker that accepts connections and never answers, and the default lease and time-outs, when the
    instances try again and again, then none loses its lease, and nobody takes anything over
    """
    settings = {"store": {"lease": Config().store.lease, "timeout": Config().store.timeout}}
    with (
        CutLink(rabbitmq.port) as link,
        Fleet(tmp_path, through(link, broker_url), store_url, settings=settings) as fleet,
    ):
        fleet.start()
        link.cut()
        wait_until(
            lambda: all(one.said("broker-unavailable") >= 4 for one in fleet.instances), 90, "several attempts of each"
        )
        assert fleet.said("lease-lost") == []
        assert fleet.said("outbox-taken-over") == []
        assert [entry.lease_left > 0 for entry in fleet.entries()] == [True, True, True]


def delete_queue(rabbitmq: PrivateRabbitMQ, vhost: str) -> None:
    with rabbitmq.connection(vhost) as connection:
        connection.channel().queue_delete(QUEUE)


def test_queue_is_deleted(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given a running fleet, when somebody deletes the queue, then it is declared again without a restart"""
    messages = list(replicate(read_stream("small"), 2, start=time.time()))
    half = len(messages) // 2
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        publish(broker_url, messages[:half])
        fleet.wait_until_announced(Published(messages[:half]))
        delete_queue(rabbitmq, vhost_of(broker_url))
        wait_until(lambda: all(one.said("broker-connected") >= 2 for one in fleet.instances), 30, "the new queue")
        publish(broker_url, messages[half:])
        account = fault_table.add("RabbitMQ: queue deleted", fleet.close_account(Published(messages)))
        reasons = {line["reason"] for line in fleet.said("broker-unavailable")}
    assert_guarantee(account)
    assert any("the queue was deleted" in reason for reason in reasons), reasons


def test_a_running_instance_waits_for_room_for_the_queue(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str
) -> None:
    """given a queue that is deleted while its virtual host may have no more queues, the instances say what to raise and
    run on, and consume again once it is raised
    """
    vhost = vhost_of(broker_url)
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        rabbitmq.limit_queues(vhost, 0)
        try:
            delete_queue(rabbitmq, vhost)
            wait_until(
                lambda: any("max-queues" in str(line["reason"]) for line in fleet.said("broker-unavailable")),
                60,
                "that the limit is told",
            )
        finally:
            rabbitmq.limit_queues(vhost, None)
        fleet.wait_until_connected("broker", 2)
        published = Published()
        messages = list(islice(replicate(read_stream("small"), 1, start=time.time()), 100))
        publish(broker_url, messages)
        for message in messages:
            published.add(message)
        account = fleet.close_account(published)
    assert_guarantee(account)


def test_queue_exists_with_other_arguments(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """given a queue with another time to live, when an instance is started, then it ends with 78 and one clear line"""
    (first_folder := tmp_path / "first").mkdir()
    with Fleet(first_folder, broker_url, store_url, size=1).start():
        pass
    settings = {"queue": {"message_ttl": 60.0}}
    with Fleet(tmp_path, broker_url, store_url, size=1, settings=settings) as other:
        instance = other.instances[0]
        instance.start()
        assert instance.process.wait(30) == 78
        (line,) = other.said("configuration-invalid")
    assert line["level"] == "error"
    assert "the queue celeryev.fleet exists with a different x-message-ttl: 43200000" in line["reason"]
    assert "set queue.message_ttl = 43200" in line["reason"]
    assert "\n" not in line["reason"]


def test_broken_configuration(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """given a value of the wrong type, when an instance is started, then it ends with 78 and one line naming it"""
    with Fleet(tmp_path, broker_url, store_url, size=1) as fleet:
        path = tmp_path / "fleet.toml"
        path.write_text(path.read_text().replace("prefetch = 200", 'prefetch = "many"'))
        instance = fleet.instances[0]
        instance.start()
        assert instance.process.wait(30) == 78
        (line,) = fleet.lines()
        assert instance.outputs[0].bad == []
    assert line["event"] == "configuration-invalid"
    assert "prefetch" in line["reason"]
    assert str(path) in line["reason"]
