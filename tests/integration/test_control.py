"""What the workers are asked at each connect."""

from __future__ import annotations

import json

import pytest

from ha_monitor.broker.control import greet_workers
from ha_monitor.config.schema import Broker
from tests.support.services import PrivateRabbitMQ


@pytest.mark.parametrize(("enable", "asked"), [(False, ["heartbeat"]), (True, ["heartbeat", "enable_events"])])
def test_workers_are_asked(rabbitmq: PrivateRabbitMQ, broker_url: str, enable: bool, asked: list[str]) -> None:
    """Given Celery's control exchange, all workers are asked for a heartbeat, and for events if the setting says so."""
    with rabbitmq.connection(broker_url.rpartition("/")[2]) as connection:
        channel = connection.channel()
        channel.exchange_declare("celery.pidbox", "fanout", durable=False, auto_delete=False)
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "celery.pidbox")

        assert greet_workers(broker_url, Broker(url=broker_url, enable_events=enable)) is None

        messages = [channel.basic_get(queue, no_ack=True) for _ in asked]
        rest = channel.basic_get(queue, no_ack=True)
    assert [json.loads(message.body)["method"] for message in messages] == asked
    assert rest is None
