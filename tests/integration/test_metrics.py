"""Metrics of real instances under real workers: the sum over the fleet is what the workers did, to the task."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import redis

from ha_monitor.store.keys import Keys
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, Overrides
from tests.support.process import wait_for_value
from tests.support.scraping import Samples, free_listen, scrape
from tests.support.workers import CeleryWorker


def total(all_samples: Iterable[Samples], name: str, /, **labels: str) -> float:
    """The sum over the fleet."""
    return sum(samples.sum(name, **labels) for samples in all_samples)


def test_the_sum_is_what_the_workers_did_through_kills(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given three instances of which two are killed with SIGKILL and started again while a worker runs 600 tasks of
    five kinds, each counter's sum over the three is exact.
    """
    listen = free_listen(3)
    settings = {"http": {"listen": listen}}
    expected = {
        ("succeeded", "tests.add"): 400,
        ("failed", "tests.fail"): 100,
        ("succeeded", "tests.flaky"): 50,
        ("retried", "tests.flaky"): 100,
        ("started", "tests.flaky"): 150,
        ("started", "tests.add"): 400,
        ("started", "tests.fail"): 100,
        ("received", "tests.add"): 400,
        ("sent", "tests.add"): 400,
        ("rejected", "tests.reject"): 50,
    }
    with (
        Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet,
        CeleryWorker(broker_url, send_sent_event=True) as worker,
    ):
        app = make_app(broker_url, send_sent_event=True)
        for number in range(50):
            for _ in range(8):
                app.tasks["tests.add"].delay(1, 2)
            app.tasks["tests.fail"].delay()
            app.tasks["tests.fail"].delay()
            app.tasks["tests.flaky"].delay(2)
            app.tasks["tests.reject"].delay()
            if number in (15, 30):
                victim = fleet.instances[number // 15 - 1]
                victim.kill()
                victim.start()

        def found() -> dict[tuple[str, str], float]:
            try:
                scraped = [scrape(listen, one.name) for one in fleet.instances]
            except OSError:
                return {}
            return {key: total(scraped, f"celery_task_{key[0]}_total", name=key[1]) for key in expected}

        try:
            wait_for_value(found, expected, 60, "the exact sums", 0.5)
        except TimeoutError:
            assert found() == expected
        time.sleep(3)
        assert found() == expected
        scraped = [scrape(listen, one.name) for one in fleet.instances]
        host = worker.nodename.partition("@")[2]
        assert total(scraped, "celery_task_runtime_count", name="tests.add") == 400
        # Until the first task-sent of a name has come, nobody knows that its queue is worth waiting for.
        assert total(scraped, "celery_task_runtime_count", name="tests.add", queue_name="celery") >= 390
        assert total(scraped, "celery_task_succeeded_total", worker=worker.nodename, hostname=host) == 450
        assert total(scraped, "celery_task_failed_total", exception="KeyError") == 100
        assert total(scraped, "celery_task_queue_wait_time_count", name="tests.add") == 400
        assert total(scraped, "celery_task_sent_total", name="unknown") == 0
        assert total(scraped, "ha_monitor_consuming") == 3
        assert total(scraped, "ha_monitor_batches_total") > 0


def test_where_producers_send_no_task_sent_the_queue_is_the_worker_s(
    tmp_path: Path, broker_url: str, store_url: str
) -> None:
    """Given a producer without task-sent, two instances, a worker of one queue and a worker of two, the tasks of the
    first are counted and announced with its queue, those of the other with the default; and a queue that is in the
    configuration is surveyed though no worker ever consumed it.
    """
    listen = free_listen(2)
    metrics = {"survey_interval": 1.0, "queues": ["forgotten"], "default_queue": "celery"}
    settings: Overrides = {"http": {"listen": listen}, "metrics": metrics}
    app = make_app(broker_url)
    app.tasks["tests.add"].apply_async((1, 2), queue="forgotten")
    with (
        Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet,
        CeleryWorker(broker_url, "mail", queues=["mail"]),
        CeleryWorker(broker_url, "both", queues=["celery", "other"]),
    ):

        def scraped() -> list[Samples]:
            return [scrape(listen, name) for name in "12"]

        def surveyed() -> dict[str, float]:
            return {queue: total(scraped(), "celery_active_worker_count", queue_name=queue) for queue in queues}

        queues = {"mail": 1.0, "celery": 1.0, "other": 1.0, "forgotten": 0.0}
        wait_for_value(surveyed, queues, 40, "a survey with both workers", 0.5)
        assert total(scraped(), "celery_queue_length", queue_name="forgotten") == 1
        known = redis.Redis.from_url(store_url)
        wait_for_value(lambda: list(known.hvals(Keys("ha-monitor", "fleet").worker_queues)), [b"mail"], 10, "the store")
        for queue in ("mail", "celery", "other"):
            for _ in range(5):
                app.tasks["tests.add"].apply_async((1, 2), queue=queue)

        def counted() -> dict[str, float]:
            found = {queue: total(scraped(), "celery_task_succeeded_total", queue_name=queue) for queue in queues}
            return {**found, "all": total(scraped(), "celery_task_succeeded_total")}

        expected = {"mail": 5.0, "celery": 10.0, "other": 0.0, "forgotten": 0.0, "all": 15.0}
        wait_for_value(counted, expected, 30, "the counts by queue", 0.5)
        assert total(scraped(), "celery_task_runtime_count", queue_name="mail") == 5

        def told() -> dict[str, int]:
            return Counter(str(line.get("queue")) for line in fleet.said("task-succeeded"))

        wait_for_value(told, {"mail": 5, "celery": 10}, 30, "the lines by queue", 0.5)
