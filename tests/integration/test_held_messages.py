"""For how long a broker keeps what it gave to a client that vanished."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

import amqp

from ha_monitor.broker.source import max_requeue_delay
from tests.support.machine import Timed
from tests.support.measured import Measured
from tests.support.process import wait_until
from tests.support.services import PrivateRabbitMQ

HEARTBEAT = 3
CLIENTS = 12


def test_a_silent_client_loses_what_it_held_within_the_time_that_the_others_wait(
    rabbitmq: PrivateRabbitMQ, measured: Measured
) -> None:
    """Given clients that took a message each and then neither say nor read anything, as when their host is cut off,
    RabbitMQ gives all messages back within the time that is counted on."""
    vhost = "silent"
    rabbitmq.add_vhost(vhost)
    silent: dict[str, float] = {}
    held_for: list[float] = []
    with ExitStack() as stack:
        channel = stack.enter_context(rabbitmq.connection(vhost)).channel()
        channel.queue_declare("held", durable=False, auto_delete=False)
        for number in range(CLIENTS):
            # RabbitMQ looks after each at another moment.
            time.sleep(HEARTBEAT / CLIENTS)
            client = rabbitmq.connection(vhost, heartbeat=HEARTBEAT)
            stack.callback(client.collect)
            channel.basic_publish(amqp.Message(str(number)), routing_key="held")
            own = client.channel()
            wait_until(partial(own.basic_get, "held"), 10, "the message")
            silent[str(number)] = time.monotonic()

        def came_back() -> bool:
            while (message := channel.basic_get("held", no_ack=True)) is not None:
                held_for.append(time.monotonic() - silent[message.body])
            return len(held_for) == CLIENTS

        with Timed() as timed:
            wait_until(came_back, 60, "all messages")
    rabbitmq.delete_vhost(vhost)

    measured(
        f"silent clients' messages came back (heartbeat {HEARTBEAT} s)", f"{min(held_for):.1f}-{max(held_for):.1f} s"
    )
    assert max(held_for) - timed.late < max_requeue_delay(HEARTBEAT), timed
