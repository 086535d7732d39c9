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


def check_broker(url: str) -> None:
    """Connect once.

    :raises ServiceMissing: if that does not work.
    """
    try:
        with Connection(url, connect_timeout=TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, timeout=TIMEOUT)
    except Exception as error:
        # kombu lets through whatever the transport raises, and its texts may have the URL in them.
        raise ServiceMissing(mask_url(f"the broker {url} cannot be used: {error}")) from None


def clean_broker(url: str, *, event_queue: str, task_queue: str) -> None:
    """Remove the queues of the demo, and the exchange that Celery names after the task queue. Never raises."""
    with contextlib.suppress(Exception), Connection(url, connect_timeout=TIMEOUT) as connection:
        queue = Queue(task_queue, Exchange(task_queue), routing_key=task_queue)(connection.default_channel)
        queue.declare()  # or Redis would keep the name of the queue
        queue.delete()
        queue.exchange.delete()
        with contextlib.suppress(amqp.exceptions.ChannelError):
            connection.channel().queue_delete(event_queue)
