"""Asks the workers which of some tasks they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import amqp.exceptions
import msgspec
from celery import Celery

from ha_monitor.broker.address import address_of, connection_to, is_amqp, urls_of
from ha_monitor.broker.amqp_errors import translated_errors
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable

PATIENCE = 2.0
"""Seconds to wait for the workers' answers."""
LONGEST = 10.0
"""Seconds to wait for the broker's answer to one question."""


class Held(NamedTuple):
    """A task that a worker has."""

    worker: str
    runs: bool
    """It runs; else it waits there."""


class Whereabouts(NamedTuple):
    """What the workers say."""

    answered: frozenset[str]
    """The workers that answered."""
    held: dict[str, Held]
    """By the task's id; what is missing, none of them has."""


def ask_workers(config: Config, task_ids: Sequence[str]) -> Whereabouts:
    """Ask all workers, on a connection of its own.

    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    error = BrokerUnavailable("no broker")
    for url in urls_of(config.broker.url):
        try:
            return read_answers(_ask_at(url, config, task_ids))
        except BrokerUnavailable as problem:
            error = problem
    raise error


def _ask_at(url: str, config: Config, task_ids: Sequence[str]) -> dict[str, Any]:
    app = Celery("ha-monitor", set_as_current=False, broker=url)
    # Without heartbeats: each one that comes would begin the wait for answers anew. Instead, nothing may take long.
    settings = msgspec.structs.replace(config.broker, heartbeat=0.0)
    options = {"read_timeout": LONGEST, "write_timeout": LONGEST} if is_amqp(url) else {"socket_timeout": LONGEST}
    with translated_errors(address_of(url)), connection_to(url, settings, options=options) as client:
        try:
            inspect = app.control.inspect(timeout=PATIENCE, connection=client)
            return inspect.query_task(*task_ids) or {}
        except (OSError, amqp.exceptions.AMQPError, BrokerUnavailable):
            raise
        except Exception as error:  # kombu's other transports raise their own kinds
            raise BrokerUnavailable(f"{address_of(url)}: {' '.join(str(error).split())[:300]}") from None


def read_answers(answers: dict[str, Any]) -> Whereabouts:
    """What Celery's `query_task` brought: worker → task id → [state, …]. A worker that could not say is as one that did
    not answer.
    """
    answered, held = set(), {}
    for worker, tasks in answers.items():
        if not isinstance(tasks, dict) or "error" in tasks:
            continue
        answered.add(worker)
        for task_id, found in tasks.items():
            runs = isinstance(found, list | tuple) and bool(found) and found[0] == "active"
            if runs or task_id not in held:
                held[task_id] = Held(worker, runs)
    return Whereabouts(frozenset(answered), held)
