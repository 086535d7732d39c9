"""Somebody's own broker: whether it is there, and how the demo leaves it as it was."""

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
"""Seconds after which a queue goes away that a killed demo left."""


def event_exchange(name: str) -> Exchange:
    """The event exchange: of the demo's own, so that no other monitor sees its events. RabbitMQ deletes it together
    with the last queue that is bound to it.
    """
    return Exchange(name, type="topic", durable=True, auto_delete=True)


def task_queue(name: str) -> Queue:
    """The queue of the demo's tasks, and the exchange that Celery names after it; both go away by themselves."""
    return Queue(name, Exchange(name, auto_delete=True), routing_key=name, expires=EXPIRES)


def prepare_broker(url: str, exchange: str, *, amqp_broker: bool) -> None:
    """Connect once, and declare the event exchange before a monitor or worker does, which would declare one that stays.

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
        # kombu lets through whatever the transport raises, and its texts may have the URL in them.
        raise ServiceMissing(mask_url(f"the broker {url} cannot be used: {error}")) from None


def clean_broker(url: str, *, exchange: str, events: str, tasks: str) -> None:
    """Remove the queues of the demo; their exchanges go with them. Never raises.

    :param exchange: as for `prepare_broker`.
    :param events: the queue of the monitors.
    :param tasks: the queue of the worker.
    """
    with contextlib.suppress(Exception), Connection(url, connect_timeout=TIMEOUT) as connection:
        queue = task_queue(tasks)(connection.default_channel)
        queue.declare()  # or Redis would keep the name of the queue
        queue.delete()
        for name in (events, f"{exchange}-exchange"):
            with contextlib.suppress(amqp.exceptions.ChannelError):
                connection.channel().queue_delete(name)
