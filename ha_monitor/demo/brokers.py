"""The user's own broker: whether it is there, and how the demo leaves it unchanged."""

from __future__ import annotations

import contextlib

import amqp.exceptions
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from ha_monitor.config.secrets import mask_url
from ha_monitor.errors import ServiceMissing

TIMEOUT = 5.0
"""Seconds to wait for a connection."""
EXPIRES = 60.0
"""Seconds after which a queue of a killed demo is deleted."""


def event_exchange(name: str) -> Exchange:
    """The demo's own event exchange, so that no other monitor sees its events. RabbitMQ deletes it together with the
    last queue that is bound to it.
    """
    return Exchange(name, type="topic", durable=True, auto_delete=True)


def task_queue(name: str) -> Queue:
    """The queue of the demo's tasks, and the exchange that Celery names after it; both are deleted automatically."""
    return Queue(name, Exchange(name, auto_delete=True), routing_key=name, expires=EXPIRES)


def prepare_broker(url: str, exchange: str, *, amqp_broker: bool) -> None:
    """Connect once, and declare the event exchange before a monitor or worker declares a permanent one.

    A queue that receives nothing keeps the exchange until the monitors' queue is bound to it.

    :raises ServiceMissing: if the broker cannot be used.
    """
    try:
        with Connection(url, connect_timeout=TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, timeout=TIMEOUT)
            if amqp_broker:
                held = Queue(f"{exchange}-exchange", event_exchange(exchange), routing_key="none", expires=EXPIRES)
                held(connection.default_channel).declare()
    except Exception as error:
        # kombu lets all errors of the transport through, and their texts may contain the URL.
        raise ServiceMissing(mask_url(f"the broker {url} cannot be used: {error}")) from None


def clean_broker(url: str, *, exchange: str, events: str, tasks: str) -> None:
    """Delete the queues of the demo; their exchanges are deleted with them. Never raises.

    :param exchange: as for `prepare_broker`.
    :param events: the queue of the monitors.
    :param tasks: the queue of the worker.
    """
    with contextlib.suppress(Exception), Connection(url, connect_timeout=TIMEOUT) as connection:
        queue = task_queue(tasks)(connection.default_channel)
        queue.declare()  # otherwise Redis would keep the name of the queue
        queue.delete()
        for name in (events, f"{exchange}-exchange"):
            with contextlib.suppress(amqp.exceptions.ChannelError):
                connection.channel().queue_delete(name)
