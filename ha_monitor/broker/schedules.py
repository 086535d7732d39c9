"""Asks workers for beat's schedule: it is part of the application's configuration, which workers also have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ha_monitor.broker.address import first_answer
from ha_monitor.broker.remote_control import remote_control
from ha_monitor.config.schema import Config

ANSWER_TIMEOUT = 10.0
"""Seconds to wait for the next answer of a worker, which may be busy. Nothing waits once all have answered."""


def query_confs(config: Config, workers: Sequence[str]) -> Mapping[str, object]:
    """The answers of these workers to Celery's `conf`, by nodename, asked on a connection of its own. An answer holds
    all settings; those that look like secrets are masked. Do not trust an answer, and do not keep most of it.

    :raises BrokerUnavailable: if no broker of `broker.url` answers.
    """
    return first_answer(config, lambda url: _ask_at(url, config, workers))


def _ask_at(url: str, config: Config, workers: Sequence[str]) -> Mapping[str, object]:
    with remote_control(url, config.broker) as (client, control):
        inspect = control.inspect(destination=list(workers), timeout=ANSWER_TIMEOUT, connection=client)
        answers = inspect.conf() or {}
        return {worker: answer for worker, answer in answers.items() if isinstance(answer, dict)}
