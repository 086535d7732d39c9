"""What the queue's own limits drop is counted: by the loss detector to the run, by RabbitMQ to the message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_real_losses import exported, lost, succeeded
from tests.support.capture import capture
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, queue_depth
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.scraping import free_listen, scrape
from tests.support.services import PrivateRabbitMQ
from tests.support.workers import CeleryWorker

RUNS = 150


def dropped_by(rabbitmq: PrivateRabbitMQ, cause: str) -> int:
    """Messages that quorum queues without a dead-letter exchange have dropped, as RabbitMQ itself counts them."""
    queues = "[{queue_type, rabbit_quorum_queue}, {dead_letter_strategy, disabled}]"
    counter = f"messages_dead_lettered_{cause}_total"
    return int(rabbitmq.evaluate(f"maps:get({counter}, maps:get({queues}, rabbit_global_counters:overview()))."))


@pytest.mark.parametrize(
    ("cause", "limit"),
    [
        # A busy worker puts up to 24 events into a message.
        pytest.param("maxlen", {"max_length": 8}, id="length"),
        pytest.param("expired", {"message_ttl": 3.0}, id="time to live"),
    ],
)
def test_what_a_limit_drops_is_counted(
    *,
    cause: str,
    limit: dict[str, Any],
    tmp_path: Path,
    rabbitmq: PrivateRabbitMQ,
    broker_url: str,
    store_url: str,
    measured: Measured,
) -> None:
    """Given a queue with a small limit, when a worker runs more while no instance is there than the queue keeps, the
    detector says exactly how many runs nobody heard of, and RabbitMQ's counter how many messages it dropped.
    """
    listen = free_listen(2)
    app = make_app(broker_url)
    settings = {"http": {"listen": listen}, "queue": limit}

    def total(fleet: Fleet, metric: str) -> int:
        return int(sum(scrape(listen, one.name).sum(metric) for one in fleet.instances))

    with (
        Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet,
        capture(broker_url) as truth,
        CeleryWorker(broker_url, "a", concurrency=2, pool="threads") as worker,
    ):
        before = dropped_by(rabbitmq, cause)
        for _ in range(20):
            app.tasks["tests.add"].delay(1, 2)
        wait_for_value(lambda: succeeded(fleet), 20, 30, "the tasks before")
        for one in fleet.instances:
            assert one.stop() == 0
        heard = sum(line["messages"] for line in fleet.said("instance-stopped"))
        for _ in range(RUNS):
            app.tasks["tests.add"].delay(1, 2)
        wait_for_value(lambda: worker.log().count("succeeded in"), 20 + RUNS, 60, "the tasks unseen")
        truth.wait_for("task-succeeded", 20 + RUNS)
        if cause == "expired":
            # Heartbeats go on.
            wait_until(lambda: queue_depth(broker_url) <= 3, 30, "the end of their time")
        fleet.start()
        for _ in range(20):
            app.tasks["tests.add"].delay(1, 2)
        truth.wait_for("task-succeeded", 40 + RUNS)

        def runs_unheard() -> int:
            truth.drain()
            return truth.types()["task-started"] - total(fleet, "celery_task_started_total")

        def messages_missing() -> int:
            truth.drain()
            return len(truth.messages) - heard - total(fleet, "ha_monitor_messages_total")

        wait_until(lambda: succeeded(fleet) >= 40, 30, "the tasks after")
        wait_until(lambda: messages_missing() == dropped_by(rabbitmq, cause) - before, 60, "RabbitMQ's own count")
        # Runs of which nobody heard the name are counted late, when the wait for it is over.
        wait_until(lambda: sum(lost(fleet).values()) == runs_unheard() > 0, 60, "the lines of what was lost", 0.2)
        unheard = runs_unheard()

        measured(f"events dropped by the queue's limit ({cause}): runs unheard", str(unheard))
        measured("… found by the detector", str(sum(lost(fleet).values())))
        measured("… messages that RabbitMQ says it dropped", str(dropped_by(rabbitmq, cause) - before))
        assert unheard >= RUNS / 4
        assert lost(fleet) == {worker.nodename: unheard}
        wait_for_value(lambda: exported(fleet, listen), unheard, 10, "the counters")
        assert runs_unheard() == unheard
