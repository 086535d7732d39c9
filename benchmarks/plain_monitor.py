"""The monitor of Celery's documentation (userguide/monitoring, "Real-time processing"), which is the yardstick.

It is what people write first: Celery's Receiver and State, and a printed line for each task that succeeded or failed.
It acknowledges before it handles, so it loses what it held when it dies.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery


def monitor(app: Celery, node_id: str) -> None:
    state = app.events.State()

    def announce(event: dict[str, Any]) -> None:
        state.event(event)
        task = state.tasks.get(event["uuid"])
        print(f"{event['type']}: {task.name}[{task.uuid}] {task.info()}")

    def finish(event: dict[str, Any]) -> None:
        # The documentation's program does not flush each line; the benchmark must know when the last one was handled.
        state.event(event)
        print(event["type"], flush=True)

    with app.connection() as connection:
        receiver = app.events.Receiver(
            connection,
            handlers={
                "task-succeeded": announce,
                "task-failed": announce,
                "benchmark-finished": finish,
                "*": state.event,
            },
            node_id=node_id,
        )
        receiver.capture(limit=None, timeout=None, wakeup=False)


if __name__ == "__main__":
    application = Celery(broker=sys.argv[1])
    # What current Celery needs so that its queue may live on a current RabbitMQ.
    application.conf.update(event_queue_exclusive=False, event_queue_durable=True, event_queue_ttl=None)
    monitor(application, sys.argv[2])
