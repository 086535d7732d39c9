"""The Celery application of the demo: what a small shop might run in the background."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from celery import Celery
from celery.events.dispatcher import EventDispatcher

from ha_monitor.demo.brokers import task_queue

BROKER = "HA_MONITOR_DEMO_BROKER"
BACKEND = "HA_MONITOR_DEMO_BACKEND"
QUEUE = "HA_MONITOR_DEMO_QUEUE"
EXCHANGE = "HA_MONITOR_DEMO_EXCHANGE"


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Declares the event exchange as auto-delete; Celery's own is permanent."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exchange.auto_delete = True


def make_app(broker: str, backend: str, queue: str, exchange: str = "") -> Celery:
    """The application, for the producer and the worker alike.

    :param exchange: the demo's own event exchange; empty for Celery's.
    """
    app = Celery("shop", broker=broker, backend=backend, set_as_current=False)
    if exchange:
        app.conf.event_exchange = exchange
        app.events.dispatcher_cls = Dispatcher
    app.conf.update(
        task_default_queue=queue,
        task_queues=[task_queue(queue)],
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        task_track_started=False,
        result_expires=600,
    )

    @app.task(name="shop.send_receipt", shared=False)
    def send_receipt(order: int) -> str:
        time.sleep(random.uniform(0, 0.02))
        return f"receipt {order}"

    @app.task(name="shop.send_offer", shared=False)
    def send_offer(order: int) -> str:
        return f"offer {order}"

    @app.task(name="shop.charge_card", shared=False)
    def charge_card(order: int) -> None:
        raise PermissionError(f"card of order {order} was declined")

    @app.task(name="shop.book_parcel", shared=False, bind=True, max_retries=2)
    def book_parcel(self: Any, order: int) -> str:
        if self.request.retries < 1:
            # With a countdown of 0, the second run may end before Celery has stored the retry of the first one. The
            # result backend, which is the demo's reference, would then report RETRY for ever.
            raise self.retry(exc=ConnectionError("carrier does not answer"), countdown=0.5)
        return f"parcel {order}"

    return app


app = make_app(
    os.environ.get(BROKER, "memory://"),
    os.environ.get(BACKEND, "cache+memory://"),
    os.environ.get(QUEUE, "shop"),
    os.environ.get(EXCHANGE, ""),
)
