"""Asks the workers which of the given tasks they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.broker.asking import asking, first_answer
from ha_monitor.config.schema import Config

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for the workers' answers."""


class Held(NamedTuple):
    """A task that a worker has."""

    worker: str
    runs: bool
    """Whether it is running; else it waits in the worker."""


class WorkerAnswers(NamedTuple):
    """The workers' answers."""

    answered: frozenset[str]
    """The workers that answered."""
    held: dict[str, Held]
    """By task id; a task that is missing here is with none of them."""


def query_tasks(config: Config, task_ids: Sequence[str]) -> WorkerAnswers:
    """Ask all workers, on a connection of its own.

    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    return first_answer(config, lambda url: read_answers(_ask_at(url, config, task_ids)))


def _ask_at(url: str, config: Config, task_ids: Sequence[str]) -> dict[str, Any]:
    with asking(url, config.broker) as (client, control):
        return control.inspect(timeout=ANSWER_TIMEOUT, connection=client).query_task(*task_ids) or {}


def read_answers(answers: dict[str, Any]) -> WorkerAnswers:
    """The reply to Celery's `query_task`: worker → task id → [state, …]. A worker that replied with an error counts
    as one that did not answer.
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
    return WorkerAnswers(frozenset(answered), held)
