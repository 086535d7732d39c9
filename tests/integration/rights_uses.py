"""What the monitor does on brokers, each of which its user must be allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from unittest import mock

from ha_monitor.broker import survey as surveying
from ha_monitor.broker import task_query
from ha_monitor.broker.control import broadcast_to_workers
from ha_monitor.broker.inspection import queue_state
from ha_monitor.broker.remote_control import answering_workers
from ha_monitor.broker.source import Source
from ha_monitor.check.findings import Finding, Severity
from ha_monitor.config.schema import Config
from ha_monitor.errors import HaMonitorError
from tests.support.process import wait_until
from tests.support.recording import Recorded

Uses = Mapping[str, Callable[[], object]]
"""What is done, by its name."""
EVENT = Recorded("task.sent", "application/json", "utf-8", "{}")
QUEUE = "celery"
"""Of the application."""


def uses_of(config: Config, source: Source, publish_event: Callable[[], object], worker: str) -> Uses:
    """All that an instance does on a broker."""

    def events() -> None:
        try:
            source.dial().use()
            publish_event()
            wait_until(lambda: source.receive(10, 0.2), 30, "the event")
            source.acknowledge(source.mark())
        finally:
            source.close()

    def heard(answer: Callable[[], bool]) -> None:
        wait_until(answer, 60, "the worker's answer")

    def asking() -> None:
        heard(lambda: worker in task_query.query_tasks(config, ["no such task"]).answered)

    def survey() -> None:
        heard(
            lambda: (
                (QUEUE, 0, 1)
                in {(one.name, one.length, one.workers) for one in surveying.survey(config, [QUEUE]).queues}
            )
        )

    def check() -> None:
        heard(lambda: worker in answering_workers(config.broker.url, config, 0.5))

    return {
        "events": events,
        "broadcast": lambda: broadcast_to_workers(config.broker.url, config.broker),
        "stuck detection": asking,
        "survey": survey,
        "check of the workers": check,
        "status": lambda: queue_state(config),
    }


def refused(uses: Uses) -> dict[str, str]:
    """What cannot be done, up to the first such thing, and what is said of it."""
    # The worker here is idle, and mostly answers at once.
    with mock.patch.object(surveying, "ANSWER_TIMEOUT", 0.5), mock.patch.object(task_query, "ANSWER_TIMEOUT", 0.5):
        for name, use in uses.items():
            try:
                use()
            except HaMonitorError as error:
                return {name: str(error)}
    return {}


def failures(findings: Iterator[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.severity is Severity.FAILED]
