"""kill -9 at each step between delivery and acknowledgement."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults.conftest import FaultTable
from tests.conftest import missing
from tests.support.crash_points import STEPS, TAKEN_OVER
from tests.support.fault_handlers import ENDS, VARIABLE, calls
from tests.support.instances import Fleet, Overrides
from tests.support.ledger import Account, Published, assert_guarantee, balance, is_event
from tests.support.process import ServiceMissing, wait_until
from tests.support.publishing import Load
from tests.support.recording import read_stream, replicate
from tests.support.services import PrivateRabbitMQ, PrivateRedis

MAY_DOUBLE = {
    "halfway-through-lines",
    "after-lines",
    "before-handler",
    "after-handler",
    "before-failed-handler-recorded",
    "after-failed-handler-recorded",
    "before-noted",
    "before-acknowledgement",
    "after-acknowledgement",
    "after-tick",
}
"""Steps after a line is written, while Redis may not know of it yet; a kill at any other step doubles nothing."""


COUNTS = {"after-tick": "10"}
"""The call that is the last one, if not the third: ticks come without events too, and the load must come first."""


class Bed:
    """A fleet of two, of which the first is to die, and a stream of events that lasts for all tests."""

    def __init__(self, fleet: Fleet, broker_url: str, traces: Path) -> None:
        self.fleet = fleet
        self.broker_url = broker_url
        self.traces = traces
        self._earlier = Published()
        self._latest = Published()
        self._recording = read_stream("small")
        self._messages = replicate(self._recording, 1000, start=time.time())

    def load(self) -> Load:
        """Publish one more copy of the recording, whole: a name that never comes would be waited for."""
        self._earlier.update(self._latest)
        messages = list(itertools.islice(self._messages, len(self._recording)))
        self._latest = Published(messages)
        return Load(self.broker_url, messages, rate=1500)

    def account(self, published: Published) -> Account:
        """What became of one test's messages, once no instance has anything left to do but the other one."""
        self.fleet.wait_until_announced(published)
        wait_until(self._is_settled, 30, "that the dead instance's outbox is taken over and all is done", 0.1)
        lines = [
            line for line in self.fleet.lines() if not is_event(line) or line["event_id"] not in self._earlier.events
        ]
        outputs = [output for instance in self.fleet.instances for output in instance.outputs]
        torn = sum(bool(instance.outputs[-1].torn) for instance in self.fleet.instances)
        return balance(published, lines, torn=torn, bad=[text for output in outputs for text in output.bad])

    def _is_settled(self) -> bool:
        entries = self.fleet.entries()
        idle = len(entries) == 1 and entries[0].lease_left > 0 and entries[0].outbox == 0
        # A failed handler that is left over would be called by the next test's victim, which dies of it too early.
        return idle and self.fleet.handler_retries() == 0


@pytest.fixture(scope="module")
def bed(rabbitmq: PrivateRabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A fleet that the tests of this module share: what one leaves behind, the next one would find."""
    folder = tmp_path_factory.mktemp("steps")
    traces = folder / "traces"
    traces.mkdir()
    settings: Overrides = {
        # A lease that ends while an instance waits for a core doubles lines, at whatever step another one is killed.
        "store": {"lease": 5.0, "timeout": 2.0},
        "batch": {"events": 50},
        "broker": {"prefetch": 50, "connect_timeout": 0.6},
        "handlers": {"modules": ["tests.support.fault_handlers"], "backoff": 0.1, "attempts": 3},
    }
    try:
        store = PrivateRedis()
    except ServiceMissing as error:
        missing(error)
    broker_url = rabbitmq.add_vhost("steps")
    with (
        store,
        Fleet(folder, broker_url, store.url(), size=2, settings=settings, env={VARIABLE: str(traces)}) as fleet,
    ):
        yield Bed(fleet, broker_url, traces)
    rabbitmq.delete_vhost("steps")


@pytest.mark.parametrize("step", STEPS)
def test_kill_at_step(step: str, bed: Bed, fault_table: FaultTable) -> None:
    """given two instances, when one dies at a step, then the other does all that the dead one had in hand"""
    victim, other = bed.fleet.instances
    victim.start(launcher=("tests.support.crash_points", step, COUNTS.get(step, "3")))
    if not other.running:
        other.start()
    bed.fleet.wait_until_consuming()
    load = bed.load()
    assert victim.process.wait(60) == -signal.SIGKILL
    published = load.finish()
    account = fault_table.add(f"kill -9: {step}", bed.account(published))
    assert_guarantee(account, may_double=step in MAY_DOUBLE)
    assert_handled(bed, published)


def test_kill_right_after_a_take_over(bed: Bed, fault_table: FaultTable) -> None:
    """given an instance that died with a full outbox, when the one that takes it over dies too, then a third has it"""
    victim, other = bed.fleet.instances
    if other.running:
        other.kill()
    other.start(launcher=("tests.support.crash_points", "before-lines", "3"))
    victim.start(launcher=("tests.support.crash_points", TAKEN_OVER, "1"))
    bed.fleet.wait_until_consuming()
    load = bed.load()
    assert other.process.wait(60) == -signal.SIGKILL
    assert victim.process.wait(60) == -signal.SIGKILL
    other.start()
    published = load.finish()
    account = fault_table.add("kill -9: before-lines, then taken-over", bed.account(published))
    assert_guarantee(account, may_double=True)
    assert_handled(bed, published)


def assert_handled(bed: Bed, published: Published) -> None:
    """Every end of a task reached its handler."""
    ends = {event_id for event_id, event in published.events.items() if event["type"] in ENDS}
    assert ends
    found = calls(bed.traces)
    assert [event_id for event_id in ends if ("steady", event_id) not in found] == []
