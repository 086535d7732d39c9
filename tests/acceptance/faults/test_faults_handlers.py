"""Handlers that raise: what failed is tried again, and only that."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ha_monitor.exit_status import ExitStatus
from ha_monitor.store.reader import StoreReader
from tests.acceptance.faults.conftest import FaultTable
from tests.support.crash_points import UNEXPECTED
from tests.support.fault_handlers import ENDS, SLOW, VARIABLE, calls, raises
from tests.support.hosts_events import fresh_event, message
from tests.support.instances import Fleet
from tests.support.ledger import Published, assert_guarantee
from tests.support.process import wait_until
from tests.support.recording import publish, read_stream, replicate
from tests.support.services import PrivateRabbitMQ

ATTEMPTS = 3
KEPT = 40
"""Dead letters kept: fewer than come up."""


def test_handlers_that_raise(tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable) -> None:
    """given a handler that raises one time in ten, one that never does and one that always does, when events come,
    then each handler succeeds exactly once with each event or has a dead letter, and no line comes twice
    """
    (traces := tmp_path / "traces").mkdir()
    published = Published(messages := list(replicate(read_stream("small"), 1, start=time.time())))
    settings = {
        "handlers": {
            "modules": ["tests.support.fault_handlers"],
            "attempts": ATTEMPTS,
            "backoff": 0.1,
            "dead_letters": KEPT,
        }
    }
    expected = expected_outcomes(published)
    hopeless = [event_id for (handler, event_id) in expected if handler == "hopeless"]
    assert len(hopeless) > KEPT, "the limit of dead letters would not be reached"

    with Fleet(tmp_path, broker_url, store_url, settings=settings, env={VARIABLE: str(traces)}).start() as fleet:
        publish(broker_url, messages)
        fleet.wait_until_announced(published)
        wait_until(lambda: len(fleet.said("dead-letter")) >= len(hopeless), 60, "the dead letters", 0.1)
        wait_until(lambda: outcomes(traces) == expected or None, 30, "that all handlers are through", 0.2)
        account = fault_table.add("handlers raise", fleet.close_account(published))
        dead = fleet.said("dead-letter")
        reader = StoreReader(fleet.config.store, fleet.node_id)
        reader.connect()
        letters = reader.latest("dead_letters", 10_000)
        retries_left = reader.counts().retries
        reader.close()

    assert_guarantee(account)
    assert outcomes(traces) == expected
    assert {(line["handler"], line["event_id"]) for line in dead} == {
        (f"tests.support.fault_handlers.{handler}", event_id)
        for (handler, event_id), attempts in expected.items()
        if attempts == ["raised"] * ATTEMPTS
    }
    assert retries_left == 0
    assert len(letters) == KEPT
    letter = next(letter for letter in letters if letter["handler"].endswith(".hopeless"))
    assert letter["error"] == "LookupError: this never works ?"
    assert letter["attempts"] == ATTEMPTS
    assert "fault_handlers.py" in letter["traceback"]
    assert letter["event"]["id"] in hopeless
    assert letter["event"]["type"] == "task-revoked"


def test_a_handler_that_takes_longer_than_the_lease_is_called_once(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given three instances, when a handler works for three times as long as the lease, then its instance keeps the
    lease, the others go on, and it is called once
    """
    (traces := tmp_path / "traces").mkdir()
    settings = {"handlers": {"modules": ["tests.support.fault_handlers"]}}
    with Fleet(tmp_path, broker_url, store_url, settings=settings, env={VARIABLE: str(traces)}).start() as fleet:
        slow = message(fresh_event(SLOW, seconds=3 * fleet.config.store.lease))
        rest = list(replicate(read_stream("small"), 1, start=time.time()))
        publish(broker_url, [slow, *rest])
        account = fault_table.add("a handler of three leases", fleet.close_account(Published([slow, *rest])))
        called = [outcome for (handler, _), all_ in outcomes(traces).items() if handler == "slow" for outcome in all_]

    assert_guarantee(account)
    assert called == ["done"]
    assert fleet.said("lease-lost") == []
    assert fleet.said("outbox-taken-over") == []


@pytest.mark.long
def test_a_handler_that_outlasts_the_consumer_timeout(
    *, tmp_path: Path, own_rabbitmq: PrivateRabbitMQ, store_url: str, fault_table: FaultTable
) -> None:
    """given a RabbitMQ that closes a channel on which a message waits for its acknowledgement for too long, when a
    handler works for longer, then nothing is lost, and no line comes twice
    """
    (traces := tmp_path / "traces").mkdir()
    settings = {"handlers": {"modules": ["tests.support.fault_handlers"]}}
    own_rabbitmq.evaluate(
        "[application:set_env(rabbit, Name, 1000) || Name <- [consumer_timeout, channel_tick_interval]]."
    )
    url = own_rabbitmq.url()
    with Fleet(tmp_path, url, store_url, settings=settings, env={VARIABLE: str(traces)}).start() as fleet:
        slow = message(fresh_event(SLOW, seconds=8.0))
        rest = list(replicate(read_stream("small"), 1, start=time.time()))
        publish(url, [slow, *rest])
        account = fault_table.add("RabbitMQ: consumer_timeout", fleet.close_account(Published([slow, *rest])))
        called = [outcome for (handler, _), all_ in outcomes(traces).items() if handler == "slow" for outcome in all_]
        closed = "timed out" in own_rabbitmq.output()

    assert_guarantee(account)
    assert called == ["done"]
    assert closed, own_rabbitmq.output()[-1000:]


def test_after_an_unexpected_error_the_others_do_the_rest(
    tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """given two instances, when one ends by an error of its own amid its handlers, then it says so, and the other calls
    the handlers of all that it had merged
    """
    (traces := tmp_path / "traces").mkdir()
    published = Published(messages := list(replicate(read_stream("small"), 1, start=time.time())))
    settings = {"handlers": {"modules": ["tests.support.fault_handlers"], "attempts": ATTEMPTS, "backoff": 0.1}}
    expected = expected_outcomes(published)
    with Fleet(tmp_path, broker_url, store_url, size=2, settings=settings, env={VARIABLE: str(traces)}) as fleet:
        broken, other = fleet.instances
        broken.start(launcher=("tests.support.crash_points", UNEXPECTED, "20"))
        other.start()
        fleet.wait_until_consuming()
        publish(broker_url, messages)
        assert broken.process.wait(60) == ExitStatus.SOFTWARE
        broken.start()
        wait_until(lambda: outcomes(traces).keys() == expected.keys(), 60, "that all handlers are called", 0.2)
        account = fault_table.add("an unexpected error", fleet.close_account(published))
        (crashed,) = fleet.said("instance-crashed")

    assert_guarantee(account, may_double=True)
    assert "nobody expects this" in crashed["exception"]


def expected_outcomes(published: Published) -> dict[tuple[str, str], list[str]]:
    """What must come of each attempt, by handler and event."""
    expected: dict[tuple[str, str], list[str]] = {}
    for event_id, event in published.events.items():
        if event["type"] in ENDS:
            expected["steady", event_id] = ["done"]
            attempts = expected["sometimes", event_id] = []
            while len(attempts) < ATTEMPTS and "done" not in attempts:
                attempts.append("raised" if raises(event_id, len(attempts) + 1) else "done")
        elif event["type"] == "task-revoked":
            expected["hopeless", event_id] = ["raised"] * ATTEMPTS
    return expected


def outcomes(traces: Path) -> dict[tuple[str, str], list[str]]:
    """What came of each attempt, by handler and event."""
    return {key: [call.outcome for call in found] for key, found in calls(traces).items()}
