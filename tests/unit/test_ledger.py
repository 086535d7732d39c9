"""The ledger of the fault and fleet tests sees each trouble, also where the monitor's own event ids hide it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ha_monitor.outputs.line import iso_time
from tests.fleet.load import Truth
from tests.support import ledger
from tests.support.ledger import Account, Published, assert_guarantee, balance, balance_after
from tests.support.recording import Recorded
from tests.unit.builders import TIME, event

FIRST = event("task-failed", at=TIME)
SECOND = event("task-failed", at=TIME + 1)
"""The ends of two attempts of one task."""


def line(body: dict[str, Any], event_id: str) -> dict[str, Any]:
    """The line of an event."""
    return {
        "timestamp": "2026-11-25T06:00:00.000000Z",
        "level": "error",
        "event": body["type"],
        "node_id": "shop",
        "instance": "1",
        "host": "mon1",
        "pid": 1,
        "event_id": event_id * 24,
        "event_time": iso_time(body["timestamp"]),
        "worker": body["hostname"],
        "task_id": body["uuid"],
        "task_name": "shop.pay",
        "retries": 0,
        "exception": body["exception"],
    }


def message(body: dict[str, Any]) -> Recorded:
    """A message with one event."""
    return Recorded("task", "application/json", "utf-8", json.dumps(body))


def account(bodies: Sequence[dict[str, Any]], lines: list[dict[str, Any]]) -> Account:
    published = Published()
    for body in bodies:
        published.add_event(body)
    assert published.missing(lines) == balance(published, lines).lost
    assert published.are_in(lines) == (published.missing(lines) == 0)
    return balance(published, lines)


def test_each_event_has_its_line() -> None:
    """Given a line for each of two attempts, one of which was delivered twice, the guarantee was kept."""
    found = account([FIRST, SECOND, dict(SECOND)], [line(FIRST, "a"), line(SECOND, "b")])

    assert (found.published, found.announced, found.bad) == (2, 2, [])
    assert_guarantee(found)


@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        ([line(FIRST, "a")], "lost"),
        ([line(FIRST, "a"), line(SECOND, "b"), line(SECOND, "b")], "doubled"),
        ([line(FIRST, "a"), line(SECOND, "b"), line(SECOND, "c")], "renamed"),
        ([line(FIRST, "a"), line(SECOND, "b"), line(event("task-retried"), "c")], "renamed"),
        ([line(FIRST, "a"), line(SECOND, "a")], "shared"),
    ],
)
def test_each_trouble_is_counted(lines: list[dict[str, Any]], trouble: str) -> None:
    """Given lines that break the guarantee in one way, that trouble is counted, once, and no other one is."""
    found = account([FIRST, SECOND], lines)

    troubles = ("lost", "doubled", "renamed", "shared", "nameless")
    assert {name: getattr(found, name) for name in troubles} == dict.fromkeys(troubles, 0) | {trouble: 1}
    with pytest.raises(AssertionError):
        assert_guarantee(found)


def test_a_failure_says_first_what_is_wrong_and_who_did_it() -> None:
    """Given a line that is repeated, the first words of the failure are the counts, and then comes what the instances
    said of it; the events are named with those who wrote their lines."""
    again = {**line(SECOND, "b"), "instance": "2", "pid": 7, "recovered": True}
    lines = [line(FIRST, "a"), line(SECOND, "b"), again]

    with pytest.raises(AssertionError) as failed:
        assert_guarantee(account([FIRST, SECOND], lines))

    text = str(failed.value)
    assert text.startswith("{'published': 2, 'announced': 2, 'doubled': 1}, said {}, away 0.0, bad [], examples ")
    at = line(SECOND, "b")["timestamp"]
    assert f"by 1[1] at {at}, 2[7] at {at} (recovered)" in text


def test_two_events_that_fall_on_one_id_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an id that leaves the attempt out, by which the monitor takes the second attempt's end for the first one's
    and announces it once, the second one is lost: the ids themselves would say that all is there.
    """
    monkeypatch.setattr(ledger, "event_id", lambda body, _time: f"{body['uuid']}{body['type']}".encode())
    found = account([FIRST, SECOND], [line(FIRST, "a")])

    assert (found.published, found.lost) == (2, 1)
    assert "task-failed" in found.examples["lost"][0]


@pytest.mark.parametrize("line_of_second", [[], [line(SECOND, "a")]])
def test_two_events_of_two_rows_that_fall_on_one_id_are_seen(
    monkeypatch: pytest.MonkeyPatch, line_of_second: list[dict[str, Any]]
) -> None:
    """Given the truth of the tests of the fleet, which counts after each thing that is done to it, and a second event
    that falls on the id of the first one, which was counted before, the second one is lost: with no line, and with one
    that carries the first one's id.
    """
    monkeypatch.setattr(ledger, "event_id", lambda _body, _time: bytes.fromhex("a" * 24))
    truth = Truth("amqp://localhost/")
    truth.add(message(FIRST))
    counted = truth.published()
    truth.add(message(SECOND))
    truth.add(message(FIRST))

    left = truth.published().without(counted)
    found = balance_after(counted, left, [line(FIRST, "a"), *line_of_second])

    assert (len(truth.published()), len(left)) == (2, 1)
    assert (found.published, found.lost) == (1, 1)


def test_a_line_of_an_earlier_row_with_another_id_is_seen() -> None:
    """Given an event that was counted before and is announced again under another id, that is counted."""
    earlier, published = Published([message(FIRST)]), Published([message(SECOND)])
    again = line(FIRST, "c")

    assert earlier.knows(again)
    assert not published.knows(again)
    assert balance_after(earlier, published, [line(SECOND, "b"), again]).renamed == 1


def test_two_events_of_one_moment_are_two() -> None:
    """Given two events that differ in the sender's clock alone, each must have its line."""
    twin = {**FIRST, "clock": 987_654_321}

    assert account([FIRST, twin], [line(FIRST, "a"), line(twin, "b")]).lost == 0
    assert account([FIRST, twin], [line(FIRST, "a")]).lost == 1
