"""The states of docs/states.md, row by row, by the real scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ha_monitor.events.catalogue import State
from tests.integration.storing import Inside, Instance
from tests.unit.builders import TIME, UUID, event

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/states.md"
TYPES = {"requeued": "task-rejected", "custom": "task-custom"}
_EVENT = re.compile(r"(?P<name>[a-z]+)(?: \(retry (?P<retries>\d+)\))?")


class Row(NamedTuple):
    """One row of the document."""

    title: str
    events: list[dict[str, Any]]
    state: str
    retries: int
    runs: int


def rows() -> Iterator[Row]:
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[3].isdigit():
            events = [parsed(text.strip(), TIME + number) for number, text in enumerate(cells[1].split(","))]
            yield Row(cells[0], events, cells[2], int(cells[3]), int(cells[4]))


def parsed(text: str, at: float) -> dict[str, Any]:
    match = _EVENT.fullmatch(text)
    assert match is not None, text
    name = match["name"]
    changes: dict[str, Any] = {"requeue": name == "requeued"} if name in ("requeued", "rejected") else {}
    if match["retries"]:
        changes["retries"] = int(match["retries"])
    return event(TYPES.get(name, f"task-{name}"), at=at, **changes)


ROWS = list(rows())


def orders(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Orders of arrival of the same events."""
    return {
        "in order": events,
        "backwards": events[::-1],
        "ends first": sorted(events, key=lambda body: body["type"] < "task-s"),
        "every one twice": [*events, *events[::-1]],
        "second half first": events[len(events) // 2 :] + events[: len(events) // 2],
    }


def test_the_document_has_all_states() -> None:
    """Given the document, its tables are found, and every state has rows."""
    assert len(ROWS) >= 38
    assert {row.state for row in ROWS} == set(State)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_state_is_as_documented_whatever_the_order(store_url: str, row: Row) -> None:
    """Given the events of a row in any order of arrival, one message each, the record says what the row says."""
    instance, inside = Instance(store_url).start(), Inside(store_url)

    for order, events in orders(row.events).items():
        inside.redis.delete(inside.keys.task(UUID))
        for body in events:
            instance.apply(body)
        task = inside.task(UUID)
        assert (task.state, task.retries, task.runs) == (row.state, row.retries, row.runs), order
