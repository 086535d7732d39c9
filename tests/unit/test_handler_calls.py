"""What becomes of a handler that is to be called again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import Handlers as Settings
from ha_monitor.events.model import Event
from ha_monitor.events.redact import Redactor
from ha_monitor.outputs.handler_calls import ABSENT_BACKOFF, ABSENT_FOR, HandlerCalls, Outcome
from ha_monitor.outputs.handlers import Handlers
from ha_monitor.outputs.line import Identity
from ha_monitor.store.outbox import Entry, OutboxItem
from tests.unit.builders import TIME, UUID, TurnedClock


def handler_calls(clock: TurnedClock, said: list[str]) -> HandlerCalls:
    def say(event: str, **_fields: Any) -> None:
        said.append(event)

    logger = SimpleNamespace(warning=say, error=say)
    identity = Identity("shop", "1", "host", 1)
    return HandlerCalls(Handlers([], Redactor([], 1000)), Settings(), identity, logger, clock)


@pytest.mark.parametrize(("age", "given_up"), [(10.0, False), (ABSENT_FOR - 1, False), (ABSENT_FOR + 1, True)])
def test_a_handler_that_only_other_instances_have_is_left_to_them(age: float, given_up: bool) -> None:
    """Given a retry at an instance without that handler, as in the middle of a rollout, it goes back to the list and
    counts for nothing; after an hour it is given up."""
    said: list[str] = []
    item = OutboxItem(0, Entry(1, Event("task-failed", "0" * 24, "", TIME, UUID), None, False, "alerts.mail", 2))
    outcome = Outcome()

    handler_calls(TurnedClock(now=age), said).call(item, outcome)

    if given_up:
        assert outcome.retries == []
        assert [msgspec.json.decode(letter)["handler"] for letter in outcome.dead_letters] == ["alerts.mail"]
        assert said == ["dead-letter"]
    else:
        ((delay, entry),) = outcome.retries
        assert delay == ABSENT_BACKOFF * 1000
        assert msgspec.msgpack.decode(entry, type=Entry) == item.entry
        assert (outcome.dead_letters, said) == ([], [])
    assert outcome.failures == 0
