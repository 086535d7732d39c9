"""Questions to the workers and the broker, on a separate connection from the one that delivers events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, NoReturn

import amqp.exceptions
import msgspec
from celery import Celery
from celery.app.control import Control
from kombu.messaging import Producer
from kombu.pidbox import Mailbox

from ha_monitor.broker.address import connect_once, connection_to, is_amqp
from ha_monitor.broker.amqp_errors import translated_errors
from ha_monitor.broker.redis_errors import unavailable
from ha_monitor.config.schema import Broker, Config
from ha_monitor.config.urls import address_of
from ha_monitor.errors import BrokerBlocked, HaMonitorError

BROKER_TIMEOUT = 10.0
"""Maximum seconds to wait for the broker's answer to one question."""

_UNTOUCHED = ("unacked_key", "unacked_index_key", "unacked_mutex_key")
"""A client that waits for a message through kombu's Redis transport also requeues tasks that workers have held
unacknowledged for too long. The monitor must not touch the application's tasks, so it uses keys that are always empty.
"""


class RemoteControl(NamedTuple):
    """A connection for questions."""

    client: Any
    """The connection."""
    control: Any
    """Celery's control of the workers; each call needs `connection=client`."""


class _OneAttempt(Producer):
    """Publishes in one attempt: kombu would retry forever, on new connections."""

    def publish(self, *arguments: Any, **options: Any) -> Any:
        return super().publish(*arguments, **{**options, "retry": False})


class _Mailbox(Mailbox):
    """Publishes on the connection that receives the answers.

    Celery itself would publish through the application's pool, whose connections ignore `broker.tls`,
    `broker.transport_options` and the timeouts.
    """

    @contextmanager
    def producer_or_acquire(self, producer: Producer | None = None, channel: Any = None) -> Iterator[Producer]:
        yield producer or _OneAttempt(channel, auto_declare=False)


class _Control(Control):  # type: ignore[misc]  # Celery has no type hints
    Mailbox = _Mailbox


@contextmanager
def remote_control(url: str, broker: Broker) -> Iterator[RemoteControl]:
    """Connect to one broker for questions to the workers.

    :raises BrokerUnavailable: if the broker cannot be used; also raised from within the block.
    :raises BrokerBlocked: if the broker accepts no messages, because of an alarm. Within the block, the connection is
        still open.
    """
    # The app has no real broker, so anything that does not use the given connection fails.
    app = Celery("ha-monitor", set_as_current=False, broker="memory://", control=_Control)
    app.conf.control_exchange = broker.control_exchange
    # No heartbeats: each one received would restart the wait for answers. Timeouts replace them.
    settings = msgspec.structs.replace(broker, heartbeat=0.0)
    options: dict[str, Any] = {"socket_timeout": BROKER_TIMEOUT}
    if is_amqp(url):
        options = {
            "read_timeout": BROKER_TIMEOUT,
            "write_timeout": BROKER_TIMEOUT,
            "on_blocked": partial(_blocked, address_of(url)),
        }
    else:
        empty = {name: f"{name}.reply.{broker.control_exchange}.pidbox" for name in _UNTOUCHED}
        settings = msgspec.structs.replace(settings, transport_options={**broker.transport_options, **empty})
    with translated_errors(address_of(url), broker), connection_to(url, settings, options=options) as client:
        try:
            connect_once(client, url, broker)
            yield RemoteControl(client, app.control)
        except BrokerBlocked:
            # The broker no longer reads from the connection, so it would not answer an orderly close.
            client.collect()
            raise
        except (OSError, amqp.exceptions.AMQPError, HaMonitorError):
            raise
        except Exception as error:  # kombu's other transports raise their own errors
            raise unavailable(url, broker, error) from None


def _blocked(address: str, _reason: str) -> NoReturn:
    # py-amqp does not pass on the reason that RabbitMQ gives.
    raise BrokerBlocked(
        f"{address}: RabbitMQ has a memory or disk alarm and accepts no messages, so events wait at the workers. "
        "`rabbitmq-diagnostics alarms` shows which; free memory or disk space"
    )


def wait_while_blocked(client: Any, is_over: Callable[[], bool]) -> None:
    """Wait until the broker unblocks a connection, so that it accepts messages again.

    :param is_over: called once a second; True ends the wait.
    """
    unblocked: list[bool] = []
    client.connection.on_unblocked = lambda: unblocked.append(True)
    while not unblocked and not is_over():
        with suppress(TimeoutError):
            client.connection.drain_events(timeout=1.0)


def answering_workers(url: str, config: Config, timeout: float) -> set[str]:
    """The workers that answer.

    :param timeout: seconds to wait for answers.
    :raises BrokerUnavailable: if the broker cannot be used.
    """
    with remote_control(url, config.broker) as (client, control):
        if not is_amqp(url):
            # kombu needs the right to load its scripts when Redis has forgotten them; fail now if it is missing.
            client.default_channel.client.script_load("return 1")
        return {name for reply in control.ping(timeout=timeout, connection=client) or [] for name in reply}
