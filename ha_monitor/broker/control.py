"""What the monitor asks of the workers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ha_monitor.broker.asking import asking
from ha_monitor.config.schema import Broker
from ha_monitor.errors import HaMonitorError


def greet_workers(url: str, settings: Broker) -> None:
    """Ask all workers for a heartbeat, and to send task events where `broker.enable_events` says so.

    A connection of its own, so that a broker that forbids it does not cost the events.

    :raises BrokerUnavailable: if they cannot be asked: the monitor works without.
    """
    with asking(url, settings) as (client, control):
        control.heartbeat(connection=client)
        if settings.enable_events:
            control.enable_events(connection=client)
        # A refusal comes behind what was published, and before the answer to a question.
        client.default_channel.basic_qos(0, 1, False)


def greet_in_background(url: str, settings: Broker, failed: Callable[[str], None]) -> threading.Thread:
    """Greet the workers in a thread: a broker that is slow to answer must not keep the caller from renewing its lease.

    :param failed: is told in the thread what went wrong, if something did.
    """

    def greet() -> None:
        try:
            greet_workers(url, settings)
        except HaMonitorError as error:
            failed(str(error))

    thread = threading.Thread(target=greet, name="greeter", daemon=True)
    thread.start()
    return thread
