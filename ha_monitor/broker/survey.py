"""Surveys the task queues and their consumers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import amqp.exceptions
import redis.exceptions

from ha_monitor.broker.address import first_answer, is_amqp
from ha_monitor.broker.remote_control import remote_control
from ha_monitor.config.schema import Config
from ha_monitor.events.facts import MAX_NAME

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the workers' answers."""
MAX_QUEUE_NAME = 255
"""Maximum bytes of the name of a queue in AMQP."""


class TaskQueue(NamedTuple):
    """One task queue."""

    name: str
    length: int | None
    """Messages that are ready to be delivered; None if the queue does not exist."""
    consumers: int | None
    """Consumers, as counted by the broker; None if it does not count them (Redis)."""
    workers: int
    """Workers that say that they consume the queue."""
    processes: int
    """Processes or threads of those workers."""


class Survey(NamedTuple):
    """The result of a survey."""

    queues: list[TaskQueue]
    """Sorted by name."""
    consumed: dict[str, frozenset[str]]
    """Nodename → names of the queues that the worker says it consumes."""


def survey(config: Config, known: Iterable[str], reported: Iterable[str] = ()) -> Survey:
    """Ask the workers and the broker, on a connection of its own.

    :param known: further queues to include even if no worker names them.
    :param reported: queues that only producers name, such as a misspelt one. They are included if the broker has
        messages in them. The names come from events, so a refusal of the broker to look at one does not end the survey.
    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    return first_answer(config, lambda url: _survey_at(url, config, known, reported))


def _survey_at(url: str, config: Config, known: Iterable[str], reported: Iterable[str]) -> Survey:
    with remote_control(url, config.broker) as (client, control):
        inspect = control.inspect(timeout=ANSWER_TIMEOUT, connection=client)
        consumed = consumed_in(inspect.active_queues() or {})
        stats: dict[str, object] = inspect.stats() or {}
        workers, processes = Counter[str](), Counter[str]()
        for worker, names_of_worker in consumed.items():
            for name in names_of_worker:
                workers[name] += 1
                processes[name] += processes_in(stats.get(worker))
        found = {name: _look_at(client, name, url) for name in {*workers, *known}}
        for name in set(reported) - set(found):
            length, consumers = _look_at_reported(client, name, url)
            if length:
                found[name] = length, consumers
        queues = [TaskQueue(name, *found[name], workers[name], processes[name]) for name in sorted(found)]
        return Survey(queues, consumed)


def consumed_in(answers: Mapping[str, object]) -> dict[str, frozenset[str]]:
    """The reply to Celery's `active_queues`: worker → [queue, …]. A worker that replied with an error counts as one
    that did not answer.
    """
    return {
        worker: frozenset(
            queue["name"][:MAX_NAME]
            for queue in queues
            if isinstance(queue, dict) and isinstance(queue.get("name"), str) and queue["name"]
        )
        for worker, queues in answers.items()
        if isinstance(queues, list)
    }


def processes_in(stats: object) -> int:
    """The processes or threads of a worker, by its reply to Celery's `stats`; 0 if it does not say."""
    pool = stats.get("pool") if isinstance(stats, dict) else None
    if not isinstance(pool, dict):
        return 0
    processes = pool.get("processes")
    if isinstance(processes, list):
        return len(processes)
    most = pool.get("max-concurrency")
    return most if isinstance(most, int) else 0


def _look_at_reported(client: Any, name: str, url: str) -> tuple[int | None, int | None]:
    """As `_look_at`, for a name that may not be a queue's: it may be a key of another type, or an impossible name."""
    if is_amqp(url) and not 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_QUEUE_NAME:
        return None, None
    try:
        return _look_at(client, name, url)
    except (redis.exceptions.ResponseError, amqp.exceptions.ChannelError):
        return None, None


def _look_at(client: Any, name: str, url: str) -> tuple[int | None, int | None]:
    if not is_amqp(url):
        # In Redis, an empty queue does not exist, and declaring one changes nothing. A passive declaration is not used:
        # for it, kombu looks for the key without `global_keyprefix`.
        return int(client.default_channel.queue_declare(name).message_count), None
    # A separate channel: the broker closes it if there is no such queue.
    channel = client.channel()
    try:
        found = channel.queue_declare(name, passive=True)
    except (amqp.exceptions.NotFound, amqp.exceptions.ResourceLocked):
        return None, None
    finally:
        channel.close()
    return int(found.message_count), int(found.consumer_count)
