"""What becomes of a handler that is to be called again."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import Handlers as Settings
from ha_monitor.events.model import Event
from ha_monitor.events.redact import Redactor
from ha_monitor.outputs.handler_calls import ABSENT_BACKOFF, ABSENT_FOR, HandlerCalls, Outcome
from ha_monitor.outputs.handlers import Handler, Handlers
from ha_monitor.outputs.line import Identity
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.record import Facts, TaskRecord
from tests.unit.builders import TIME, UUID, TurnedClock


def handler_calls(
    clock: TurnedClock, said: list[str], handlers: Sequence[Handler] = (), attempts: int = 5
) -> HandlerCalls:
    def say(event: str, **_fields: Any) -> None:
        said.append(event)

    logger = SimpleNamespace(warning=say, error=say)
    identity = Identity("shop", "1", "host", 1)
    settings = Settings(attempts=attempts)
    return HandlerCalls(Handlers(handlers, Redactor([], 1000)), settings, identity, logger, clock)


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


@pytest.mark.parametrize("attempts", [5, 1], ids=["a retry", "a dead letter"])
def test_what_a_handler_does_to_its_event_is_nobody_elses(attempts: int) -> None:
    """Given a handler that takes fields out of its event, puts an object in, and raises, the next one gets what was
    sent, and so does whoever is called again.
    """
    got: list[tuple[dict[str, Any], str | None]] = []

    def rude(event: Event, _task: TaskRecord) -> None:
        event.fields.pop("exception")
        event.fields["data"]["list"].append(object())
        raise ValueError("x")

    def polite(event: Event, task: TaskRecord) -> None:
        got.append((event.fields, task.exception))

    fields = {"exception": "KeyError()", "data": {"list": [1]}}
    event = Event("task-failed", "0" * 24, "", TIME, UUID, fields)
    handlers = [Handler(f"alerts.{one.__name__}", frozenset({"*"}), one) for one in (rude, polite)]
    outcome = Outcome()

    handler_calls(TurnedClock(), [], handlers, attempts).call(OutboxItem(0, Entry(0, event, Facts(), False)), outcome)

    sent = {"exception": "KeyError()", "data": {"list": [1]}}
    assert got == [(sent, "KeyError()")]
    kept = [msgspec.msgpack.decode(entry, type=Entry).event.fields for _delay, entry in outcome.retries]
    kept += [msgspec.json.decode(letter)["event"]["fields"] for letter in outcome.dead_letters]
    assert kept == [sent]
