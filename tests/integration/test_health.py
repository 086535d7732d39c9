"""Health of real instances: it may not lie, whatever is away."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.support.instances import Fleet
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.scraping import ask, free_listen, probe, scrape
from tests.support.services import PrivateRabbitMQ, PrivateRedis
from tests.unit.builders import event


def test_each_instance_answers_for_itself(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given three instances on one host, each listens on its own port and is ready; a stopped one is gone."""
    listen = free_listen(3)
    with Fleet(tmp_path, broker_url, store_url, settings={"http": {"listen": listen}}).start() as fleet:
        for one in fleet.instances:
            status, answer = probe(listen, one.name)
            assert (status, answer["reasons"], answer["consuming"], answer["store"]) == (200, [], True, True)
            assert ask(listen, one.name, "/livez")[0] == 200
        assert fleet.instances[0].stop() == 0
        try:
            ask(listen, "1", "/livez")
        except OSError as error:
            assert "refused" in str(error)
        else:
            raise AssertionError("a stopped instance still answers")
        assert probe(listen, "2")[0] == 200


def test_without_an_address_nothing_listens(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given the default, an instance opens no port."""
    with Fleet(tmp_path, broker_url, store_url, size=1).start() as fleet:
        pid = fleet.instances[0].process.pid
        listening = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        inodes = {line.split()[9] for line in listening if line.split()[3] == "0A"}
        own = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
        assert {f"socket:[{inode}]" for inode in inodes} & own == set()


def test_not_ready_while_something_is_away_and_ready_again_afterwards(
    tmp_path: Path, own_rabbitmq: PrivateRabbitMQ, own_redis: PrivateRedis
) -> None:
    """Given a Redis that freezes and a broker that stops, the instance says which one it misses, stays live, and is
    ready again by itself.
    """
    listen = free_listen(1)
    with Fleet(tmp_path, own_rabbitmq.url(), own_redis.url(), size=1, settings={"http": {"listen": listen}}).start():
        own_redis.pause()
        wait_for_value(lambda: probe(listen, "1")[0], 503, 20, "not ready without Redis")
        _, answer = probe(listen, "1")
        assert any(reason.startswith("store: ") for reason in answer["reasons"]), answer
        assert ask(listen, "1", "/livez")[0] == 200
        own_redis.resume()
        wait_for_value(lambda: probe(listen, "1")[0], 200, 30, "ready with Redis again")

        own_rabbitmq.stop()
        wait_for_value(lambda: probe(listen, "1")[0], 503, 20, "not ready without RabbitMQ")
        _, answer = probe(listen, "1")
        assert (answer["consuming"], answer["store"]) == (False, True), answer
        assert any(reason.startswith("broker: ") for reason in answer["reasons"]), answer
        assert ask(listen, "1", "/livez")[0] == 200
        own_rabbitmq.start()
        wait_for_value(lambda: probe(listen, "1")[0], 200, 60, "ready with RabbitMQ again")


def test_the_lag_is_over_when_the_queue_ran_empty(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given a last batch that came minutes late, as after an outage, the instance does not stay behind for ever."""
    listen = free_listen(1)
    late = event("task-received", at=time.time() - 300)

    def lag() -> float:
        return scrape(listen, "1").sum("ha_monitor_lag_seconds")

    with Fleet(tmp_path, broker_url, store_url, size=1, settings={"http": {"listen": listen}}).start() as fleet:
        (instance,) = fleet.instances
        instance.stop()
        publish(broker_url, [Recorded("task.received", "application/json", "utf-8", json.dumps(late))])
        instance.start()
        wait_until(instance.consumes, 60, "the instance that consumes")
        wait_until(lambda: lag() > 290, 10, "the late event's lag", 0.1)
        wait_for_value(lag, 0, 30, "the end of the lag", 0.5)
