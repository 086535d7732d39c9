"""Looks at the queues of tasks and at who consumes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import amqp.exceptions
import kombu.exceptions
import msgspec
from celery import Celery

from ha_monitor.broker.address import address_of, connection_to, is_amqp, urls_of
from ha_monitor.broker.amqp_errors import translated_errors
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable

PATIENCE = 1.0
"""Seconds to wait for the workers' answers."""

LONGEST = 10.0
"""Seconds to wait for the broker's answer to one question."""


class TaskQueue(NamedTuple):
    """One queue of tasks."""

    name: str
    length: int | None
    """Messages that are ready; None if the queue does not exist."""
    consumers: int | None
    """As the broker counts them; None where it does not (Redis)."""
    workers: int
    """Workers that say that they consume it."""
    processes: int
    """Processes or threads of those workers."""


def survey(config: Config, known: Iterable[str]) -> list[TaskQueue]:
    """Ask workers and broker, on a connection of its own.

    :param known: queues to be looked at even if no worker names them.
    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    error = BrokerUnavailable("no broker")
    for url in urls_of(config.broker.url):
        try:
            return _survey_at(url, config, known)
        except BrokerUnavailable as problem:
            error = problem
    raise error


def _survey_at(url: str, config: Config, known: Iterable[str]) -> list[TaskQueue]:
    app = Celery("ha-monitor", set_as_current=False, broker=url)
    # Without heartbeats: each one that comes would begin the wait for answers anew. Instead, nothing may take long.
    settings = msgspec.structs.replace(config.broker, heartbeat=0.0)
    options = {"read_timeout": LONGEST, "write_timeout": LONGEST} if is_amqp(url) else {"socket_timeout": LONGEST}
    with translated_errors(address_of(url)), connection_to(url, settings, options=options) as client:
        try:
            inspect = app.control.inspect(timeout=PATIENCE, connection=client)
            consumed: dict[str, list[dict[str, Any]]] = inspect.active_queues() or {}
            stats: dict[str, dict[str, Any]] = inspect.stats() or {}
            workers, processes = Counter[str](), Counter[str]()
            for worker, queues in consumed.items():
                for name in {str(queue.get("name")) for queue in queues}:
                    workers[name] += 1
                    processes[name] += _processes(stats.get(worker, {}))
            names = sorted({*workers, *known})
            return [TaskQueue(name, *_look_at(client, name, url), workers[name], processes[name]) for name in names]
        except (OSError, amqp.exceptions.AMQPError, BrokerUnavailable):
            raise
        except Exception as error:  # kombu's other transports raise their own kinds
            raise BrokerUnavailable(f"{address_of(url)}: {' '.join(str(error).split())[:300]}") from None


def _processes(stats: dict[str, Any]) -> int:
    pool = stats.get("pool")
    if not isinstance(pool, dict):
        return 0
    processes = pool.get("processes")
    if isinstance(processes, list):
        return len(processes)
    most = pool.get("max-concurrency")
    return most if isinstance(most, int) else 0


def _look_at(client: Any, name: str, url: str) -> tuple[int | None, int | None]:
    # A channel of its own: the broker closes it if there is no such queue.
    channel = client.channel()
    try:
        found = channel.queue_declare(name, passive=True)
    except (amqp.exceptions.NotFound, amqp.exceptions.ResourceLocked, kombu.exceptions.ChannelError):
        # Redis knows no queue without messages.
        return (None, None) if is_amqp(url) else (0, None)
    finally:
        channel.close()
    return int(found.message_count), int(found.consumer_count) if is_amqp(url) else None
