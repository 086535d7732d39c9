"""What an announcement waits for may be with another instance: behind a link that is cut, or while a handler runs.

With one publisher RabbitMQ deals the messages of a task to the instances in turn, which hides all that rests on their
order. So here are three, which send an event each of every task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.acceptance.faults.conftest import FaultTable
from tests.support.instances import ROOT, Fleet, through
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.proxy import CutLink
from tests.support.publishing import Load
from tests.support.recording import Recorded
from tests.support.services import PrivateRabbitMQ
from tests.unit.builders import event

SETTINGS: dict[str, dict[str, Any]] = {"store": {"name_wait": 1.0}, "broker": {"connect_timeout": 1.0}}
SLOW_HANDLER = """
import itertools, time
from pathlib import Path
from ha_monitor import on

calls = itertools.count()

@on("task-succeeded")
def slow(event, task):
    if next(calls) in (20, 120):
        time.sleep(4)
        with (Path(__file__).parent / "slept").open("a") as file:
            print("slept", file=file)
"""


def of_publisher(number: int, start: float, published: list[int]) -> Iterator[Recorded]:
    """The receipts, the starts or the successes of tasks, each behind what precedes it.

    :param published: how many tasks each publisher has published its event of.
    """
    kind = ("task-received", "task-started", "task-succeeded")[number]
    for task in range(100_000):
        published[number] = task
        while number and published[number - 1] <= task:
            time.sleep(0.001)
        body = event(kind, uuid=f"task-{task}", at=start + task / 100 + number / 1000, clock=3 * task + number)
        yield Recorded(kind.replace("-", "."), "application/json", "utf-8", json.dumps(body))


def load_of_several(stack: ExitStack, broker_url: str) -> list[Load]:
    """Publishers that are stopped at the end, if not before."""
    began, published = time.time(), [0, 0, 0]
    loads = [Load(broker_url, of_publisher(number, began, published), rate=120) for number in range(3)]
    for load in loads:
        stack.callback(load.stop)
    return loads


def stop(loads: list[Load]) -> Published:
    """The last one first: what it published the others have published, too."""
    published = Published()
    for load in reversed(loads):
        published.update(load.stop())
    return published


def test_one_instance_has_a_half_open_link(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given three publishers and three instances, when the network between one of them and the broker swallows all
    packets, then no line lacks the name that was among the messages on that link
    """
    (folder := tmp_path / "behind the link").mkdir()
    with (
        CutLink(rabbitmq.port) as link,
        Fleet(tmp_path, broker_url, store_url, size=2, settings=SETTINGS) as fleet,
        Fleet(folder, through(link, broker_url), store_url, size=1, settings=SETTINGS) as other,
        ExitStack() as stack,
    ):
        other.instances[0].name = "3"
        fleet.start()
        other.start()
        fleet.instances += other.instances
        loads = load_of_several(stack, broker_url)
        wait_until(lambda: all(one.said("task-succeeded") > 20 for one in fleet.instances), 60, "work")
        link.cut()
        wait_until(lambda: other.instances[0].said("broker-unavailable"), 60, "that it notices")
        time.sleep(1)
        published = stop(loads)
        account = fault_table.add("RabbitMQ: one of three links half-open", fleet.account(published, 120))
    assert_guarantee(account)


def test_one_instance_is_busy_in_a_handler(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given three publishers and three instances, when handlers take four times as long as an announcement waits for
    its name, then no line lacks the name that was among the messages of a busy instance
    """
    (tmp_path / "slow_handler.py").write_text(SLOW_HANDLER)
    settings = {**SETTINGS, "handlers": {"modules": ["slow_handler"]}}
    with (
        Fleet(
            tmp_path, broker_url, store_url, settings=settings, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}
        ).start() as fleet,
        ExitStack() as stack,
    ):
        loads = load_of_several(stack, broker_url)
        slept = tmp_path / "slept"
        wait_until(lambda: slept.exists() and len(slept.read_text().split()) >= 5, 120, "the slow calls", 0.5)
        account = fault_table.add("a handler of four times the wait for a name", fleet.account(stop(loads), 120))
    assert_guarantee(account)
