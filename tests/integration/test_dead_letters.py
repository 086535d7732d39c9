"""`ha-monitor dead-letters` over a real Redis: what a handler failed at is listed, tried again, or dropped."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from ha_monitor import Event
from ha_monitor.cli.main import main
from ha_monitor.config.schema import Handlers as Settings
from ha_monitor.events.redact import Redactor
from ha_monitor.outputs.handler_calls import HandlerCalls, Outcome
from ha_monitor.outputs.handlers import Handler, Handlers
from ha_monitor.outputs.line import Identity
from ha_monitor.store.dead_letters import letter_id
from tests.integration.storing import NODE, Inside, Instance
from tests.support.rights import as_monitor
from tests.unit.builders import UUID, event

ASK = ("dead-letters",)
HOSTILE = "down \x1b[2J\u202e"


class Fleet:
    """An instance with a handler that works or fails."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.error: str | None = HOSTILE
        self.called: list[Event] = []
        self.said: list[dict[str, Any]] = []
        handler = Handler("alerts.mail", frozenset({"task-failed"}), self._mail)
        self._calls = HandlerCalls(
            Handlers([handler], Redactor([], 1000)),
            Settings(attempts=1),
            Identity(NODE, "1", "host", 1),
            SimpleNamespace(error=lambda what, **fields: self.said.append({"event": what, **fields})),
            instance.clock,
        )

    def _mail(self, event: Event, _task: Any) -> None:
        self.called.append(event)
        if self.error is not None:
            raise ConnectionError(self.error)

    def announce(self) -> None:
        """Call the handlers for all that is to be announced."""
        items, self.instance.emitted = self.instance.emitted, []
        for item in items:
            outcome = Outcome()
            self._calls.call(item, outcome)
            dead = outcome.dead_letters
            self.instance.store.record_outcome(item.sequence + 1, outcome.retries, dead, 10)

    def fail(self, *tasks: str) -> None:
        """Have the handler fail at the failures of tasks."""
        for task in tasks:
            failed = event("task-failed", uuid=task, exception="ValueError('x')", traceback="ValueError: x")
            merged = self.instance.apply(event("task-received", uuid=task), failed, announce=False)
            self.instance.emitted += [*merged.items, *self.instance.tick(announce=False).items]
            self.announce()


@pytest.fixture
def fleet(one: Instance, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("HA_MONITOR_STORE_URL", as_monitor(store_url))
    monkeypatch.setenv("HA_MONITOR_NODE_ID", NODE)
    return Fleet(one)


def test_a_dead_letter_is_listed_shown_and_called_again(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a handler that gave up, its call is listed and shown with the traceback; --retry has it called again with
    the same event and all its attempts, and the letter is gone."""
    fleet.fail(UUID)
    ((said),) = fleet.said

    assert main([*ASK, "-o", "json"]) == 0
    (letter,) = json.loads(capsys.readouterr().out)["items"]
    assert letter["id"] == said["letter"] == letter_id("alerts.mail", fleet.called[0].id)
    assert (letter["handler"], letter["attempts"], letter["event"]["task_id"]) == ("alerts.mail", 1, UUID)
    assert letter["task"]["state"] == "FAILURE"

    assert main([*ASK, letter["id"][:4]]) == 0
    shown = capsys.readouterr().out
    assert "alerts.mail" in shown
    assert "Traceback (most recent call last)" in shown
    assert r"ConnectionError: down \x1b[2J\u202e" in shown
    assert "\x1b" not in shown

    fleet.error = None
    assert main([*ASK, letter["id"], "--retry"]) == 0
    assert re.fullmatch(
        rf"{letter['id']}: will be called again: alerts\.mail for task-failed {fleet.called[0].id}\n",
        capsys.readouterr().err,
    )
    fleet.instance.emitted += fleet.instance.tick(announce=False).items
    fleet.announce()

    assert fleet.called[0] == fleet.called[1]
    assert main([*ASK, "--fail-if-any"]) == 0
    assert capsys.readouterr().err == "no dead letters. Searched: all dead letters that are kept. Complete.\n"


def test_what_fails_again_is_a_dead_letter_again(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a handler that still fails, its call is a dead letter once more, of the same id."""
    fleet.fail(UUID)
    assert main([*ASK, "-o", "ids"]) == 0
    before = capsys.readouterr().out
    main([*ASK, before.strip(), "--retry"])
    fleet.instance.emitted += fleet.instance.tick(announce=False).items
    fleet.announce()
    capsys.readouterr()

    assert main([*ASK, "-o", "ids"]) == 0
    assert capsys.readouterr().out == before
    assert len(fleet.called) == 2


def test_one_of_several_is_dropped(fleet: Fleet, inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    """Given several, --drop forgets those that are named, and calls nothing; which are none is said, with status 1."""
    fleet.fail("a", "b", "c")
    main([*ASK, "-o", "ids"])
    newest, *others = capsys.readouterr().out.split()

    assert main([*ASK, newest, newest[:6], "zz", "--drop"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ha-monitor: zz: no dead letter has this id, and none begins so",
        f"{newest}: dropped: alerts.mail for task-failed {fleet.called[2].id}",
    ]
    assert main([*ASK, "-o", "ids"]) == 0
    assert capsys.readouterr().out.split() == others
    assert inside.redis.zcard(inside.keys.retries) == 0
    assert main([*ASK, "--drop"]) == 64
    assert "name the dead letters" in capsys.readouterr().err


def test_what_cannot_be_tried_again_can_be_dropped(
    fleet: Fleet, inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a letter of an earlier version and something that is none, both are listed, not tried, and dropped."""
    fleet.fail(UUID)
    old = json.loads(inside.redis.lindex(inside.keys.dead_letters, 0))
    del old["entry"]
    inside.redis.delete(inside.keys.dead_letters)
    inside.redis.lpush(inside.keys.dead_letters, json.dumps(old), b"\xff\x00", b'{"handler": 1}', b"[]")

    assert main([*ASK, "-o", "ids"]) == 0
    ids = capsys.readouterr().out.split()
    assert len(ids) == 4
    assert main([*ASK, *ids, "--retry"]) == 1
    assert capsys.readouterr().err.count("cannot be tried again") == 4
    assert inside.redis.llen(inside.keys.dead_letters) == 4
    assert main([*ASK, *ids]) == 0
    assert main([*ASK, *ids, "--drop"]) == 0
    assert inside.redis.exists(inside.keys.dead_letters, inside.keys.retries) == 0
