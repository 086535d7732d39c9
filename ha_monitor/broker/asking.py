"""Asks workers and broker on a connection of its own, apart from the one that brings the events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import amqp.exceptions
import msgspec
from celery import Celery

from ha_monitor.broker.address import address_of, connection_to, is_amqp, urls_of
from ha_monitor.broker.amqp_errors import translated_errors
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable

LONGEST = 10.0
"""Seconds to wait for the broker's answer to one question."""

Answer = TypeVar("Answer")


class Asking(NamedTuple):
    """What is needed to ask."""

    client: Any
    """The connection."""
    control: Any
    """Celery's control of the workers; each call needs `connection=client`."""


@contextmanager
def asking(url: str, config: Config) -> Iterator[Asking]:
    """Connect to one broker for questions to the workers.

    :raises BrokerUnavailable: if the broker cannot be used, also out of the block.
    """
    app = Celery("ha-monitor", set_as_current=False, broker=url)
    # Without heartbeats: each one that comes would begin the wait for answers anew. Instead, nothing may take long.
    settings = msgspec.structs.replace(config.broker, heartbeat=0.0)
    options = {"read_timeout": LONGEST, "write_timeout": LONGEST} if is_amqp(url) else {"socket_timeout": LONGEST}
    with translated_errors(address_of(url)), connection_to(url, settings, options=options) as client:
        try:
            yield Asking(client, app.control)
        except (OSError, amqp.exceptions.AMQPError, BrokerUnavailable):
            raise
        except Exception as error:  # kombu's other transports raise their own kinds
            raise BrokerUnavailable(f"{address_of(url)}: {' '.join(str(error).split())[:300]}") from None


def first_answer(config: Config, ask: Callable[[str], Answer]) -> Answer:
    """The answer from the first broker of `broker.url` that can be used.

    :param ask: asks one broker, given its URL.
    :raises BrokerUnavailable: if none can be used.
    """
    problem = BrokerUnavailable("no broker")
    for url in urls_of(config.broker.url):
        try:
            return ask(url)
        except BrokerUnavailable as error:
            problem = error
    raise problem
