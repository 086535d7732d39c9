"""Asks the workers which of the given tasks they hold, and when they acknowledge them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.broker.address import first_answer
from ha_monitor.broker.remote_control import remote_control
from ha_monitor.config.schema import Config

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for the workers' answers."""


class Held(NamedTuple):
    """A task that a worker holds."""

    worker: str
    runs: bool
    """Whether the task is running; if not, it waits in the worker."""


class WorkerAnswers(NamedTuple):
    """The workers' answers."""

    answered: frozenset[str]
    """The workers that answered."""
    held: dict[str, Held]
    """By task id. If a running task is missing, none of these workers runs it. A waiting task may be missing: Celery
    does not list tasks that wait for a rate limit.
    """
    acks_late: dict[str, bool] = {}  # noqa: RUF012  # never changed
    """Task name → whether the message is acknowledged after the task has ended rather than when it starts. Holds the
    names that the workers reported.
    """


def query_tasks(config: Config, task_ids: Sequence[str], ask_settings: Sequence[str] = ()) -> WorkerAnswers:
    """Ask all workers about tasks, on a connection of its own.

    :param ask_settings: the workers to ask how they acknowledge. Do not name all workers: each answers with all the
        tasks that it knows.
    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    return first_answer(config, lambda url: _ask_at(url, config, task_ids, ask_settings))


def _ask_at(url: str, config: Config, task_ids: Sequence[str], ask_settings: Sequence[str]) -> WorkerAnswers:
    with remote_control(url, config.broker) as (client, control):

        def inspect(**destination: Any) -> Any:
            return control.inspect(timeout=ANSWER_TIMEOUT, connection=client, **destination)

        answers = read_answers(inspect().query_task(*task_ids) or {} if task_ids else {})
        if not ask_settings:
            return answers
        registered = inspect(destination=list(ask_settings)).registered("acks_late") or {}
        return answers._replace(acks_late=read_settings(registered))


_SETTING = re.compile(r"^(.*) \[acks_late=(True|False)\]$")


def read_settings(answers: dict[str, Any]) -> dict[str, bool]:
    """Read the replies to Celery's `registered`: worker → [text about a task, …]. A task about which workers differ
    counts as acknowledged late.
    """
    found: dict[str, bool] = {}
    for tasks in answers.values():
        for text in tasks if isinstance(tasks, list) else ():
            if isinstance(text, str) and (match := _SETTING.match(text)):
                name, late = match.groups()
                found[name] = found.get(name, False) or late == "True"
    return found


def read_answers(answers: dict[str, Any]) -> WorkerAnswers:
    """Read the replies to Celery's `query_task`: worker → task id → [state, …]. A worker that replied with an error
    is treated as one that did not answer.
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
