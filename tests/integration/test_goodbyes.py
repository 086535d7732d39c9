"""Events of workers that close their connection at once: RabbitMQ before 3.13 loses some of them, unless they wait."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from celery import Celery

from ha_monitor.check.online import LOSES_LAST_EVENTS_BEFORE, LOST_GOODBYES, check_broker, version_of
from ha_monitor.config.schema import Broker, Config, Queue, QueueType
from tests.support.celery_app import make_app
from tests.support.instances import Fleet, vhost_of
from tests.support.process import wait_until
from tests.support.services import PrivateRabbitMQ

WORKERS = 60
AT_ONCE = 8
BEATS = 100
"""Events before the goodbye: more than RabbitMQ hands to a quorum queue's log at once."""


def say_goodbye(app: Celery, nodename: str) -> None:
    """What Celery does at the end of a worker, by its own code: send what is left, and close the connection."""
    with app.connection_for_write() as connection, app.events.Dispatcher(connection, hostname=nodename) as events:
        for beat in range(BEATS):
            events.send("worker-heartbeat", freq=2.0, active=0, processed=beat)
        events.send("worker-offline", freq=2.0, active=0, processed=BEATS)


def stop_workers(app: Celery) -> set[str]:
    """Let all workers say goodbye, several at a time; returns their names."""
    names = [f"closing{number}@host" for number in range(WORKERS)]
    threads = [
        threading.Thread(target=lambda part: [say_goodbye(app, name) for name in part], args=(names[n::AT_ONCE],))
        for n in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(names)


def version(server: PrivateRabbitMQ) -> str:
    with server.connection() as connection:
        return str(connection.server_properties["version"])


def may_lose(server: PrivateRabbitMQ) -> bool:
    return version_of(version(server)) < LOSES_LAST_EVENTS_BEFORE


@pytest.mark.parametrize("kind", QueueType)
def test_the_check_says_where_goodbyes_may_be_lost(rabbitmq: PrivateRabbitMQ, broker_url: str, kind: QueueType) -> None:
    """Given a RabbitMQ that may lose goodbyes, the check says so and what helps, of a quorum queue and of no other."""
    found = next(check_broker(Config(broker=Broker(url=broker_url), queue=Queue(type=kind)))).text

    said = LOST_GOODBYES if kind is QueueType.QUORUM and may_lose(rabbitmq) else ""
    assert found == f"127.0.0.1:{rabbitmq.port}/{vhost_of(broker_url)}: RabbitMQ {version(rabbitmq)} answers{said}"


@pytest.mark.parametrize("confirms", [True, False], ids=["confirmed", "unconfirmed"])
def test_no_goodbye_is_lost(
    *, tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, confirms: bool
) -> None:
    """Given workers that send a burst of events, say goodbye and close their connection at once, all goodbyes are
    announced, on any RabbitMQ if the application waits for confirmations, and on a new one without, too.
    """
    if not confirms and may_lose(rabbitmq):
        pytest.skip(f"RabbitMQ {version(rabbitmq)} loses some of them: docs/monitoring.md, Lost goodbyes")
    app = make_app(broker_url, broker_transport_options={"confirm_publish": confirms})
    with Fleet(tmp_path, broker_url, store_url, size=1).start() as fleet:
        names = stop_workers(app)
        # Behind all others in the queue.
        say_goodbye(make_app(broker_url, broker_transport_options={"confirm_publish": True}), "last@host")

        def goodbyes() -> list[str]:
            return [line["worker"] for line in fleet.said("worker-offline")]

        wait_until(lambda: "last@host" in goodbyes(), 60, "the last goodbye", 0.1)
        assert sorted(goodbyes()) == sorted(names | {"last@host"})
        assert fleet.said("worker-lost") == []
